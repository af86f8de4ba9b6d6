"""One subscription over a plain websocket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.client import ClientConnection

from tests.service import Service, receive

UPDATES = """
subscription ($filter: StackUpdateFilter) {
  stackUpdatesChanged(filter: $filter) {
    __typename
    ... on StackUpdatesReady { at }
    ... on StackUpdatesChange { matches stackUpdate { id revision status cloudResource { name } } }
  }
}"""
RESOURCES = """
subscription ($filter: CloudResourceFilter) {
  cloudResourcesChanged(filter: $filter) {
    __typename
    ... on CloudResourcesReady { at }
    ... on CloudResourceChange { matches cloudResource { id kind name manifest latestStackUpdate { id status } } }
    ... on CloudResourceDeleted { id kind name deletedAt }
  }
}"""


@dataclass
class Subscription:
    """A subscription that has been asked for; each push is the one field of its data."""

    socket: ClientConnection

    async def push(self) -> dict[str, Any]:
        message = await receive(self.socket)
        assert message["type"] == "next", message
        assert "errors" not in message["payload"], message
        (push,) = message["payload"]["data"].values()
        assert isinstance(push, dict)
        return push

    async def pushes_until(self, key: str, value: object, inside: str) -> list[dict[str, Any]]:
        """The pushes up to the one whose record, under ``inside``, has the value at the key."""
        pushes = [await self.push()]
        while pushes[-1].get(inside, {}).get(key) != value:
            pushes.append(await self.push())
        return pushes


@asynccontextmanager
async def subscribed(service: Service, query: str, **variables: Any) -> AsyncIterator[Subscription]:
    """The subscription, asked for; its first push is not read yet."""
    async with service.websocket() as socket:
        payload = {"query": query, "variables": variables}
        await socket.send(json.dumps({"type": "subscribe", "id": "1", "payload": payload}))
        yield Subscription(socket)
