"""The events of a stack update: followed without a gap or a double, from any seq; given in pages; folded."""

from __future__ import annotations

import asyncio
import itertools
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphql_api.adapters import open_backends
from graphql_api.adapters.in_process import InProcessWakeups
from graphql_api.domain.errors import BadUserInput, CursorAhead, EventsExpired, StackUpdateNotFound, StoreUnavailable
from graphql_api.domain.events import (
    DiagnosticReported,
    Event,
    EventKind,
    Happening,
    LogLine,
    ResourceChanged,
    Severity,
    StatusChanged,
    Stream,
)
from graphql_api.domain.ports import Chunk, EventLog, LogPage, Span, UpdateStore, events_topic
from graphql_api.domain.progress import ResourceOperation, ResourceProgress, ResourceState
from graphql_api.domain.records import Phase, StackUpdate, StackUpdateId, Status, new_id, utc_now
from graphql_api.service.batches import BATCH_BYTES, BATCH_EVENTS, Batch
from graphql_api.service.events import SCAN_EVENTS, EventFilter, Events
from graphql_api.service.patience import REREAD_INTERVAL
from graphql_api.service.sharing import Shared
from graphql_api.service.tail import HELD_PAGES
from tests.builders import FAILURE, NOON, SECOND, URN, a_chunk, a_line, a_stack_update
from tests.unit import virtual_time

REREAD = REREAD_INTERVAL.total_seconds()
END = StatusChanged(Status.SUCCESS, Phase.FINISHED)


async def nothing() -> None:
    """What happens after a read of a log that nobody else writes to."""


@dataclass
class Stage:
    """A stack update and its log, held in memory; itself the stores that are read."""

    update: StackUpdate = field(default_factory=a_stack_update)
    wakeups: InProcessWakeups = field(default_factory=InProcessWakeups)
    log: list[Event] = field(default_factory=list)
    kept_from: int = 1
    away: bool = False
    after_read: Callable[[], Awaitable[None]] = nothing
    reads: int = 0
    kinds: list[frozenset[EventKind] | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.events = Events(cast("UpdateStore", self), cast("EventLog", self), self.wakeups)

    async def append(self, *what: Happening, announced: bool = True) -> None:
        self.log += [Event(seq, NOON, one) for seq, one in enumerate(what, start=len(self.log) + 1)]
        if announced:
            await self.wakeups.announce(events_topic(self.update.id))

    async def lines(self, number: int, *, announced: bool = True) -> None:
        await self.append(*[a_line(f"line {len(self.log) + n}") for n in range(number)], announced=announced)

    async def end(self) -> None:
        await self.append(END)
        self.update = self.update.failed(utc_now(), FAILURE)

    async def get(self, id_: StackUpdateId) -> StackUpdate | None:
        self._check()
        return self.update if id_ == self.update.id else None

    async def span(self, _: StackUpdateId) -> Span | None:
        self._check()
        kept = self.log[self.kept_from - 1 :]
        span = Span(kept[0].seq, kept[-1].seq) if kept else None
        await self.after_read()
        return span

    async def read(
        self, _: StackUpdateId, after: int, limit: int, kinds: frozenset[EventKind] | None = None
    ) -> LogPage:
        self.reads += 1
        self.kinds.append(kinds)
        self._check()
        rest = self.log[max(after, self.kept_from - 1) :]
        found = [event for event in rest if kinds is None or event.what.kind in kinds]
        if len(found) > limit:
            page = LogPage(found[:limit], found[limit].seq - 1, has_more=True)
        else:
            page = LogPage(found, max(after, len(self.log)), has_more=False)
        await self.after_read()
        return page

    def _check(self) -> None:
        if self.away:
            raise StoreUnavailable("The database did not answer.")

    async def all(self, after: int = 0) -> list[Batch]:
        """Every batch to the last."""
        return [batch.value async for batch in self.events.watch(self.update.id, after)]


@asynccontextmanager
async def a_stage(lines: int = 0) -> AsyncIterator[Stage]:
    stage = Stage()
    await stage.lines(lines)
    yield stage
    assert stage.wakeups.topics == frozenset()
    assert len(asyncio.all_tasks()) == 1


def seqs(batches: list[Batch]) -> list[int]:
    return [event.seq for batch in batches for event in batch.events]


@dataclass
class Look:
    """Somebody who watches, noting when which batch came, and rests after each."""

    stage: Stage
    rest: float = 0
    interrupted: bool = False
    given: list[Shared[Batch]] = field(default_factory=list)
    came: list[tuple[float, Batch]] = field(default_factory=list)

    async def look(self, after: int = 0) -> None:
        clock = asyncio.get_running_loop().time
        async for batch in self.stage.events.watch(self.stage.update.id, after, interrupted=self.interrupted):
            self.given.append(batch)
            self.came.append((round(clock(), 6), batch.value))
            if self.rest:
                await asyncio.sleep(self.rest)

    @property
    def seen(self) -> list[tuple[float, list[int]]]:
        return [(when, [event.seq for event in batch.events]) for when, batch in self.came]


# --- watching


def test_a_watcher_gets_what_is_there_and_then_each_event_as_it_comes() -> None:
    """History at once, then every append the moment it is announced, then the end."""

    async def scenario() -> None:
        async with a_stage(lines=2) as stage:
            watcher = Look(stage)
            looking = asyncio.create_task(watcher.look())
            await asyncio.sleep(0.25)
            await stage.lines(1)
            await asyncio.sleep(0.01)
            await stage.lines(2)
            await asyncio.sleep(0.01)
            await stage.end()
            await looking
            assert watcher.seen == [(0, [1, 2]), (0.25, [3]), (0.26, [4, 5]), (0.27, [6])]
            assert [batch.caught_up for _, batch in watcher.came] == [True] * 4
            assert [batch.finished for _, batch in watcher.came] == [False, False, False, True]

    virtual_time.run(scenario)


def test_the_first_batch_comes_at_once_even_if_there_is_nothing() -> None:
    """A client of a queued update knows that it is subscribed."""

    async def scenario() -> None:
        async with a_stage() as stage, aclosing(stage.events.watch(stage.update.id, 0)) as batches:
            assert (await anext(batches)).value == Batch((), 0, caught_up=True, finished=False)
            await stage.lines(1)
            assert seqs([(await anext(batches)).value]) == [1]

    virtual_time.run(scenario)


def test_a_long_history_comes_in_batches() -> None:
    """None holds more than 500 events; only the last says that the watcher has caught up."""

    async def scenario() -> None:
        async with a_stage(lines=2 * BATCH_EVENTS + 7) as stage:
            async with aclosing(stage.events.watch(stage.update.id, 0)) as batches:
                got = [(await anext(batches)).value for _ in range(3)]
            assert [len(batch.events) for batch in got] == [BATCH_EVENTS, BATCH_EVENTS, 7]
            assert [batch.caught_up for batch in got] == [False, False, True]
            assert seqs(got) == list(range(1, 2 * BATCH_EVENTS + 8))

    virtual_time.run(scenario)


def test_long_lines_make_small_batches() -> None:
    """A batch stays small enough for a websocket's message, but a line of any length comes whole."""

    async def scenario() -> None:
        async with a_stage() as stage:
            sizes = [10, 100_000, 100_000, 100_000, 10, 2 * BATCH_BYTES, 10]
            await stage.append(*[a_line("ß" * (size // 2)) for size in sizes])
            await stage.end()
            got = await stage.all()
            assert [[event.seq for event in batch.events] for batch in got] == [[1, 2, 3], [4, 5], [6], [7, 8]]
            assert [batch.seq for batch in got] == [3, 5, 6, 8]
            assert [batch.caught_up for batch in got] == [False, False, False, True]
            assert [batch.finished for batch in got] == [False, False, False, True]

    virtual_time.run(scenario)


def test_a_watcher_with_much_to_read_gives_way_after_each_batch() -> None:
    """Also where others have read the same just before, and it need not wait for the store."""

    async def scenario() -> None:
        async with a_stage(lines=3 * BATCH_EVENTS) as stage:
            await stage.end()
            async with aclosing(stage.events.watch(stage.update.id, 0)) as held:
                await anext(held)
                watcher, at_once = Look(stage), list[int]()
                watching = asyncio.create_task(watcher.look())
                while not watching.done():
                    before = len(watcher.given)
                    await asyncio.sleep(0)
                    at_once.append(len(watcher.given) - before)
            assert (len(watcher.given), max(at_once)) == (4, 1)

    virtual_time.run(scenario)


def test_watching_begins_after_any_seq() -> None:
    """Whoever comes with the seq of a last event gets exactly those after it, and after the last one the end."""

    async def scenario() -> None:
        async with a_stage(lines=9) as stage:
            await stage.end()
            for after in range(11):
                got = await stage.all(after)
                assert seqs(got) == list(range(after + 1, 11))
                assert [batch.finished for batch in got] == [True]
                assert got[-1].seq == 10

    virtual_time.run(scenario)


@pytest.mark.parametrize("before", range(3))
def test_an_event_between_a_read_and_the_wait_is_not_missed(before: int) -> None:
    """Who reads listens first: what is announced after any of the first reads wakes the watcher at once."""

    async def scenario() -> None:
        async with a_stage(lines=1) as stage:
            reads = iter(range(before))

            async def ends_meanwhile() -> None:
                if next(reads, None) is None:
                    stage.after_read = nothing
                    await stage.end()

            stage.after_read = ends_meanwhile
            assert await virtual_time.elapsed(stage.all()) == 0
            assert stage.after_read is nothing

    virtual_time.run(scenario)


def test_a_lost_announcement_is_found_by_reading_again() -> None:
    """What nobody announced comes within a second; a quiet log is read once a second and no more."""

    async def scenario() -> None:
        async with a_stage() as stage:
            watcher = Look(stage)
            looking = asyncio.create_task(watcher.look())
            await asyncio.sleep(100.5 * REREAD)
            assert stage.reads == pytest.approx(101, abs=1)
            await stage.lines(1, announced=False)
            await asyncio.sleep(REREAD)
            assert watcher.seen[-1] == (101 * REREAD, [1])
            await stage.end()
            await looking

    virtual_time.run(scenario)


def test_one_read_after_each_announcement_takes_all_there_is() -> None:
    """A thousand announcements while the watcher is busy cost one read; while it is busy nothing is read."""

    async def scenario() -> None:
        async with a_stage() as stage, aclosing(stage.events.watch(stage.update.id, 0)) as batches:
            await anext(batches)
            before = stage.reads
            for _ in range(300):
                await stage.lines(1)
                await asyncio.sleep(REREAD)
            assert stage.reads == before
            assert len((await anext(batches)).value.events) == 300
            assert stage.reads == before + 1

    virtual_time.run(scenario)


def test_a_watcher_waits_for_a_store_that_is_away() -> None:
    """At the beginning as later: nothing is missed, and nothing is asked more than once a second."""

    async def scenario() -> None:
        async with a_stage(lines=1) as stage:
            stage.away = True
            watcher = Look(stage)
            looking = asyncio.create_task(watcher.look())
            await asyncio.sleep(10.5 * REREAD)
            stage.away = False
            await asyncio.sleep(REREAD)
            assert watcher.seen == [(11 * REREAD, [1])]
            stage.away = True
            await stage.lines(1)
            await asyncio.sleep(3600)
            assert stage.reads < 3700
            stage.away = False
            await stage.end()
            await looking
            assert seqs([batch for _, batch in watcher.came]) == [1, 2, 3]

    virtual_time.run(scenario)


def test_an_outage_is_logged_once_for_all_watchers(caplog: pytest.LogCaptureFixture) -> None:
    """A hundred watchers don't fill the service's log while the store is away for an hour."""

    async def scenario() -> None:
        async with a_stage(lines=1) as stage:
            stage.away = True
            watchers = [asyncio.create_task(Look(stage).look()) for _ in range(100)]
            await asyncio.sleep(3600)
            stage.away = False
            await stage.end()
            await asyncio.gather(*watchers)

    virtual_time.run(scenario)

    assert sum("waits for the store" in record.getMessage() for record in caplog.records) == 1


def test_a_watcher_who_leaves_is_forgotten() -> None:
    """Closing at the first batch, or being cancelled while waiting, leaves no listener and no task."""

    async def scenario() -> None:
        async with a_stage() as stage:
            async with aclosing(stage.events.watch(stage.update.id, 0)) as batches:
                await anext(batches)
                assert stage.wakeups.topics == {events_topic(stage.update.id)}
            looking = asyncio.create_task(Look(stage).look())
            await asyncio.sleep(REREAD / 2)
            looking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await looking

    virtual_time.run(scenario)


def test_a_record_that_ended_before_its_log_is_waited_for() -> None:
    """After a crash in between the service closes the log; until then watchers wait."""

    async def scenario() -> None:
        async with a_stage(lines=2) as stage:
            stage.update = stage.update.failed(utc_now(), FAILURE)
            watcher = Look(stage)
            looking = asyncio.create_task(watcher.look())
            await asyncio.sleep(5.5 * REREAD)
            assert watcher.seen == [(0, [1, 2])]
            await stage.append(END)
            await looking
            assert watcher.seen[1:] == [(5.5 * REREAD, [3])]

    virtual_time.run(scenario)


def test_the_end_is_told_once_the_record_has_ended() -> None:
    """Who is told that it has finished, and asks for the stack update, gets the one that has ended."""

    async def scenario() -> None:
        async with a_stage(lines=1) as stage:
            watcher, late, last = Look(stage), Look(stage), Look(stage)
            looking = asyncio.create_task(watcher.look())
            await asyncio.sleep(0.25)
            await stage.append(END)
            coming_late = asyncio.gather(late.look(), last.look(after=2))
            await asyncio.sleep(0.25)
            assert (watcher.seen, late.seen, last.seen) == ([(0, [1])], [], [])
            stage.update = stage.update.failed(utc_now(), FAILURE)
            await stage.wakeups.announce(stage.update.id)
            await asyncio.gather(looking, coming_late)
            assert (watcher.seen, late.seen) == ([(0, [1]), (0.5, [2])], [(0.5, [1, 2])])
            assert last.seen == [(0.5, [])]

    virtual_time.run(scenario)


# --- what watchers share


def test_watchers_of_one_log_share_each_read_and_each_batch() -> None:
    """A hundred cost one read for each append and one a second; all are given the same object."""

    async def scenario() -> None:
        async with a_stage() as stage:
            watchers = [Look(stage) for _ in range(100)]
            async with asyncio.TaskGroup() as tasks:
                for watcher in watchers:
                    tasks.create_task(watcher.look())
                await asyncio.sleep(REREAD / 2)
                assert stage.reads == 0
                for _ in range(10):
                    await stage.lines(1)
                    await asyncio.sleep(0.01)
                assert stage.reads == 10
                await asyncio.sleep(100 * REREAD)
                assert stage.reads == pytest.approx(110, abs=1)
                await stage.end()
            assert {tuple(map(id, watcher.given)) for watcher in watchers} == {tuple(map(id, watchers[0].given))}
            assert seqs([batch for _, batch in watchers[0].came]) == list(range(1, 12))

    virtual_time.run(scenario)


def test_those_who_come_at_once_share_what_is_there_already() -> None:
    """A hundred who begin with a long log read each page of it once, and are given the same batches."""

    async def scenario() -> None:
        async with a_stage(lines=3 * BATCH_EVENTS) as stage:
            await stage.end()
            stage.after_read = partial(asyncio.sleep, 0.01)
            watchers = [Look(stage) for _ in range(100)]
            await asyncio.gather(*[watcher.look() for watcher in watchers])
            assert stage.reads == 2 + 4  # a look at the end for the first and one for the others, and four pages
            assert {tuple(map(id, watcher.given)) for watcher in watchers} == {tuple(map(id, watchers[0].given))}
            assert [len(batch.events) for _, batch in watchers[0].came] == [BATCH_EVENTS] * 3 + [1]

    virtual_time.run(scenario)


def test_who_has_caught_up_shares_with_those_who_wait() -> None:
    """Wherever a watcher began: from the end of the log on it is given what the others are given."""

    async def scenario() -> None:
        async with a_stage(lines=2 * BATCH_EVENTS) as stage:
            watchers = [Look(stage), Look(stage), Look(stage)]
            async with asyncio.TaskGroup() as tasks:
                for watcher, after in zip(watchers, (0, 7, 2 * BATCH_EVENTS), strict=True):
                    tasks.create_task(watcher.look(after))
                await asyncio.sleep(REREAD / 2)
                await stage.lines(3)
                await asyncio.sleep(REREAD / 2)
                await stage.end()
            assert len({tuple(map(id, watcher.given[-2:])) for watcher in watchers}) == 1
            for watcher, after in zip(watchers, (0, 7, 2 * BATCH_EVENTS), strict=True):
                assert seqs([batch for _, batch in watcher.came]) == list(range(after + 1, 2 * BATCH_EVENTS + 5))

    virtual_time.run(scenario)


def test_a_slow_watcher_holds_up_nobody_and_gets_all() -> None:
    """The others get each event as it comes; the slow one, when it comes back, all it has missed in one batch."""

    async def scenario() -> None:
        async with a_stage() as stage:
            fast, slow = Look(stage), Look(stage, rest=9.5)
            async with asyncio.TaskGroup() as tasks:
                for watcher in (fast, slow):
                    tasks.create_task(watcher.look())
                await asyncio.sleep(0.25)
                for _ in range(20):
                    await stage.lines(1)
                    await asyncio.sleep(1)
                await stage.end()
            assert fast.seen == [(0, []), *[(0.25 + n, [n + 1]) for n in range(20)], (20.25, [21])]
            assert slow.seen == [(0, []), (9.5, list(range(1, 11))), (19, list(range(11, 20))), (28.5, [20, 21])]
            assert [batch.caught_up for _, batch in slow.came] == [True] * 4

    virtual_time.run(scenario)


def test_who_is_behind_is_not_told_that_it_has_caught_up() -> None:
    """What was the last batch when others got it is not the last any more for who comes later."""

    async def scenario() -> None:
        async with a_stage(lines=1) as stage:
            first, second = Look(stage), Look(stage)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(first.look())
                await asyncio.sleep(REREAD / 2)
                await stage.lines(BATCH_EVENTS)
                await asyncio.sleep(REREAD / 2)
                tasks.create_task(second.look())
                await asyncio.sleep(REREAD / 2)
                await stage.end()
            assert [(len(batch.events), batch.caught_up) for _, batch in second.came] == [
                (BATCH_EVENTS, False),
                (1, True),
                (1, True),
            ]

    virtual_time.run(scenario)


def test_little_of_a_log_is_held_for_its_watchers() -> None:
    """However much goes by: some pages, and what a slow watcher has in its hands; with the watchers all goes."""

    async def scenario() -> None:
        async with a_stage() as stage:
            fast, slow = stage.events.watch(stage.update.id, 0), stage.events.watch(stage.update.id, 0)
            passed = [weakref.ref(await anext(slow))]
            await anext(fast)
            for _ in range(100):
                await stage.lines(1)
                passed.append(weakref.ref(await anext(fast)))
            assert sum(batch() is not None for batch in passed) <= HELD_PAGES + 1
            assert len((await anext(slow)).value.events) == 100
            await fast.aclose()
            await slow.aclose()
            await asyncio.sleep(0)
            assert sum(batch() is not None for batch in passed) == 0

    virtual_time.run(scenario)


def test_what_breaks_the_shared_reader_is_told_to_all_watchers() -> None:
    """Nobody is left waiting for what is read no longer."""

    async def scenario() -> None:
        async with a_stage(lines=1) as stage:
            watchers = [asyncio.create_task(Look(stage).look()) for _ in range(10)]
            await asyncio.sleep(REREAD / 2)
            stage.update, stage.kept_from = a_stack_update(), 9
            await asyncio.wait(watchers)
            assert [type(watcher.exception()) for watcher in watchers] == [EventsExpired] * 10

    virtual_time.run(scenario)


# --- what can't be watched


def test_who_was_interrupted_goes_on_as_if_it_had_not_been() -> None:
    """With what has come since, at once; without an empty batch before it, and to the end."""

    async def scenario() -> None:
        async with a_stage(lines=3) as stage:
            behind, waiting = Look(stage, interrupted=True), Look(stage, interrupted=True)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(behind.look(1))
                tasks.create_task(waiting.look(3))
                await asyncio.sleep(REREAD / 2)
                await stage.end()
            assert behind.seen == [(0, [2, 3]), (REREAD / 2, [4])]
            assert waiting.seen == [(REREAD / 2, [4])]

    virtual_time.run(scenario)


def test_who_was_interrupted_has_what_came_meanwhile_at_once() -> None:
    """Also where nobody else watches."""

    async def scenario() -> None:
        async with a_stage(lines=3) as stage:
            await stage.end()
            alone = Look(stage, interrupted=True)
            await alone.look(1)
            assert alone.seen == [(0, [2, 3, 4])]

    virtual_time.run(scenario)


def test_who_was_interrupted_waits_for_a_replica_that_lags_behind() -> None:
    """What it has been given is known to be there, whatever is read now."""

    async def scenario() -> None:
        async with a_stage(lines=3) as stage:
            look = Look(stage, interrupted=True)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(look.look(5))
                await asyncio.sleep(2.5 * REREAD)
                await stage.lines(3)
                await stage.end()
            assert seqs([batch for _, batch in look.came]) == [6, 7]

    virtual_time.run(scenario)


def test_who_was_interrupted_for_too_long_is_told() -> None:
    """What comes next is kept no longer."""

    async def scenario() -> None:
        async with a_stage(lines=10) as stage:
            stage.kept_from = 5
            with pytest.raises(EventsExpired):
                await Look(stage, interrupted=True).look(2)

    virtual_time.run(scenario)


def test_an_unknown_update_has_no_events() -> None:
    """Watching what was never there is refused."""

    async def scenario() -> None:
        async with a_stage() as stage:
            unknown = StackUpdateId(new_id(utc_now()))
            with pytest.raises(StackUpdateNotFound, match=unknown):
                await anext(stage.events.watch(unknown, 0))
            with pytest.raises(StackUpdateNotFound, match=unknown):
                await stage.events.history(unknown, 0)

    virtual_time.run(scenario)


@pytest.mark.parametrize("lines", [0, 3])
def test_a_seq_that_there_is_not_is_refused(lines: int) -> None:
    """The refusal says which is the last; it also holds for a queued update without any event."""

    async def scenario() -> None:
        async with a_stage(lines) as stage:
            with pytest.raises(CursorAhead) as refused:
                await anext(stage.events.watch(stage.update.id, lines + 1))
            assert refused.value.last_seq == lines

    virtual_time.run(scenario)


def test_events_that_are_kept_no_longer_are_refused() -> None:
    """The refusal says which is the first that is kept; from right before it on watching works."""

    async def scenario() -> None:
        async with a_stage(lines=9) as stage:
            await stage.end()
            stage.kept_from = 5
            with pytest.raises(EventsExpired) as refused:
                await anext(stage.events.watch(stage.update.id, 3))
            assert refused.value.first_available_seq == 5
            assert seqs(await stage.all(4)) == [5, 6, 7, 8, 9, 10]

    virtual_time.run(scenario)


def test_an_ended_update_without_events_says_so() -> None:
    """Such as older versions wrote; nobody waits for what never comes."""

    async def scenario() -> None:
        async with a_stage() as stage:
            stage.update = stage.update.failed(utc_now(), FAILURE)
            for after in (0, 7):
                with pytest.raises(EventsExpired) as refused:
                    await anext(stage.events.watch(stage.update.id, after))
                assert refused.value.first_available_seq is None

    virtual_time.run(scenario)


def test_a_reader_that_is_slower_than_forgetting_is_told() -> None:
    """When the whole stack update is forgotten under its hands, a reader ends with the reason, and doesn't wait on."""

    async def scenario() -> None:
        async with a_stage(lines=1) as stage:
            async with aclosing(stage.events.watch(stage.update.id, 0)) as batches:
                await anext(batches)
                await stage.end()
                stage.update, stage.kept_from, id_ = a_stack_update(), 9, stage.update.id
                with pytest.raises(EventsExpired, match=id_) as refused:
                    await anext(batches)
            assert refused.value.first_available_seq is None

    virtual_time.run(scenario)


def test_a_reader_that_is_too_slow_for_what_is_kept_is_told() -> None:
    """Nothing is skipped in silence: what has gone meanwhile ends the watching with the reason."""

    async def scenario() -> None:
        async with a_stage(lines=1) as stage:
            async with aclosing(stage.events.watch(stage.update.id, 0)) as batches:
                await anext(batches)
                await stage.lines(9)
                stage.kept_from = 5
                with pytest.raises(EventsExpired) as refused:
                    await anext(batches)
            assert refused.value.first_available_seq == 5

    virtual_time.run(scenario)


def test_a_negative_seq_is_bad_input() -> None:
    """Everywhere where a seq can be given."""

    async def scenario() -> None:
        async with a_stage(lines=1) as stage:
            id_ = stage.update.id
            for ask in (
                anext(stage.events.watch(id_, -1)),
                stage.events.page(id_, -1, 10),
                stage.events.history(id_, -1),
            ):
                with pytest.raises(BadUserInput, match="it is -1") as refused:
                    await ask
                assert refused.value.argument == "after"

    virtual_time.run(scenario)


# --- nothing is missed and nothing doubled, whatever happens


@dataclass
class Reader:
    """A client that keeps the seq of its last batch, and now and then connects anew with it."""

    stage: Stage
    batches_per_connection: int
    pause: float
    got: list[int] = field(default_factory=list)
    seq: int = 0

    async def read(self) -> None:
        while True:
            async with aclosing(self.stage.events.watch(self.stage.update.id, self.seq)) as batches:
                async for batch in _first_of(batches, self.batches_per_connection):
                    self.got += [event.seq for event in batch.value.events]
                    self.seq = batch.value.seq
                    if batch.value.finished:
                        return
                    await asyncio.sleep(self.pause)


async def _first_of(batches: AsyncIterator[Shared[Batch]], number: int) -> AsyncIterator[Shared[Batch]]:
    for _ in range(number):
        yield await anext(batches)


#: Batches for each connection, of which the first may be empty, and the pause after each, in seconds.
READERS = st.tuples(st.integers(2, 5), st.sampled_from([0, 0.01, 0.7, 5.0]))
STEPS = st.tuples(
    st.sampled_from(["append", "append quietly", "long lines", "away", "back"]),
    st.integers(1, 2 * BATCH_EVENTS),
    st.sampled_from([0, 0.001, 0.3, 1.5, 20.0]),
)


@settings(deadline=None)  # a slow machine is no defect
@given(st.lists(READERS, min_size=1, max_size=4), st.lists(STEPS, max_size=12))
def test_every_event_is_got_once_in_order(
    readers: list[tuple[int, float]], steps: list[tuple[str, int, float]]
) -> None:
    """In order, by fast and slow readers that connect anew at any batch, whatever is appended, lost or away."""

    async def scenario() -> None:
        async with a_stage() as stage:
            clients = [Reader(stage, batches, pause) for batches, pause in readers]
            async with asyncio.timeout(10_000), asyncio.TaskGroup() as tasks:
                for client in clients:
                    tasks.create_task(client.read())
                for what, number, pause in steps:
                    await _step(stage, what, number)
                    await asyncio.sleep(pause)
                stage.away = False
                await stage.end()
            for client in clients:
                assert client.got == list(range(1, len(stage.log) + 1))

    virtual_time.run(scenario)


async def _step(stage: Stage, what: str, number: int) -> None:
    if what == "long lines":
        await stage.append(*[a_line("x" * BATCH_BYTES) for _ in range(number % 5)])
    elif what.startswith("append"):
        await stage.lines(number, announced=what == "append")
    else:
        stage.away = what == "away"


def test_many_readers_of_a_real_log_miss_nothing_while_it_is_written() -> None:
    """Over SQLite: chunks of any size, twenty readers of different pace, each event once in order for each."""

    async def scenario() -> None:
        async with open_backends("sqlite:///:memory:") as backends:
            update = a_stack_update()
            await backends.updates.insert(update, "")
            events = Events(backends.updates, backends.events, backends.wakeups)
            got: list[list[int]] = [[] for _ in range(20)]

            async def read(number: int) -> None:
                async for batch in events.watch(update.id, 0):
                    got[number] += [event.seq for event in batch.value.events]
                    await asyncio.sleep(number / 50)

            async with asyncio.TaskGroup() as tasks:
                for number in range(20):
                    tasks.create_task(read(number))
                chunk = a_chunk(update_id=update.id)
                for size in itertools.chain(range(60), [700]):
                    await backends.events.append(chunk)
                    await backends.wakeups.announce(events_topic(update.id))
                    await asyncio.sleep(0.02)
                    chunk = _next(chunk, *[a_line()] * (size + 1))
                await backends.events.append(last := _next(chunk, END, number=chunk.number))
                await backends.updates.save(update.failed(utc_now(), FAILURE))
            seq = last.events[-1].seq
            assert all(seen == list(range(1, seq + 1)) for seen in got)

    virtual_time.run(scenario)


def _next(chunk: Chunk, *what: Happening, number: int | None = None) -> Chunk:
    first = chunk.events[0].seq if number else chunk.events[-1].seq + 1
    new = a_chunk(*what, first_seq=first, update_id=chunk.update_id)
    return replace(new, number=number or chunk.number + 1, nonce=chunk.nonce)


# --- history


def test_history_gives_what_is_there_when_it_is_asked_for() -> None:
    """What is appended while it is read is left for later."""

    async def scenario() -> None:
        async with a_stage(lines=2 * BATCH_EVENTS + 1) as stage:
            got = []
            async for events in await stage.events.history(stage.update.id, 3):
                got += [event.seq for event in events]
                await stage.lines(10)
            assert got == list(range(4, 2 * BATCH_EVENTS + 2))

    virtual_time.run(scenario)


def test_the_history_of_a_queued_update_is_empty() -> None:
    """It has no events yet, which is no mistake."""

    async def scenario() -> None:
        async with a_stage() as stage:
            assert [events async for events in await stage.events.history(stage.update.id, 0)] == []

    virtual_time.run(scenario)


def test_history_waits_for_a_store_that_goes_away_half_way() -> None:
    """But is refused at once while the store is away before anything is given."""

    async def scenario() -> None:
        async with a_stage(lines=BATCH_EVENTS + 1) as stage:
            stage.away = True
            with pytest.raises(StoreUnavailable):
                await stage.events.history(stage.update.id, 0)
            stage.away = False
            async with aclosing(await stage.events.history(stage.update.id, 0)) as pages:
                assert len(await anext(pages)) == BATCH_EVENTS
                stage.away = True
                reading = asyncio.ensure_future(anext(pages))
                await asyncio.sleep(10 * REREAD)
                assert not reading.done()
                stage.away = False
                assert len(await reading) == 1

    virtual_time.run(scenario)


# --- pages

OTHER = "urn:pulumi:dev::demo::a:b:C::other"


def change(urn: str, state: ResourceState, operation: ResourceOperation = ResourceOperation.CREATE) -> ResourceChanged:
    ended = None if state is ResourceState.IN_PROGRESS else NOON + SECOND
    return ResourceChanged(ResourceProgress(urn, "a:b:C", operation, state, NOON, ended))


LOG: tuple[Happening, ...] = (
    StatusChanged(Status.IN_PROGRESS, Phase.QUEUED),
    LogLine(Stream.STDOUT, "Straße"),
    LogLine(Stream.STDERR, "warning: STRASSE"),
    change(URN, ResourceState.IN_PROGRESS),
    DiagnosticReported(Severity.WARNING, "strasse is long", URN),
    DiagnosticReported(Severity.ERROR, "no", OTHER),
    DiagnosticReported(Severity.ERROR, "no"),
    change(OTHER, ResourceState.DONE),
    END,
)
LINES, DIAGNOSTICS = [2, 3], [5, 6, 7]
OUT, ERR = frozenset({Stream.STDOUT}), frozenset({Stream.STDERR})
WARNINGS = frozenset({Severity.WARNING})


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (EventFilter(), [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (EventFilter(streams=OUT), [2]),
        (EventFilter(streams=OUT | ERR), LINES),
        (EventFilter(streams=frozenset()), []),
        (EventFilter(severities=WARNINGS), [5]),
        (EventFilter(severities=frozenset(Severity)), DIAGNOSTICS),
        (EventFilter(severities=frozenset()), []),
        (EventFilter(streams=ERR, severities=WARNINGS), [3, 5]),
        (EventFilter(streams=frozenset(), severities=WARNINGS), [5]),
        (EventFilter(urn=URN), [4, 5]),
        (EventFilter(urn=OTHER), [6, 8]),
        (EventFilter(urn="urn"), []),
        (EventFilter(text="strasse"), [2, 3, 5]),
        (EventFilter(text="STRASSE"), [2, 3, 5]),
        (EventFilter(text=""), LINES + DIAGNOSTICS),
        (EventFilter(text="strasse", streams=OUT), [2]),
        (EventFilter(text="no", urn=OTHER), [6]),
        (EventFilter(urn=URN, streams=OUT), []),
        (EventFilter(urn=URN, streams=OUT, severities=WARNINGS), [5]),
    ],
)
async def test_a_filter_takes_what_satisfies_all_of_it(where: EventFilter, expected: list[int]) -> None:
    """What is left out does not restrict; an empty set takes nothing; case does not matter in texts."""
    async with a_stage() as stage:
        await stage.append(*LOG)

        page = await stage.events.page(stage.update.id, 0, 100, where)

    assert ([event.seq for event in page.events], page.seq, page.has_more) == (expected, 9, False)
    given_kinds = {event.what.kind for event in stage.log if event.seq in expected}
    assert all(kinds is None or given_kinds <= kinds for kinds in stage.kinds)


async def test_the_store_is_asked_for_the_kinds_alone_that_a_filter_takes() -> None:
    """So it can skip what lies between them."""
    async with a_stage(lines=1) as stage:
        for where in (EventFilter(), EventFilter(streams=OUT), EventFilter(text="x"), EventFilter(urn=URN)):
            await stage.events.page(stage.update.id, 0, 10, where)

    line, diagnostic = EventKind.LOG_LINE, EventKind.DIAGNOSTIC_REPORTED
    assert stage.kinds == [None, {line}, {line, diagnostic}, {diagnostic, EventKind.RESOURCE_CHANGED}]


async def test_pages_with_a_filter_lead_through_the_whole_log() -> None:
    """Page by page, by each page's seq, everything that the filter takes comes once."""
    async with a_stage() as stage:
        await stage.append(*[LogLine(Stream.STDOUT if n % 3 else Stream.STDERR, str(n)) for n in range(100)])
        got, page = [], LogPage((), 0, has_more=True)
        while page.has_more:
            page = await stage.events.page(stage.update.id, page.seq, 7, EventFilter(streams=ERR))
            assert len(page.events) <= 7
            got += [event.seq for event in page.events]

    assert got == list(range(1, 101, 3))
    assert page.seq == 100


async def test_one_call_looks_at_a_bounded_part_of_the_log() -> None:
    """Where nothing is found for long, the page is empty, has more, and says where to go on."""
    async with a_stage(lines=2 * SCAN_EVENTS + 1) as stage:
        where = EventFilter(text=f"line {2 * SCAN_EVENTS}")
        pages = [await stage.events.page(stage.update.id, 0, 10, where)]
        while pages[-1].has_more:
            pages.append(await stage.events.page(stage.update.id, pages[-1].seq, 10, where))

    assert [(page.seq, len(page.events)) for page in pages] == [
        (SCAN_EVENTS, 0),
        (2 * SCAN_EVENTS, 0),
        (2 * SCAN_EVENTS + 1, 1),
    ]


async def test_a_page_of_long_lines_ends_before_it_is_too_large() -> None:
    """However many lines are asked for, an answer holds about a mebibyte."""
    async with a_stage() as stage:
        await stage.append(*[a_line("x" * 1000) for _ in range(20_000)])
        page = await stage.events.page(stage.update.id, 0, 20_000, EventFilter(streams=OUT))

    assert page.has_more
    assert 0 < len(page.events) < 5000
    assert page.seq == page.events[-1].seq


async def test_a_page_passes_over_what_is_kept_no_longer() -> None:
    """And gives nothing after the last event, also where there never was one."""
    async with a_stage(lines=9) as stage:
        stage.kept_from = 5
        assert [event.seq for event in (await stage.events.page(stage.update.id, 0, 2)).events] == [5, 6]
        assert await stage.events.page(stage.update.id, 99, 2) == LogPage([], 99, has_more=False)


# --- resources


async def test_resources_stand_in_the_order_in_which_pulumi_began() -> None:
    """Each as it stands now, with the time at which it began; the same resource may undergo several operations."""
    async with a_stage() as stage:
        await stage.append(
            change(OTHER, ResourceState.IN_PROGRESS),
            a_line(),
            change(URN, ResourceState.IN_PROGRESS),
            change(URN, ResourceState.FAILED),
            change(OTHER, ResourceState.IN_PROGRESS, ResourceOperation.DELETE_REPLACED),
            change(OTHER, ResourceState.DONE),
        )
        found = await stage.events.resources(stage.update.id)

    assert [(one.urn, one.operation, one.state, one.ended_at is None) for one in found] == [
        (OTHER, ResourceOperation.CREATE, ResourceState.DONE, False),
        (URN, ResourceOperation.CREATE, ResourceState.FAILED, False),
        (OTHER, ResourceOperation.DELETE_REPLACED, ResourceState.IN_PROGRESS, True),
    ]


async def test_resources_are_read_to_the_end_of_a_long_log() -> None:
    """More changes than one read brings."""
    async with a_stage() as stage:
        await stage.append(*[change(f"{URN}{n}", ResourceState.DONE) for n in range(SCAN_EVENTS + 1)])

        assert len(await stage.events.resources(stage.update.id)) == SCAN_EVENTS + 1
