"""Watching one stack update, or all changes: what a watcher is shown, when, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar, cast

import pytest

from graphql_api.adapters import open_backends
from graphql_api.adapters.in_process import InProcessWakeups
from graphql_api.domain.errors import StackUpdateNotFound, StoreUnavailable
from graphql_api.domain.ports import UPDATES_TOPIC, ResourceStore, StackUpdateFilter, UpdateHistory, UpdateStore
from graphql_api.domain.records import (
    Ending,
    Failure,
    FailureKind,
    StackUpdate,
    StackUpdateId,
    Status,
    new_id,
    utc_now,
)
from graphql_api.service.feed import BATCH, HELD, OVERLAP, READ_INTERVAL, Feed, Ready, Version
from graphql_api.service.patience import REREAD_INTERVAL
from graphql_api.service.queue import FRESH, Queue
from graphql_api.service.sharing import Shared, Sources
from graphql_api.service.watch import PUSH_INTERVAL, UpdateChanged, Watch
from runners.lease import Lease
from runners.log import Log
from runners.record import Record
from tests.builders import MANIFEST, a_claim, a_stack_update
from tests.unit import virtual_time

PUSH, REREAD = PUSH_INTERVAL.total_seconds(), REREAD_INTERVAL.total_seconds()
FAILURE = Failure(FailureKind.INTERNAL, "It failed.")
SECOND = timedelta(seconds=1)
T = TypeVar("T")


async def nothing() -> None:
    """What happens after a read of a store that nobody else writes to."""


async def take(stream: AsyncIterator[T], to: list[T]) -> None:
    async for one in stream:
        to.append(one)  # noqa: PERF401 (each as it comes)


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

    def __post_init__(self) -> None:
        updates, resources = cast("UpdateStore", self), cast("ResourceStore", None)  # which only feeds read
        queue = Queue(self.history, max_concurrent=1, at_work=tuple, served=tuple)
        self.watch = Watch(updates, self.history, resources, self.wakeups, queue)

    async def change(self, changed: StackUpdate, *, announced: bool = True) -> None:
        await self.updates.save(changed)
        self.update = changed
        if announced:
            await self.announce(changed)

    async def announce(self, changed: StackUpdate) -> None:
        for topic in (changed.id, UPDATES_TOPIC):
            await self.wakeups.announce(topic)

    async def look(self, shown: list[tuple[float, int]] | None = None) -> None:
        """Watch to the end, noting when which revision was shown."""
        clock = asyncio.get_running_loop().time
        began = clock()
        shown = self.shown if shown is None else shown
        async for update in self.watch.stack_update(self.update.id):
            shown.append((round(clock() - began, 6), update.value.revision))

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
            async with aclosing(stage.watch.stack_update(stale.id)) as joining:
                assert (await anext(joining)).value.revision == 2
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
                await anext(stage.watch.stack_update(unknown))

    virtual_time.run(scenario)


def test_a_watcher_who_leaves_is_forgotten() -> None:
    """Closing the stream at its first item, or cancelling it while it waits, leaves no listener and no task."""

    async def scenario() -> None:
        async with a_stage() as stage:
            stream = stage.watch.stack_update(stage.update.id)
            assert (await anext(stream)).value.revision == 1
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
    """They share what is read, and nothing else."""

    async def scenario() -> None:
        async with a_stage() as stage:
            shown: list[list[tuple[float, int]]] = [[] for _ in range(10)]
            looking = [asyncio.create_task(stage.look(each)) for each in shown]
            await asyncio.sleep(PUSH)
            looking[0].cancel()
            await asyncio.sleep(PUSH)
            await stage.change(stage.update.failed(utc_now(), FAILURE))
            await asyncio.gather(*looking, return_exceptions=True)
            assert shown == [[(0, 1)]] + 9 * [[(0, 1), (2 * PUSH, 2)]]

    virtual_time.run(scenario)


def test_watchers_of_one_update_share_each_read_and_each_push() -> None:
    """A hundred cost one read a second and one for each change; all are pushed the same object."""

    async def scenario() -> None:
        async with a_stage() as stage:
            await stage.change(stage.update.started(utc_now()))
            pushed: list[list[Shared[StackUpdate]]] = [[] for _ in range(100)]
            async with asyncio.TaskGroup() as tasks:
                for shown in pushed:
                    tasks.create_task(take(stage.watch.stack_update(stage.update.id), shown))
                await asyncio.sleep(0)
                await asyncio.sleep(100 * REREAD + PUSH)
                assert stage.reads == pytest.approx(102, abs=2)
                await stage.change(stage.update.running(utc_now()))
                await asyncio.sleep(PUSH)
                await stage.change(stage.update.failed(utc_now(), FAILURE))
            assert stage.reads == pytest.approx(104, abs=2)
            assert len({tuple(map(id, shown[1:])) for shown in pushed}) == 1
            assert [update.value.revision for update in pushed[0]] == [2, 3, 4]

    virtual_time.run(scenario)


def test_who_joins_is_shown_the_update_as_it_is_then() -> None:
    """Though others watch it already, and nobody has announced the change, or it is held back from them as yet."""

    async def scenario() -> None:
        async with a_stage() as stage:
            looking = asyncio.create_task(stage.look())
            await asyncio.sleep(2.5 * REREAD)
            await stage.change(stage.update.started(utc_now()), announced=False)
            stream = stage.watch.stack_update(stage.update.id)
            assert await virtual_time.elapsed(anext(stream)) == 0
            await stage.change(stage.update.running(utc_now()))
            late = stage.watch.stack_update(stage.update.id)
            assert (await anext(late)).value.revision == 3
            assert (await anext(stream)).value.revision == 3
            await asyncio.sleep(0)
            assert stage.shown == [(0, 1), (2.5 * REREAD, 2), (2.5 * REREAD + PUSH, 3)]
            for each in (stream, late):
                await each.aclose()
            await stage.change(stage.update.failed(utc_now(), FAILURE))
            await looking

    virtual_time.run(scenario)


def test_who_joins_later_is_shown_what_else_has_changed() -> None:
    """The object is another one than others were given long ago: what is answered of it may be out of date."""

    async def scenario() -> None:
        async with a_stage() as stage:
            first, second = (stage.watch.stack_update(stage.update.id) for _ in range(2))
            shown = await anext(first)
            await asyncio.sleep(REREAD)
            assert await anext(second) is not shown
            for each in (first, second):
                await each.aclose()

    virtual_time.run(scenario)


def test_what_breaks_the_shared_reader_is_told_to_all_watchers() -> None:
    """An update that is forgotten while it is watched, for example: nobody is left waiting."""

    async def scenario() -> None:
        async with a_stage() as stage:
            watchers = [asyncio.create_task(stage.look([])) for _ in range(10)]
            await asyncio.sleep(REREAD / 2)

            async def forgotten() -> None:
                raise StackUpdateNotFound(stage.update.id)

            stage.after_read = forgotten
            await asyncio.wait(watchers)
            assert [type(watcher.exception()) for watcher in watchers] == [StackUpdateNotFound] * 10

    virtual_time.run(scenario)


def test_a_slow_watcher_gets_the_newest_only() -> None:
    """Who takes long over one item is not shown all that happened meanwhile, only how it stands."""

    async def scenario() -> None:
        async with a_stage() as stage:
            stream = stage.watch.stack_update(stage.update.id)
            assert (await anext(stream)).value.revision == 1
            await stage.change(stage.update.started(utc_now()))
            await stage.change(stage.update.running(utc_now()))
            await stage.change(stage.update.failed(utc_now(), FAILURE))
            assert [update.value.revision async for update in stream] == [4]

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

    def __post_init__(self) -> None:
        self._feeds: Sources[str, Feed[tuple[datetime, str]]] = Sources("feed", self.feed)

    def feed(self, topic: str) -> Feed[tuple[datetime, str]]:
        return Feed(self.wakeups, topic, self.changed_since, lambda it: Version(it, it[0]), lambda: self.now)

    async def follow(self) -> AsyncGenerator[Shared[Ready | tuple[datetime, str]], None]:
        async with self._feeds.join(TOPIC) as feed, aclosing(feed.follow(lambda _: True)) as changes:
            async for change in changes:
                yield change

    async def listen(self) -> None:
        async with aclosing(self.follow()) as changes:
            async for change in changes:
                self.heard.append(name(change))


def name(change: Shared[Ready | tuple[datetime, str]]) -> str:
    return "ready" if isinstance(change.value, Ready) else change.value[1]


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
        async with aclosing(store.follow()) as changes:
            assert name(await anext(changes)) == "ready"
            before = store.reads
            for number in range(100):
                await store.change(str(number))
                await asyncio.sleep(REREAD)
            assert store.reads == before
            store.changes = store.changes[-1:]
            assert name(await anext(changes)) == "99"
        assert store.wakeups.topics == frozenset()

    virtual_time.run(scenario)


def test_listeners_share_each_read_and_each_change() -> None:
    """A hundred cost what one costs; all are given the same objects, and each begins with Ready."""

    async def scenario() -> None:
        async with a_store("old") as store:
            heard: list[list[Shared[Ready | tuple[datetime, str]]]] = [[] for _ in range(100)]
            listening = [asyncio.create_task(take(store.follow(), each)) for each in heard]
            await asyncio.sleep(REREAD)
            before = store.reads
            await asyncio.sleep(100 * REREAD)
            assert store.reads - before == pytest.approx(100, abs=2)
            await store.change("a", "b")
            await asyncio.sleep(REREAD)
            assert {tuple(map(name, each)) for each in heard} == {("ready", "a", "b")}
            assert len({tuple(map(id, each[1:])) for each in heard}) == 1
            for task in listening:
                task.cancel()
            await asyncio.wait(listening)

    virtual_time.run(scenario)


def test_a_listener_who_joins_others_gets_what_changes_after_its_ready() -> None:
    """Not what was there before, though the others have not seen it yet; and all after it, announced or not."""

    async def scenario() -> None:
        async with a_store() as store:
            await store.change("before", announced=False)
            async with aclosing(store.follow()) as changes:
                assert name(await anext(changes)) == "ready"
                await store.change("after", announced=False)
                assert name(await anext(changes)) == "after"
            await asyncio.sleep(0)
            assert store.heard == ["ready", "before", "after"]

    virtual_time.run(scenario)


def test_a_listener_who_is_far_behind_the_others_misses_nothing() -> None:
    """More has gone by than is held: it reads on its own from where it was, then joins them again."""

    async def scenario() -> None:
        async with a_store() as store, aclosing(store.follow()) as changes:
            assert name(await anext(changes)) == "ready"
            numbers = [f"{number:04}" for number in range(8 * HELD)]

            async def pass_on(first: int, end: int) -> None:
                for number in numbers[first:end]:
                    store.now += SECOND / 10
                    await store.change(number)
                    await asyncio.sleep(0.1)
                await asyncio.sleep(REREAD)

            async def taken(number: int) -> list[str]:
                return [name(await anext(changes)) for _ in range(number)]

            first, second, last_seen = HELD, 4 * HELD, 8 * HELD
            again = 10 * OVERLAP // SECOND + 1  # of what was made shortly before its place, some comes again
            await pass_on(0, first)
            assert await taken(first) == numbers[:first]
            for place, end in ((first, second), (second, last_seen)):
                await pass_on(place, end)
                assert await taken(end - place + again) == numbers[place - again : end]
            assert store.heard == ["ready", *numbers]
            async with aclosing(store.follow()) as others:
                assert name(await anext(others)) == "ready"
                await store.change("last", at=store.now + SECOND)
                last = await anext(changes)
                assert (name(last), await anext(others)) == ("last", last)

    virtual_time.run(scenario)


def test_what_is_held_for_listeners_is_bounded() -> None:
    """However far one is behind: HELD changes, and with the listeners all goes."""

    async def scenario() -> None:
        store = Store()
        fast, slow = store.follow(), store.follow()
        await anext(slow)
        await anext(fast)
        passed = []
        for number in range(2 * HELD):
            store.changes.clear()
            await store.change(str(number))
            passed.append(weakref.ref(await anext(fast)))
        assert sum(change() is not None for change in passed) == HELD
        await fast.aclose()
        await slow.aclose()
        await asyncio.sleep(0)
        assert sum(change() is not None for change in passed) == 0

    virtual_time.run(scenario)


def test_watchers_share_what_their_filters_show_alike() -> None:
    """Those whose filters take a change are given one object, those whose filters it has left another."""

    async def scenario() -> None:
        async with a_stage() as stage:
            filters = [None, frozenset({Status.FAILED}), None, frozenset({Status.IN_PROGRESS}), frozenset[Status]()]
            heard: list[list[Shared[Ready | UpdateChanged]]] = [[] for _ in filters]
            listening = [
                asyncio.create_task(take(stage.watch.stack_updates(StackUpdateFilter(statuses=statuses)), to))
                for statuses, to in zip(filters, heard, strict=True)
            ]
            await asyncio.sleep(REREAD)
            await stage.change(stage.update.failed(utc_now(), FAILURE))
            await asyncio.sleep(REREAD)
            assert {type(each[0].value) for each in heard} == {Ready}
            taken, same, too, left = (each[1] for each in heard[:4])
            assert taken is same
            assert taken is too
            assert taken.value == UpdateChanged(stage.update, matches=True)
            assert left.value == UpdateChanged(stage.update, matches=False)
            assert len(heard[4]) == 1
            for task in listening:
                task.cancel()
            await asyncio.wait(listening)

    virtual_time.run(scenario)
