"""Watching: one stack update until it has ended, or all that changes among stack updates or cloud resources."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

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
from graphql_api.service.feed import Feed, Ready, Version
from graphql_api.service.patience import REREAD_INTERVAL, patiently
from graphql_api.service.queue import FRESH, Queue, QueuePlace
from graphql_api.service.sharing import Fresh, Shared, Source, Sources

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
        self._watched: Sources[StackUpdateId, _WatchedUpdate] = Sources(
            "watch a stack update", lambda id_: _WatchedUpdate(id_, updates, wakeups, queue)
        )
        self._updates: Sources[str, Feed[StackUpdate]] = Sources(
            "watch all stack updates", lambda topic: Feed(wakeups, topic, history.changed_since, _update_version)
        )
        self._resources: Sources[str, Feed[CloudResource | DeletedResource]] = Sources(
            "watch all cloud resources", lambda topic: Feed(wakeups, topic, resources.changed_since, _resource_version)
        )

    async def stack_update(self, id_: StackUpdateId) -> AsyncGenerator[Shared[StackUpdate], None]:
        """The update as it is now, then as it changes, each revision newer than the one before; ends when it has.

        While it is queued it comes also when its place in the queue changes. Changes that follow each other within
        PUSH_INTERVAL come as one. Raises StackUpdateNotFound.
        """
        async with self._watched.join(id_) as watched:
            version = await watched.look()
            while True:
                yield version
                if version.value.ended:
                    return
                version = await watched.newer(version)

    async def stack_updates(self, where: StackUpdateFilter) -> AsyncGenerator[Shared[Ready | UpdateChanged], None]:
        """Ready, then every change of a stack update that the filter takes, or took until this change; without end."""
        async with (
            self._updates.join(UPDATES_TOPIC) as feed,
            aclosing(feed.follow(lambda update: _concerns(update, where))) as changes,
        ):
            async for change in changes:
                update = change.value
                matches = isinstance(update, Ready) or where.statuses is None or update.status in where.statuses
                yield change.made(_matching if matches else _leaving)

    async def cloud_resources(
        self, where: CloudResourceFilter
    ) -> AsyncGenerator[Shared[Ready | CloudResource | DeletedResource], None]:
        """Ready, then every cloud resource that the filter takes as it is created, changed or deleted; without end."""
        async with (
            self._resources.join(RESOURCES_TOPIC) as feed,
            aclosing(feed.follow(lambda change: _takes(where, change))) as changes,
        ):
            async for change in changes:
                yield change


class _Version(Shared[StackUpdate]):
    """A stack update as it was read; the ``number`` grows with every change of it, or of its place in the queue."""

    __slots__ = ("number",)

    def __init__(self, update: StackUpdate, number: int) -> None:
        super().__init__(update)
        self.number = number


class _WatchedUpdate(Source):
    """One stack update, for all who watch it: each begins with a look of its own, and all are pushed what is new."""

    def __init__(self, id_: StackUpdateId, updates: UpdateStore, wakeups: Wakeups, queue: Queue) -> None:
        super().__init__()
        self._id = id_
        self._updates = updates
        self._wakeups = wakeups
        self._queue = queue
        self._look = Fresh[_Version]()
        self._newest: _Version | None = None
        self._place: object = None
        self._pushed: _Version | None = None
        self._next_push = 0.0

    async def run(self) -> None:
        """Look after each announcement or the interval, and while the update is queued also when others change."""
        async with self._wakeups.listen(self._id) as wakeup:
            async with self._wakeups.listen(UPDATES_TOPIC) as others:
                self.begin()
                await self.wanted()
                while self._newest and self._newest.value.phase is Phase.QUEUED:
                    await _either(wakeup, others, self._limit)
                    await self.look()
                    await self.wanted()
            while not (self._pushed and self._pushed.value.ended):
                await wakeup.wait(self._limit)
                await self.look()
                await self.wanted()

    async def look(self) -> _Version:
        """The update as it is now: another object after each read, since what else an answer shows is of now, too.

        Raises StackUpdateNotFound.
        """
        return await self._look.get(self._read)

    async def newer(self, version: _Version) -> _Version:
        """What is pushed after this version, as soon as there is something."""
        while self._pushed is None or self._pushed.number <= version.number:
            await self.moved()
        return self._pushed

    async def _read(self) -> _Version:
        """Read the update, and push it when it is new and a push is due."""
        update = await patiently(f"the stack update {self._id}", partial(self._updates.get, self._id))
        if update is None:
            raise StackUpdateNotFound(self._id)
        place = await patiently(f"the queue for {self._id}", partial(self._queue.place, update))
        self._newest = version = self._numbered(update, place)
        if self._pushed is None or (version.number > self._pushed.number and (self._is_due or version.value.ended)):
            self._pushed = version
            self._next_push = _clock() + PUSH_INTERVAL.total_seconds()
            self.wake()
        return version

    def _numbered(self, update: StackUpdate, place: QueuePlace | None) -> _Version:
        """This, or the newest where it is older: a store's replica may lag behind."""
        shown = place and (place.position, place.reason, place.blocked_by and place.blocked_by.id)
        if (newest := self._newest) is None:
            self._place = shown
            return _Version(update, 1)
        if update.revision < newest.value.revision:
            return _Version(newest.value, newest.number)
        moved = shown is not None and shown != self._place
        if update.revision == newest.value.revision and not moved:
            return _Version(update, newest.number)
        self._place = shown
        return _Version(update, newest.number + 1)

    @property
    def _is_due(self) -> bool:
        return _clock() >= self._next_push

    @property
    def _limit(self) -> timedelta:
        """How long to wait at most before looking again: until what was held back may be pushed."""
        held_back = self._newest and self._pushed and self._newest.number > self._pushed.number
        return timedelta(seconds=max(self._next_push - _clock(), 0)) if held_back else REREAD_INTERVAL


def _clock() -> float:
    return asyncio.get_running_loop().time()


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


def _changed(change: Ready | StackUpdate, *, matches: bool) -> Shared[Ready | UpdateChanged]:
    return Shared(change if isinstance(change, Ready) else UpdateChanged(change, matches))


#: What watchers share of a change: it differs only in whether their filters take it now.
_matching, _leaving = partial(_changed, matches=True), partial(_changed, matches=False)


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


def _takes(where: CloudResourceFilter, change: CloudResource | DeletedResource) -> bool:
    resource = change.resource if isinstance(change, DeletedResource) else change
    return where.kind in (None, resource.kind) and where.name in (None, resource.name)


def _update_version(update: StackUpdate) -> Version:
    return Version((update.id, update.revision), update.updated_at)


def _resource_version(change: CloudResource | DeletedResource) -> Version:
    if isinstance(change, DeletedResource):
        return Version((change.resource.id, "deleted"), change.deleted_at)
    return Version((change.id, hash(change)), change.updated_at)
