"""Watching: one stack update until it has ended, or all that changes among stack updates or cloud resources."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta

from graphql_api.domain.errors import StackUpdateNotFound, StoreUnavailable
from graphql_api.domain.ports import (
    RESOURCES_TOPIC,
    UPDATES_TOPIC,
    CloudResourceFilter,
    DeletedResource,
    ResourceStore,
    StackUpdateFilter,
    UpdateHistory,
    UpdateStore,
    Wakeups,
)
from graphql_api.domain.records import CloudResource, StackUpdate, StackUpdateId, Status
from graphql_api.service.feed import REREAD_INTERVAL, Feed, Ready, Version

#: At most five pushes a second to one watcher; the last is never held back.
PUSH_INTERVAL = timedelta(milliseconds=200)

_log = logging.getLogger("stackcast.watch")


@dataclass(frozen=True, slots=True)
class UpdateChanged:
    """A stack update as it is now. ``matches`` is False when the filter took it before this change and no longer."""

    update: StackUpdate
    matches: bool


class Watch:
    """Follows records for as many watchers as there are. When the store is away, watchers wait for it, however long."""

    def __init__(
        self, updates: UpdateStore, history: UpdateHistory, resources: ResourceStore, wakeups: Wakeups
    ) -> None:
        self._updates = updates
        self._history = history
        self._resources = resources
        self._wakeups = wakeups

    async def stack_update(self, id_: StackUpdateId) -> AsyncGenerator[StackUpdate, None]:
        """The update as it is now, then as it changes, each revision newer than the one before; ends when it has.

        Changes that follow each other within PUSH_INTERVAL come as one. Raises StackUpdateNotFound.
        """
        clock = asyncio.get_running_loop().time
        interval = PUSH_INTERVAL.total_seconds()
        seen, next_push = 0, 0.0
        async with self._wakeups.listen(id_) as wakeup:
            while True:
                update = await self._existing(id_)
                held_back = update.revision > seen and not update.ended and clock() < next_push
                if update.revision > seen and not held_back:
                    yield update
                    seen, next_push = update.revision, clock() + interval
                if update.ended:
                    return
                limit = timedelta(seconds=max(next_push - clock(), 0)) if held_back else REREAD_INTERVAL
                await wakeup.wait(limit)

    async def _existing(self, id_: StackUpdateId) -> StackUpdate:
        """The update as it is as soon as the store answers. Raises StackUpdateNotFound."""
        while True:
            try:
                update = await self._updates.get(id_)
            except StoreUnavailable as error:
                _log.warning("watching the stack update %s: %s", id_, error)
                await asyncio.sleep(REREAD_INTERVAL.total_seconds())
                continue
            if update is None:
                raise StackUpdateNotFound(id_)
            return update

    async def stack_updates(self, where: StackUpdateFilter) -> AsyncGenerator[Ready | UpdateChanged, None]:
        """Ready, then every change of a stack update that the filter takes, or took until this change; without end."""
        feed = Feed(
            self._wakeups,
            UPDATES_TOPIC,
            self._history.changed_since,
            lambda update: Version((update.id, update.revision), update.updated_at),
        )
        async with aclosing(feed.follow()) as changes:
            async for change in changes:
                if isinstance(change, Ready):
                    yield change
                elif _concerns(change, where):
                    yield UpdateChanged(change, where.statuses is None or change.status in where.statuses)

    async def cloud_resources(
        self, where: CloudResourceFilter
    ) -> AsyncGenerator[Ready | CloudResource | DeletedResource, None]:
        """Ready, then every cloud resource that the filter takes as it is created, changed or deleted; without end."""
        feed = Feed(self._wakeups, RESOURCES_TOPIC, self._resources.changed_since, _resource_version)
        async with aclosing(feed.follow()) as changes:
            async for change in changes:
                if isinstance(change, Ready):
                    yield change
                    continue
                resource = change.resource if isinstance(change, DeletedResource) else change
                if where.kind in (None, resource.kind) and where.name in (None, resource.name):
                    yield change


def _concerns(update: StackUpdate, where: StackUpdateFilter) -> bool:
    """Whether the filter takes the update, or took it before it ended: nothing but the status ever changes."""
    may_have_been = {update.status, Status.IN_PROGRESS}
    return (
        (where.statuses is None or not where.statuses.isdisjoint(may_have_been))
        and where.cloud_resource_id in (None, update.cloud_resource_id)
        and (where.operations is None or update.operation in where.operations)
        and where.stack_fqdn in (None, update.stack_fqdn)
        and (where.created_after is None or update.created_at > where.created_after)
        and (where.created_before is None or update.created_at < where.created_before)
    )


def _resource_version(change: CloudResource | DeletedResource) -> Version:
    if isinstance(change, DeletedResource):
        return Version((change.resource.id, "deleted"), change.deleted_at)
    return Version((change.id, hash(change)), change.updated_at)
