"""A client that follows one log, over all reconnections, as often as it or the service goes away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from random import Random
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

from tests.service import Service, receive

EVENTS = """
subscription ($id: ID!, $after: Int!) {
  stackUpdateEvents(id: $id, after: $after) {
    __typename
    ... on StackUpdateEventBatch {
      seq finished
      events {
        __typename seq at
        ... on StatusChanged { status phase }
        ... on LogLine { stream text truncated }
        ... on ResourceChanged { resource { name type operation state startedAt endedAt } }
        ... on DiagnosticReported { severity message urn }
        ... on CancellationChanged { cancellation { requestedAt reason stage nextStageAt lockLeft } }
        ... on DeadlineApproaching { deadline }
        ... on DeadlineChanged { deadline }
        ... on OwnerChanged { epoch }
      }
    }
    ... on UserError { message code }
  }
}"""
#: Between two tries to reach a service that is away, in seconds.
PAUSE = 0.05

_GONE = (OSError, EOFError, ConnectionClosed, InvalidHandshake, InvalidMessage, TimeoutError)


class Watcher:
    """Follows a stack update's log to its end. ``random`` has it leave and come back now and then; None never."""

    def __init__(self, service: Callable[[], Service], update_id: str, random: Random | None = None) -> None:
        self._service = service
        self.id = update_id
        self._random = random
        self.events: list[dict[str, Any]] = []
        self.problems: list[str] = []
        self.finished = False

    async def follow(self) -> None:
        """Read until the log has ended, or something was wrong."""
        while not (self.finished or self.problems):
            try:
                async with asyncio.timeout(self._stay()):
                    await self._subscribe()
            except _GONE:
                await asyncio.sleep(PAUSE)

    def _stay(self) -> float | None:
        """How many seconds it follows before it leaves; None until the end."""
        return self._random.choice((None, self._random.uniform(0.02, 1))) if self._random else None

    async def _subscribe(self) -> None:
        async with self._service().websocket() as socket:
            payload = {"query": EVENTS, "variables": {"id": self.id, "after": len(self.events)}}
            await socket.send(json.dumps({"type": "subscribe", "id": "1", "payload": payload}))
            while (message := await receive(socket))["type"] == "next":
                self._take(message["payload"])
            if message["type"] != "complete" or not self.finished:
                self.problems.append(f"a watcher was told {message} after {len(self.events)} events")

    def _take(self, payload: dict[str, Any]) -> None:
        if "errors" in payload or payload["data"]["stackUpdateEvents"]["__typename"] != "StackUpdateEventBatch":
            self.problems.append(f"a watcher that had {len(self.events)} events was told {payload}")
            return
        batch = payload["data"]["stackUpdateEvents"]
        seqs = [event["seq"] for event in batch["events"]]
        expected = list(range(len(self.events) + 1, len(self.events) + len(seqs) + 1))
        if seqs != expected or batch["seq"] != len(self.events) + len(seqs):
            self.problems.append(f"a watcher that had {len(self.events)} events got {seqs[:3]} to {batch['seq']}")
        self.events.extend(batch["events"])
        self.finished = batch["finished"]
