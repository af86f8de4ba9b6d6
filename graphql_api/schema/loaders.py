"""Loaders: what the items of a page ask for one by one is asked of the store together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from strawberry.dataloader import DataLoader

from graphql_api.domain.records import CloudResource, CloudResourceId, StackUpdate
from graphql_api.service import Services


class Loaders:
    """Gather what is asked for in one turn of the event loop. Nothing is remembered after the answer.

    A websocket keeps one context, and with it these, for all its operations: a cache would show old records.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self.cloud_resource = DataLoader[CloudResourceId, CloudResource | None](self._cloud_resources, cache=False)
        self.latest_stack_update = DataLoader[CloudResourceId, StackUpdate | None](self._latest, cache=False)

    async def _cloud_resources(self, ids: Sequence[CloudResourceId]) -> list[CloudResource | BaseException | None]:
        distinct = list(dict.fromkeys(ids))
        found = await asyncio.gather(*map(self._services.resources.get, distinct))
        by_id = dict(zip(distinct, found, strict=True))
        return [by_id[id_] for id_ in ids]

    async def _latest(self, ids: Sequence[CloudResourceId]) -> list[StackUpdate | BaseException | None]:
        found = await self._services.updates.latest(frozenset(ids))
        return [found.get(id_) for id_ in ids]
