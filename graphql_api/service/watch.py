"""Watching: one stack update until it has ended, or all that changes among stack updates or cloud resources."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta

from graphql_api.domain.errors import StackUpdateNotFound
from graphql_api.domain.ports import (
    RESOURCES_TOPIC,
    UPDATES_TOPIC,
    CloudResourceFilter,
    DeletedResource,
    ResourceStore,
    StackUpdateFilter,
    UpdateHistory,
    UpdateStore,
    Wakeup,
    Wakeups,
)
from graphql_api.domain.records import CloudResource, Phase, StackUpdate, StackUpdateId, Status
from graphql_api.service.feed import REREAD_INTERVAL, Feed, Ready, Version
from graphql_api.service.patience import patiently
from graphql_api.service.queue import FRESH, Queue, QueuePlace

#: At most five pushes a second to one watcher; the last is never held back.
PUSH_INTERVAL = timedelta(milliseconds=200)


@dataclass(frozen=True, slots=True)
class UpdateChanged:
    """A stack update as it is now. ``matches`` is False when the filter took it before this change and no longer."""

    update: StackUpdate
    matches: bool


class Watch:
    """Follows records for as many watchers as there are. When the store is away, watchers wait for it, however long."""

    def __init__(
        self, updates: UpdateStore, history: UpdateHistory, resources: ResourceStore, wakeups: Wakeups, queue: Queue
    ) -> None:
        self._updates = updates
        self._history = history
        self._resources = resources
        self._wakeups = wakeups
        self._queue = queue

    async def stack_update(self, id_: StackUpdateId) -> AsyncGenerator[StackUpdate, None]:
        """The update as it is now, then as it changes, each revision newer than the one before; ends when it has.

        While it is queued it comes also when its place in the queue changes. Changes that follow each other within
        PUSH_INTERVAL come as one. Raises StackUpdateNotFound.
        """
        pushes = _Pushes(asyncio.get_running_loop().time)
        async with self._wakeups.listen(id_) as wakeup:
            async with self._wakeups.listen(UPDATES_TOPIC) as others:
                while (update := await self._existing(id_)).phase is Phase.QUEUED:
                    if pushes.due(update, await self._place(update)):
                        yield update
                    await _either(wakeup, others, pushes.limit)
            while True:
                if pushes.due(update):
                    yield update
                if update.ended:
                    return
                await wakeup.wait(pushes.limit)
                update = await self._existing(id_)

    async def _existing(self, id_: StackUpdateId) -> StackUpdate:
        """The update as it is. Raises StackUpdateNotFound."""
        update = await patiently(f"the stack update {id_}", lambda: self._updates.get(id_))
        if update is None:
            raise StackUpdateNotFound(id_)
        return update

    async def _place(self, update: StackUpdate) -> QueuePlace | None:
        return await patiently(f"the queue for {update.id}", lambda: self._queue.place(update))

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


class _Pushes:
    """What one watcher was pushed last, and when it may be pushed the next; ``clock`` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._revision = 0
        self._place: object = None
        self._next = 0.0
        self._held_back = False

    def due(self, update: StackUpdate, place: QueuePlace | None = None) -> bool:
        """Whether to push it now. What is new and not due is held back, but never the end."""
        shown = place and (place.position, place.reason, place.blocked_by and place.blocked_by.id)
        moved = shown is not None and shown != self._place
        new = update.revision > self._revision or (update.revision == self._revision and moved)
        self._held_back = new and not update.ended and self._clock() < self._next
        if not new or self._held_back:
            return False
        self._revision, self._place = update.revision, shown
        self._next = self._clock() + PUSH_INTERVAL.total_seconds()
        return True

    @property
    def limit(self) -> timedelta:
        """How long to wait at most before looking again."""
        return timedelta(seconds=max(self._next - self._clock(), 0)) if self._held_back else REREAD_INTERVAL


async def _either(wakeup: Wakeup, others: Wakeup, limit: timedelta) -> None:
    """Wait until the one wakes, or until a look at the queue is due that shows what others have announced."""

    async def wait_for_others() -> None:
        await others.wait(limit)
        await asyncio.sleep(FRESH.total_seconds())

    waits = [asyncio.create_task(wait, name="watch the queue") for wait in (wakeup.wait(limit), wait_for_others())]
    try:
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.wait(waits)
    for wait in done:
        wait.result()


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
