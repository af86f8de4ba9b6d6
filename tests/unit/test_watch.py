"""Watching one stack update, or all changes: what a watcher is shown, when, and that nothing is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import cast

import pytest

from graphql_api.adapters import open_backends
from graphql_api.adapters.in_process import InProcessWakeups
from graphql_api.domain.errors import StackUpdateNotFound, StoreUnavailable
from graphql_api.domain.ports import UPDATES_TOPIC, ResourceStore, UpdateHistory, UpdateStore
from graphql_api.domain.records import (
    Ending,
    Failure,
    FailureKind,
    StackUpdate,
    StackUpdateId,
    new_id,
    utc_now,
)
from graphql_api.service.feed import BATCH, OVERLAP, READ_INTERVAL, REREAD_INTERVAL, Feed, Ready, Version
from graphql_api.service.queue import FRESH, Queue
from graphql_api.service.watch import PUSH_INTERVAL, Watch
from runners.lease import Lease
from runners.log import Log
from runners.record import Record
from tests.builders import MANIFEST, a_claim, a_stack_update
from tests.unit import virtual_time

PUSH, REREAD = PUSH_INTERVAL.total_seconds(), REREAD_INTERVAL.total_seconds()
FAILURE = Failure(FailureKind.INTERNAL, "It failed.")
SECOND = timedelta(seconds=1)


async def nothing() -> None:
    """What happens after a read of a store that nobody else writes to."""


@dataclass
class Stage:
    """A stack update, those who change it, and one who watches it; itself the store that the watcher reads."""

    updates: UpdateStore
    history: UpdateHistory
    wakeups: InProcessWakeups
    update: StackUpdate = field(default_factory=a_stack_update)
    after_read: Callable[[], Awaitable[None]] = nothing
    lags_behind_at: StackUpdate | None = None
    away: bool = False
    reads: int = 0
    shown: list[tuple[float, int]] = field(default_factory=list)

    def watch(self) -> Watch:
        updates, resources = cast("UpdateStore", self), cast("ResourceStore", None)  # which only feeds read
        queue = Queue(self.history, max_concurrent=1, at_work=tuple, served=tuple)
        return Watch(updates, self.history, resources, self.wakeups, queue)

    async def change(self, changed: StackUpdate, *, announced: bool = True) -> None:
        await self.updates.save(changed)
        self.update = changed
        if announced:
            await self.announce(changed)

    async def announce(self, changed: StackUpdate) -> None:
        for topic in (changed.id, UPDATES_TOPIC):
            await self.wakeups.announce(topic)

    async def look(self) -> None:
        """Watch to the end, noting when which revision was shown."""
        clock = asyncio.get_running_loop().time
        began = clock()
        async for update in self.watch().stack_update(self.update.id):
            self.shown.append((round(clock() - began, 6), update.revision))

    async def get(self, id_: StackUpdateId) -> StackUpdate | None:
        self.reads += 1
        if self.away:
            raise StoreUnavailable("The database did not answer.")
        found = await self.updates.get(id_)
        await self.after_read()
        return self.lags_behind_at or found


@asynccontextmanager
async def a_stage() -> AsyncIterator[Stage]:
    async with open_backends("sqlite:///:memory:") as backends:
        stage = Stage(backends.updates, backends.history, InProcessWakeups())
        await stage.updates.insert(stage.update, MANIFEST)
        yield stage
        assert stage.wakeups.topics == frozenset()
        assert len(asyncio.all_tasks()) == 1


def test_a_watcher_sees_the_update_as_it_is_and_then_each_change() -> None:
    """The snapshot comes at once, every change at once, in order, and the end ends it."""

    async def scenario() -> None:
        async with a_stage() as stage:
            looking = asyncio.create_task(stage.look())
            await asyncio.sleep(10 * PUSH)
            await stage.change(stage.update.started(utc_now()))
            await asyncio.sleep(10 * PUSH)
            await stage.change(stage.update.running(utc_now()))
            await asyncio.sleep(10 * PUSH)
            await stage.change(stage.update.succeeded(utc_now(), Ending(0)))
            await looking
            assert stage.shown == [(0, 1), (10 * PUSH, 2), (20 * PUSH, 3), (30 * PUSH, 4)]

    virtual_time.run(scenario)


def test_a_watcher_who_comes_late_sees_the_end_and_nothing_else() -> None:
    """An update that has ended is shown once, and that is all."""

    async def scenario() -> None:
        async with a_stage() as stage:
            await stage.change(stage.update.failed(utc_now(), FAILURE))
            await stage.look()
            assert stage.shown == [(0, 2)]

    virtual_time.run(scenario)


def test_changes_in_quick_succession_come_as_one() -> None:
    """At most one push in each interval, with the newest of what happened in it."""

    async def scenario() -> None:
        async with a_stage() as stage:
            looking = asyncio.create_task(stage.look())
            await asyncio.sleep(PUSH / 4)
            await stage.change(stage.update.started(utc_now()))
            await asyncio.sleep(PUSH / 4)
            await stage.change(stage.update.running(utc_now()))
            await asyncio.sleep(10 * PUSH)
            assert stage.shown == [(0, 1), (PUSH, 3)]
            await stage.change(stage.update.succeeded(utc_now(), Ending(0)))
            await looking

    virtual_time.run(scenario)


def test_the_end_is_never_held_back() -> None:
    """However soon after the last push, the outcome is shown the moment it is known."""

    async def scenario() -> None:
        async with a_stage() as stage:
            looking = asyncio.create_task(stage.look())
            await asyncio.sleep(PUSH / 4)
            await stage.change(stage.update.started(utc_now()))
            await asyncio.sleep(PUSH / 4)
            await stage.change(stage.update.failed(utc_now(), FAILURE))
            await looking
            assert stage.shown == [(0, 1), (PUSH / 2, 3)]

    virtual_time.run(scenario)


def test_an_announcement_without_a_change_shows_nothing() -> None:
    """Doubled and empty announcements are harmless: no revision is shown twice."""

    async def scenario() -> None:
        async with a_stage() as stage:
            looking = asyncio.create_task(stage.look())
            for _ in range(20):
                await asyncio.sleep(PUSH)
                await stage.announce(stage.update)
            await stage.change(stage.update.failed(utc_now(), FAILURE))
            await looking
            assert [revision for _, revision in stage.shown] == [1, 2]

    virtual_time.run(scenario)


def test_an_older_revision_is_never_shown_after_a_newer_one() -> None:
    """A store whose replica lags behind for a moment does not make a watcher go back in time."""

    async def scenario() -> None:
        async with a_stage() as stage:
            stale = stage.update
            await stage.change(stage.update.started(utc_now()))
            looking = asyncio.create_task(stage.look())
            await asyncio.sleep(2 * PUSH)
            stage.lags_behind_at = stale
            await asyncio.sleep(3 * REREAD)
            stage.lags_behind_at = None
            await stage.change(stage.update.failed(utc_now(), FAILURE))
            await looking
            assert [revision for _, revision in stage.shown] == [2, 3]

    virtual_time.run(scenario)


def test_a_lost_announcement_is_found_by_reading_again() -> None:
    """What nobody announced is shown within the interval in which every listener re-reads."""

    async def scenario() -> None:
        async with a_stage() as stage:
            looking = asyncio.create_task(stage.look())
            await asyncio.sleep(2.5 * REREAD)
            await stage.change(stage.update.started(utc_now()), announced=False)
            await asyncio.sleep(2 * REREAD)
            await stage.change(stage.update.failed(utc_now(), FAILURE), announced=False)
            await looking
            assert stage.shown == [(0, 1), (3 * REREAD, 2), (5 * REREAD, 3)]

    virtual_time.run(scenario)


def test_a_change_between_the_read_and_the_wait_is_not_missed() -> None:
    """The watcher listens before it reads: what is announced in between wakes it at once."""

    async def scenario() -> None:
        async with a_stage() as stage:

            async def ends_meanwhile() -> None:
                stage.after_read = nothing
                await stage.change(stage.update.failed(utc_now(), FAILURE))

            stage.after_read = ends_meanwhile
            await stage.look()
            assert stage.shown == [(0, 1), (0, 2)]

    virtual_time.run(scenario)


def test_a_quiet_update_is_read_once_an_interval() -> None:
    """Waiting costs one read a second, not a busy loop."""

    async def scenario() -> None:
        async with a_stage() as stage:
            looking = asyncio.create_task(stage.look())
            await asyncio.sleep(100 * REREAD + PUSH)
            assert stage.reads == pytest.approx(101, abs=2)
            await stage.change(stage.update.failed(utc_now(), FAILURE))
            await looking

    virtual_time.run(scenario)


def test_a_watcher_waits_for_a_store_that_is_away() -> None:
    """At the beginning as later: what the update became meanwhile is shown when the store is back."""

    async def scenario() -> None:
        async with a_stage() as stage:
            stage.away = True
            looking = asyncio.create_task(stage.look())
            await asyncio.sleep(10.5 * REREAD)
            stage.away = False
            await asyncio.sleep(REREAD)
            assert stage.shown == [(11 * REREAD, 1)]
            stage.away = True
            await stage.change(stage.update.started(utc_now()))
            await stage.change(stage.update.failed(utc_now(), FAILURE))
            await asyncio.sleep(3600)
            assert stage.reads < 3700
            stage.away = False
            await asyncio.sleep(2 * REREAD)
            await looking
            assert [revision for _, revision in stage.shown] == [1, 3]

    virtual_time.run(scenario)


def test_a_watcher_can_leave_while_the_store_is_away() -> None:
    """Waiting for the store holds nobody back."""

    async def scenario() -> None:
        async with a_stage() as stage:
            stage.away = True
            looking = asyncio.create_task(stage.look())
            await asyncio.sleep(10 * REREAD)
            looking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await looking

    virtual_time.run(scenario)


def test_an_unknown_update_is_refused() -> None:
    """Watching what was never there raises, and leaves no listener."""

    async def scenario() -> None:
        async with a_stage() as stage:
            unknown = StackUpdateId(new_id(utc_now()))
            with pytest.raises(StackUpdateNotFound, match=unknown):
                await anext(stage.watch().stack_update(unknown))

    virtual_time.run(scenario)


def test_a_watcher_who_leaves_is_forgotten() -> None:
    """Closing the stream at its first item, or cancelling it while it waits, leaves no listener and no task."""

    async def scenario() -> None:
        async with a_stage() as stage:
            stream = stage.watch().stack_update(stage.update.id)
            assert (await anext(stream)).revision == 1
            assert stage.wakeups.topics == {stage.update.id, UPDATES_TOPIC}
            await stream.aclose()
            assert stage.wakeups.topics == frozenset()

            looking = asyncio.create_task(stage.look())
            await asyncio.sleep(REREAD / 2)
            await stage.change(stage.update.started(utc_now()))
            await asyncio.sleep(REREAD / 2)
            assert stage.wakeups.topics == {stage.update.id}
            looking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await looking

    virtual_time.run(scenario)


def test_many_watchers_see_the_same_and_one_who_leaves_disturbs_nobody() -> None:
    """Each watcher has a stream of its own."""

    async def scenario() -> None:
        async with a_stage() as stage:
            others = [Stage(stage.updates, stage.history, stage.wakeups, stage.update) for _ in range(10)]
            looking = [asyncio.create_task(other.look()) for other in others]
            await asyncio.sleep(PUSH)
            looking[0].cancel()
            await asyncio.sleep(PUSH)
            await stage.change(stage.update.failed(utc_now(), FAILURE))
            await asyncio.gather(*looking, return_exceptions=True)
            assert others[0].shown == [(0, 1)]
            assert all(other.shown == [(0, 1), (2 * PUSH, 2)] for other in others[1:])

    virtual_time.run(scenario)


def test_a_slow_watcher_gets_the_newest_only() -> None:
    """Who takes long over one item is not shown all that happened meanwhile, only how it stands."""

    async def scenario() -> None:
        async with a_stage() as stage:
            stream = stage.watch().stack_update(stage.update.id)
            assert (await anext(stream)).revision == 1
            await stage.change(stage.update.started(utc_now()))
            await stage.change(stage.update.running(utc_now()))
            await stage.change(stage.update.failed(utc_now(), FAILURE))
            assert [update.revision async for update in stream] == [4]

    virtual_time.run(scenario)


def test_a_queued_update_is_shown_again_when_its_place_changes() -> None:
    """What goes on before it in the queue is shown soon after, as long as it is queued, though it is as it was."""

    async def scenario() -> None:
        async with a_stage() as stage:
            before = a_stack_update(created_at=stage.update.created_at - SECOND)
            await stage.updates.insert(before, MANIFEST)
            looking = asyncio.create_task(stage.look())
            await asyncio.sleep(2.5 * REREAD)
            assert stage.shown == [(0, 1)]
            await stage.updates.save(before.failed(utc_now(), FAILURE))
            await stage.announce(before)
            await asyncio.sleep(10 * PUSH)
            assert stage.shown == [(0, 1), (2.5 * REREAD + FRESH.total_seconds(), 1)]
            await stage.change(stage.update.started(utc_now()))
            await asyncio.sleep(10 * PUSH)
            await stage.updates.insert(a_stack_update(created_at=before.created_at), MANIFEST)
            await stage.announce(before)
            await asyncio.sleep(10 * PUSH)
            assert [revision for _, revision in stage.shown] == [1, 1, 2]
            await stage.change(stage.update.failed(utc_now(), FAILURE))
            await looking

    virtual_time.run(scenario)


def test_much_that_happens_in_the_queue_is_looked_at_five_times_a_second() -> None:
    """Neither the store nor the watcher notices how often others change; the update's own change is shown at once."""

    async def scenario() -> None:
        async with a_stage() as stage:
            looking = asyncio.create_task(stage.look())
            for _ in range(500):
                await stage.updates.insert(a_stack_update(created_at=stage.update.created_at - SECOND), MANIFEST)
                await stage.wakeups.announce(UPDATES_TOPIC)
                await asyncio.sleep(0.01)
            assert 10 < len(stage.shown) <= stage.reads <= 26
            await stage.wakeups.announce(UPDATES_TOPIC)
            await stage.change(stage.update.failed(utc_now(), FAILURE))
            assert await virtual_time.elapsed(looking) == 0
            assert [revision for _, revision in stage.shown[-2:]] == [1, 2]

    virtual_time.run(scenario)


# --- feeds of all changes

TOPIC = "changes"


@dataclass
class Store:
    """What a store says has changed: names and moments; and one who listens to the feed of it."""

    wakeups: InProcessWakeups = field(default_factory=InProcessWakeups)
    changes: list[tuple[datetime, str]] = field(default_factory=list)
    away: bool = False
    reads: int = 0
    heard: list[str] = field(default_factory=list)
    now: datetime = field(default_factory=utc_now)

    async def changed_since(self, moment: datetime, limit: int) -> Sequence[tuple[datetime, str]]:
        self.reads += 1
        if self.away:
            raise StoreUnavailable("The database did not answer.")
        return sorted(change for change in self.changes if change[0] >= moment)[:limit]

    async def change(self, *names: str, at: datetime | None = None, announced: bool = True) -> None:
        self.changes += [(at or self.now, name) for name in names]
        if announced:
            await self.wakeups.announce(TOPIC)

    def feed(self) -> Feed[tuple[datetime, str]]:
        return Feed(self.wakeups, TOPIC, self.changed_since, lambda change: Version(change, change[0]))

    async def listen(self) -> None:
        async with aclosing(self.feed().follow()) as changes:
            async for change in changes:
                self.heard.append("ready" if isinstance(change, Ready) else change[1])


@asynccontextmanager
async def a_store(*before: str) -> AsyncIterator[Store]:
    """A store with some changes, and somebody who has begun to listen."""
    store = Store()
    await store.change(*before)
    listening = asyncio.create_task(store.listen())
    await asyncio.sleep(REREAD / 2)
    try:
        yield store
    finally:
        listening.cancel()
        await asyncio.wait([listening])
    assert store.wakeups.topics == frozenset()
    assert len(asyncio.all_tasks()) == 1


def test_a_feed_begins_with_ready_and_brings_each_change_once() -> None:
    """What was there before is not brought, what comes is brought at once, and looking again brings nothing again."""

    async def scenario() -> None:
        async with a_store("old") as store:
            assert store.heard == ["ready"]
            await store.change("a")
            await asyncio.sleep(0)
            await asyncio.sleep(READ_INTERVAL.total_seconds())
            assert store.heard == ["ready", "a"]
            await asyncio.sleep(30 * REREAD)
            await store.change("b", announced=False)
            await asyncio.sleep(REREAD)
            assert store.heard == ["ready", "a", "b"]

    virtual_time.run(scenario)


def test_a_change_that_shows_late_is_not_missed() -> None:
    """One that was made before others and became visible after them is brought, up to the overlap behind them."""

    async def scenario() -> None:
        async with a_store() as store:
            await store.change("later", at=store.now + 5 * SECOND)
            await asyncio.sleep(REREAD)
            store.now += 5 * SECOND
            await store.change("late", at=store.now - OVERLAP + SECOND / 1000)
            await asyncio.sleep(REREAD)
            assert store.heard == ["ready", "later", "late"]

    virtual_time.run(scenario)


def test_changes_that_share_a_moment_are_all_brought() -> None:
    """Even more of them than one read brings, once each, and those after them too."""

    async def scenario() -> None:
        async with a_store() as store:
            names = [f"{number:04}" for number in range(5 * BATCH)]
            await store.change(*names)
            await store.change("after", at=store.now + SECOND)
            await asyncio.sleep(3 * REREAD)
            assert store.heard == ["ready", *names, "after"]

    virtual_time.run(scenario)


def test_more_changes_before_than_one_read_brings_are_all_old() -> None:
    """Ready comes only when all that was there has been seen."""

    async def scenario() -> None:
        async with a_store(*map(str, range(3 * BATCH))) as store:
            await asyncio.sleep(3 * REREAD)
            assert store.heard == ["ready"]

    virtual_time.run(scenario)


def test_a_feed_waits_for_a_store_that_is_away() -> None:
    """However long it is away; what was changed by then comes, once, and the listener notices nothing."""

    async def scenario() -> None:
        async with a_store() as store:
            store.away = True
            await store.change("meanwhile")
            await asyncio.sleep(3600)
            assert store.heard == ["ready"]
            store.away = False
            await asyncio.sleep(2 * REREAD)
            assert store.heard == ["ready", "meanwhile"]

    virtual_time.run(scenario)


def test_a_feed_of_a_store_that_is_away_begins_when_it_is_back() -> None:
    """Ready means that the store has been looked at: until then the listener waits."""

    async def scenario() -> None:
        store = Store(away=True)
        await store.change("old")
        listening = asyncio.create_task(store.listen())
        await asyncio.sleep(3600)
        assert (store.heard, listening.done()) == ([], False)
        assert store.reads < 3700
        store.away = False
        await asyncio.sleep(2 * REREAD)
        await store.change("new")
        await asyncio.sleep(2 * REREAD)
        assert store.heard == ["ready", "new"]
        listening.cancel()
        await asyncio.wait([listening])
        assert store.wakeups.topics == frozenset()

    virtual_time.run(scenario)


def test_a_change_dated_in_the_future_does_not_hide_the_present() -> None:
    """After a clock that was ahead has been set right, what changes now is brought as before."""

    async def scenario() -> None:
        async with a_store() as store:
            await store.change("ahead", at=store.now + timedelta(days=365))
            await asyncio.sleep(REREAD)
            await store.change("now")
            await asyncio.sleep(30 * REREAD)
            assert store.heard == ["ready", "ahead", "now"]

    virtual_time.run(scenario)


def test_a_feed_reads_no_more_than_it_has_to() -> None:
    """Five times a second while there is much to hear, once a second while there is nothing."""

    async def scenario() -> None:
        async with a_store() as store:
            before = store.reads
            for number in range(1000):
                store.changes = store.changes[-50:]
                await store.change(str(number))
                await asyncio.sleep(0.01)
            assert store.reads - before == pytest.approx(50, abs=2)
            before = store.reads
            await asyncio.sleep(100 * REREAD)
            assert store.reads - before == pytest.approx(100, abs=2)
            assert len(store.heard) == 1001

    virtual_time.run(scenario)


def test_whoever_changes_a_stack_update_announces_it_to_the_feed() -> None:
    """A worker's change wakes those who watch all stack updates, as it wakes those who watch this one."""

    async def scenario() -> None:
        async with a_stage() as stage, open_backends("sqlite:///:memory:") as logs:
            lease = Lease(a_claim())
            log = Log(stage.update, lease, logs.events, stage.wakeups, limit=1000)
            record = Record(stage.update, lease, stage.updates, stage.wakeups, log)
            async with stage.wakeups.listen(UPDATES_TOPIC) as all_of_them, stage.wakeups.listen(stage.update.id) as one:
                await record.change(StackUpdate.started)
                assert await virtual_time.elapsed(all_of_them.wait()) == 0
                assert await virtual_time.elapsed(one.wait()) == 0

    virtual_time.run(scenario)


def test_nothing_is_read_for_a_listener_who_takes_long() -> None:
    """Nothing piles up: a slow listener is served when it comes back, with what there is then."""

    async def scenario() -> None:
        store = Store()
        async with aclosing(store.feed().follow()) as changes:
            assert isinstance(await anext(changes), Ready)
            before = store.reads
            for number in range(100):
                await store.change(str(number))
                await asyncio.sleep(REREAD)
            assert store.reads == before
            store.changes = store.changes[-1:]
            assert await anext(changes) == store.changes[0]
        assert store.wakeups.topics == frozenset()

    virtual_time.run(scenario)
