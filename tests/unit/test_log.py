"""Writing the log of a stack update: every event once, in order, whatever the store does and whoever writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import Enum, auto
from itertools import pairwise
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphql_api.adapters import Backends, open_backends
from graphql_api.domain.errors import StoreRefused, StoreUnavailable
from graphql_api.domain.events import (
    Event,
    EventKind,
    Happening,
    LogLine,
    LogOmissionStarted,
    LogOmitted,
    OwnerChanged,
    ResourceChanged,
    StatusChanged,
    Stream,
)
from graphql_api.domain.ports import Chunk, Closing, EventLog, LogPage, Span, events_topic
from graphql_api.domain.progress import ResourceOperation, ResourceProgress, ResourceState
from graphql_api.domain.records import Phase, StackUpdate, StackUpdateId, Status, utc_now
from runners.lease import Lease, LeaseLost
from runners.log import TAIL_BYTES, Log
from runners.patience import PAUSE
from tests.builders import NOON, a_claim, a_stack_update
from tests.unit import virtual_time

ROOM = 1024 * 1024
QUEUED = StatusChanged(Status.IN_PROGRESS, Phase.QUEUED)
PREPARING = StatusChanged(Status.IN_PROGRESS, Phase.PREPARING)
RUNNING = StatusChanged(Status.IN_PROGRESS, Phase.RUNNING)
FINISHED = StatusChanged(Status.CANCELLED, Phase.FINISHED)


class Fault(Enum):
    """What may be wrong with one append: the store is away before or after it wrote, or it refuses."""

    NONE = auto()
    AWAY = auto()
    ANSWER_LOST = auto()
    REFUSED = auto()


@dataclass
class FaultyEvents:
    """Logs whose next appends go wrong as told; each takes two seconds, in the middle of which it is written."""

    events: EventLog
    faults: list[Fault] = field(default_factory=list)
    asked: list[Chunk] = field(default_factory=list)
    written: list[Chunk] = field(default_factory=list)

    async def append(self, chunk: Chunk) -> bool:
        self.asked.append(chunk)
        fault = self.faults.pop(0) if self.faults else Fault.NONE
        await asyncio.sleep(1)
        if fault is Fault.AWAY:
            raise StoreUnavailable("The database did not answer.")
        if fault is Fault.REFUSED:
            raise StoreRefused("The database is read-only.")
        if is_ours := await self.events.append(chunk):
            self.written.append(chunk)
        await asyncio.sleep(1)
        if fault is Fault.ANSWER_LOST:
            raise StoreUnavailable("The database did not answer.")
        return is_ours

    async def last(self, update_id: StackUpdateId) -> Chunk | None:
        return await self.events.last(update_id)

    async def span(self, update_id: StackUpdateId) -> Span | None:
        return await self.events.span(update_id)

    async def read(
        self, update_id: StackUpdateId, after: int, limit: int, kinds: frozenset[EventKind] | None = None
    ) -> LogPage:
        return await self.events.read(update_id, after, limit, kinds)


class Scene:
    """A stack update and the store of its log, which can be made to fail."""

    def __init__(self, backends: Backends) -> None:
        self.backends = backends
        self.update = a_stack_update()
        self.events = FaultyEvents(backends.events)
        self._epoch = 0

    async def log(self, limit: int = ROOM) -> Log:
        """The log as a new owner of the stack has it."""
        self._epoch += 1
        lease = Lease(a_claim(epoch=self._epoch))
        log = Log(self.update, lease, self.events, self.backends.wakeups, limit)
        await log.open()
        return log

    async def told(self) -> list[Event]:
        """Every event, in order."""
        found, after = list[Event](), 0
        while True:
            page = await self.events.read(self.update.id, after, 100)
            found += page.events
            if not page.has_more:
                return found
            after = page.seq

    async def happenings(self) -> list[Happening]:
        return [event.what for event in await self.told()]


@asynccontextmanager
async def a_scene() -> AsyncIterator[Scene]:
    async with open_backends("sqlite:///:memory:") as backends:
        yield Scene(backends)


def line(text: str) -> LogLine:
    return LogLine(Stream.STDOUT, text)


def a_closing(update: StackUpdate, output: str = "{}") -> Closing:
    return Closing(update.cancelled(utc_now()), output)


# --- seqs, chunks and owners


def test_a_log_begins_with_what_was_before_its_first_owner() -> None:
    """That it was queued has the time of its acceptance; what the owner tells has a seq each, from there on."""

    async def scenario() -> None:
        async with a_scene() as scene:
            scene.update = a_stack_update(created_at=NOON)
            log = await scene.log()

            await log.append([PREPARING, line("a")])
            await log.append([line("b")])

            told = await scene.told()
            assert [event.what for event in told] == [QUEUED, PREPARING, line("a"), line("b")]
            assert [event.seq for event in told] == [1, 2, 3, 4]
            assert told[0].at == NOON
            assert all(event.at > NOON for event in told[1:])
            assert [chunk.number for chunk in scene.events.written] == [1, 2]

    virtual_time.run(scenario)


def test_seqs_and_chunks_go_on_over_any_number_of_owners() -> None:
    """Each successor says first that it is one, and goes on counting where the one before had stopped."""

    async def scenario() -> None:
        async with a_scene() as scene:
            for owner in range(1, 5):
                log = await scene.log()
                await log.append([line(f"{owner}a")])
                await log.append([line(f"{owner}b"), line(f"{owner}c")])

            told = await scene.told()
            assert [event.seq for event in told] == list(range(1, 17))
            assert [chunk.number for chunk in scene.events.written] == list(range(1, 9))
            assert [event.what for event in told[::4]] == [QUEUED, *map(OwnerChanged, (2, 3, 4))]

    virtual_time.run(scenario)


def test_an_owner_that_was_succeeded_appends_nothing_more() -> None:
    """Once the successor has written, the old owner's next append is nobody's, and neither is any later one."""

    async def scenario() -> None:
        async with a_scene() as scene:
            old = await scene.log()
            await old.append([line("a")])
            new = await scene.log()
            await new.append([line("b")])

            for _ in range(2):
                with pytest.raises(LeaseLost):
                    await old.append([line("lost")])
            await new.append([line("c")])

            assert await scene.happenings() == [QUEUED, line("a"), OwnerChanged(2), line("b"), line("c")]

    virtual_time.run(scenario)


def test_an_owner_that_knows_of_its_loss_asks_the_store_no_more() -> None:
    """The claim is somebody else's, so the log is, too."""

    async def scenario() -> None:
        async with a_scene() as scene:
            lease = Lease(a_claim())
            log = Log(scene.update, lease, scene.events, scene.backends.wakeups, ROOM)
            lease.lost = True

            with pytest.raises(LeaseLost):
                await log.append([line("lost")])

            assert not scene.events.asked

    virtual_time.run(scenario)


def test_an_append_is_announced_when_it_is_written() -> None:
    """Whoever is woken by the announcement reads the events."""

    async def scenario() -> None:
        async with a_scene() as scene, scene.backends.wakeups.listen(events_topic(scene.update.id)) as wakeup:
            appending = asyncio.create_task((await scene.log()).append([line("a")]))

            assert await virtual_time.elapsed(wakeup.wait(timedelta(seconds=10))) < 10
            assert line("a") in await scene.happenings()
            await appending

    virtual_time.run(scenario)


def test_times_never_fall() -> None:
    """An owner whose clock is behind that of the one before tells its events at the time of the last one."""

    async def scenario() -> None:
        async with a_scene() as scene:
            ahead = utc_now() + timedelta(hours=1)
            scene.update = replace(scene.update, created_at=ahead)
            for text in ("a", "b"):
                log = await scene.log()
                await log.append([line(text)])

            assert {event.at for event in await scene.told()} == {ahead}

    virtual_time.run(scenario)


def test_what_the_log_tells_of_the_resources_is_found_again() -> None:
    """Each operation as it stands, of however many events, and when it was first heard of."""
    begun = [
        ResourceProgress(f"urn::{n}", "a:b:C", ResourceOperation.CREATE, ResourceState.IN_PROGRESS, NOON)
        for n in range(1500)
    ]
    done = replace(begun[7], state=ResourceState.DONE, ended_at=NOON)

    async def scenario() -> None:
        async with a_scene() as scene:
            log = await scene.log()
            await log.append([line("between"), *map(ResourceChanged, begun)])
            await log.append([ResourceChanged(done), line("after")])

            found = (await (await scene.log()).resources()).all()

            assert found == [*begun[:7], done, *begun[8:]]

    virtual_time.run(scenario)


def test_what_was_handed_over_is_told_before_the_resources_are_looked_up() -> None:
    """Whoever goes on after trouble goes on behind it, and would never hear of it otherwise."""
    begun = ResourceProgress("urn", "a:b:C", ResourceOperation.CREATE, ResourceState.IN_PROGRESS, NOON)

    async def scenario() -> None:
        async with a_scene() as scene:
            log = await scene.log()
            scene.events.faults = [Fault.AWAY]
            appending = asyncio.create_task(log.append([ResourceChanged(begun)], {"at": 1}))
            await asyncio.sleep(1.5)
            appending.cancel()
            await asyncio.wait([appending])
            assert await scene.happenings() == []

            assert (await log.resources()).all() == [begun]

    virtual_time.run(scenario)


# --- the end


def test_the_last_chunk_tells_how_it_has_ended() -> None:
    """It can be read from the log alone, and a successor sees that nothing is left to do."""

    async def scenario() -> None:
        async with a_scene() as scene:
            log, closing = await scene.log(), a_closing(scene.update)
            await log.append([line("a")])

            assert await log.close([FINISHED], closing) == closing == log.closing

            last = await scene.events.last(scene.update.id)
            assert last
            assert (last.closing, last.events[-1].what) == (closing, FINISHED)
            assert (await scene.log()).closing == closing

    virtual_time.run(scenario)


@pytest.mark.parametrize("is_successor", [False, True])
def test_a_closed_log_stays_closed(is_successor: bool) -> None:
    """Nothing can be appended, by nobody; whoever closes it again is told how it had been closed."""

    async def scenario() -> None:
        async with a_scene() as scene:
            log, closing = await scene.log(), a_closing(scene.update)
            await log.close([FINISHED], closing)
            log = await scene.log() if is_successor else log

            with pytest.raises(RuntimeError, match="closed"):
                await log.append([line("late")])
            assert await log.close([FINISHED], a_closing(scene.update, "other")) == closing

            assert await scene.happenings() == [QUEUED, FINISHED]

    virtual_time.run(scenario)


def test_a_refused_closing_can_be_replaced_by_another() -> None:
    """Something else may be taken, such as a smaller one."""

    async def scenario() -> None:
        async with a_scene() as scene:
            log, smaller = await scene.log(), a_closing(scene.update, "small")
            scene.events.faults = [Fault.REFUSED]

            with pytest.raises(StoreRefused):
                await log.close([FINISHED], a_closing(scene.update, "large"))
            assert await log.close([FINISHED], smaller) == smaller

            last = await scene.events.last(scene.update.id)
            assert last
            assert last.closing == smaller
            assert await scene.happenings() == [QUEUED, FINISHED]

    virtual_time.run(scenario)


def test_a_closing_that_was_written_without_an_answer_counts() -> None:
    """Refused when it is tried again, it seems not to be there; but a log ends once."""

    async def scenario() -> None:
        async with a_scene() as scene:
            log, first = await scene.log(), a_closing(scene.update, "first")
            scene.events.faults = [Fault.ANSWER_LOST, Fault.REFUSED]

            with pytest.raises(StoreRefused):
                await log.close([FINISHED], first)
            assert await log.close([FINISHED], a_closing(scene.update, "second")) == first == log.closing

    virtual_time.run(scenario)


# --- stores that are away, and tasks that are cancelled


@pytest.mark.parametrize("fault", [Fault.AWAY, Fault.ANSWER_LOST])
def test_an_outage_delays_an_append_and_loses_nothing(fault: Fault) -> None:
    """It is tried once a pause until the store answers; what had been written is not written twice."""

    async def scenario() -> None:
        async with a_scene() as scene:
            log = await scene.log()
            scene.events.faults = [fault] * 50

            took = await virtual_time.elapsed(log.append([line("a")]))

            assert await scene.happenings() == [QUEUED, line("a")]
            assert took >= 50 * PAUSE.total_seconds()

    virtual_time.run(scenario)


def test_a_store_that_refuses_is_waited_for() -> None:
    """Whatever is wrong with it, Pulumi goes on, and its files keep what it writes."""

    async def scenario() -> None:
        async with a_scene() as scene:
            log = await scene.log()
            scene.events.faults = [Fault.REFUSED] * 10

            await log.append([line("a")])

            assert await scene.happenings() == [QUEUED, line("a")]

    virtual_time.run(scenario)


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("seconds", [0.5, 1.5, 2.5])
def test_a_cancelled_append_is_written_by_the_next(fault: Fault, seconds: float) -> None:
    """What was handed over is told, once and in its place, however far its own append had come."""

    async def scenario() -> None:
        async with a_scene() as scene:
            log = await scene.log()
            scene.events.faults = [fault]
            appending = asyncio.create_task(log.append([line("a")], {"read": 1}))
            await asyncio.sleep(seconds)
            appending.cancel()
            await asyncio.wait([appending])

            assert log.place == {"read": 1}
            await log.append([line("b")])

            assert await scene.happenings() == [QUEUED, line("a"), line("b")]

    virtual_time.run(scenario)


def test_a_cancelled_append_leaves_nothing_under_way() -> None:
    """What the store was asked to write it has written by then, so that a successor finds it."""

    async def scenario() -> None:
        async with a_scene() as scene:
            log = await scene.log()
            appending = asyncio.create_task(log.append([line("a")]))
            await asyncio.sleep(0.5)
            appending.cancel()
            await asyncio.wait([appending])

            assert appending.cancelled()
            assert await scene.happenings() == [QUEUED, line("a")]
            await (await scene.log()).append([line("b")])

    virtual_time.run(scenario)


def test_an_append_that_is_cancelled_while_it_waits_for_its_turn_has_taken_nothing() -> None:
    """Whoever handed it over does so again: the place is the one before."""

    async def scenario() -> None:
        async with a_scene() as scene:
            log = await scene.log()
            first = asyncio.create_task(log.append([line("a")], {"read": 1}))
            second = asyncio.create_task(log.append([line("b")], {"read": 2}))
            await asyncio.sleep(0.5)
            second.cancel()
            await asyncio.wait([first, second])

            assert log.place == {"read": 1}
            assert await scene.happenings() == [QUEUED, line("a")]

    virtual_time.run(scenario)


def test_many_tasks_append_at_once() -> None:
    """Nothing is lost, nothing comes twice, and what one task hands over stays together."""

    async def scenario() -> None:
        async with a_scene() as scene:
            log = await scene.log()

            await asyncio.gather(*(log.append([line(f"{n}a"), line(f"{n}b")]) for n in range(20)))

            told = await scene.told()
            texts = [event.what.text for event in told if isinstance(event.what, LogLine)]
            assert [event.seq for event in told] == list(range(1, 42))
            assert texts == [text for n in range(20) for text in (f"{n}a", f"{n}b")]

    virtual_time.run(scenario)


# --- anything at all


@dataclass(frozen=True)
class Step:
    """A reader reads on and appends that; after so many seconds it is cancelled, or even gone, for a successor."""

    lines: int
    faults: Sequence[Fault]
    cancelled_after: float | None
    succeeded: bool


STEPS = st.builds(
    Step,
    lines=st.integers(1, 4),
    faults=st.lists(st.sampled_from(Fault), max_size=3),
    cancelled_after=st.none() | st.sampled_from([0.0, 0.5, 1.5, 2.5, 3.5, 4.5]),
    succeeded=st.booleans(),
)
SOURCE = [line(f"{n}: {'x' * (n * 7 % 13)}") for n in range(200)]


async def take(log: Log, step: Step) -> None:
    """Append the next lines of the source, from the log's place on."""
    at = log.place.get("at", 0)
    happenings: list[Happening] = [RUNNING, *SOURCE[at : at + step.lines]]
    appending = asyncio.create_task(log.append(happenings, {"at": at + step.lines}))
    if step.cancelled_after is not None:
        await asyncio.sleep(step.cancelled_after)
        appending.cancel()
    await asyncio.wait([appending])
    if not appending.cancelled():
        await appending


async def play(scene: Scene, steps: Iterable[Step], limit: int) -> int:
    """Play the steps and close the log; how many lines were read."""
    log = await scene.log(limit)
    for step in steps:
        scene.events.faults = list(step.faults)
        await take(log, step)
        if step.succeeded:
            log = await scene.log(limit)
    scene.events.faults = []
    await log.close([FINISHED], a_closing(scene.update))
    return cast("int", log.place.get("at", 0))


def size(lines: Iterable[LogLine]) -> int:
    return sum(len(line.text.encode()) + 1 for line in lines)


@settings(database=None, deadline=None, max_examples=150)
@given(steps=st.lists(STEPS, max_size=12))
def test_whatever_happens_each_line_is_told_once(steps: list[Step]) -> None:
    """Outages, lost answers, refusals, cancellations and successors: the log is whole and in order."""

    async def scenario() -> None:
        async with a_scene() as scene:
            read = await play(scene, steps, ROOM)

            told = await scene.told()
            assert [event.seq for event in told] == list(range(1, len(told) + 1))
            assert [what for event in told if isinstance(what := event.what, LogLine)] == SOURCE[:read]
            assert all(earlier.at <= later.at for earlier, later in pairwise(told))
            assert told[0].what == QUEUED
            assert told[-1].what == FINISHED

    virtual_time.run(scenario)


@settings(database=None, deadline=None, max_examples=150)
@given(steps=st.lists(STEPS, max_size=12), limit=st.integers(0, 200))
def test_whatever_happens_what_is_left_out_is_counted(steps: list[Step], limit: int) -> None:
    """The first lines up to the limit and the last of all are told, and how many lie between, of how many bytes."""

    async def scenario() -> None:
        async with a_scene() as scene:
            read = await play(scene, steps, limit)

            told = await scene.happenings()
            lines = [what for what in told if isinstance(what, LogLine)]
            omissions = [what for what in told if isinstance(what, LogOmitted)]
            first = next((n for n in range(read) if size(SOURCE[: n + 1]) > limit), read)
            left_out = read - len(lines)
            assert lines == [*SOURCE[:first], *SOURCE[first + left_out : read]]
            assert omissions == ([LogOmitted(left_out, size(SOURCE[first : first + left_out]))] if first < read else [])
            assert told.count(LogOmissionStarted(limit)) == (first < read)
            owners = len({chunk.nonce for chunk in scene.events.written})
            assert len([what for what in told if isinstance(what, OwnerChanged)]) == owners - 1

    virtual_time.run(scenario)


# --- what is left out


def test_past_its_limit_a_log_leaves_out_lines_up_to_the_last() -> None:
    """It says so once, where it begins and how much it was at the end; what is no line is always told."""

    async def scenario() -> None:
        async with a_scene() as scene:
            log = await scene.log(limit=10)
            long = "x" * (TAIL_BYTES // 2 - 1)
            changed = ResourceChanged(
                ResourceProgress("urn", "a:b:C", ResourceOperation.SAME, ResourceState.DONE, NOON, NOON)
            )

            await log.append([line("1234"), line("56789"), line("over"), changed, line("")])
            for n in range(5):
                await log.append([line(f"{n}{long[1:]}"), RUNNING])
            await log.close([FINISHED], a_closing(scene.update))

            assert await scene.happenings() == [
                *(QUEUED, line("1234"), LogOmissionStarted(10), changed, *[RUNNING] * 5),
                LogOmitted(6, size([line("56789"), line("over"), line("")]) + 3 * TAIL_BYTES // 2),
                *(line(f"{n}{long[1:]}") for n in (3, 4)),
                FINISHED,
            ]

    virtual_time.run(scenario)


def test_lines_that_are_left_out_ask_nothing_of_the_store() -> None:
    """A program that prints without end costs no append; where it was read up to is known all the same."""

    async def scenario() -> None:
        async with a_scene() as scene:
            log = await scene.log(limit=1)
            await log.append([line("over")], {"at": 1})

            for n in range(100):
                await log.append([line("more")], {"at": n + 2})
            assert len(scene.events.asked) == 1
            assert log.place == {"at": 101}

            await log.append([RUNNING])
            assert (await scene.log()).place == {"at": 101}

    virtual_time.run(scenario)


def test_a_line_as_long_as_the_whole_tail_is_its_tail() -> None:
    """However long the last line of all is, it is told."""

    async def scenario() -> None:
        async with a_scene() as scene:
            log = await scene.log(limit=0)
            await log.append([line("first"), line("x" * TAIL_BYTES)])

            await log.close([FINISHED], a_closing(scene.update))

            assert (await scene.happenings())[1:] == [
                *(LogOmissionStarted(0), LogOmitted(1, 6), line("x" * TAIL_BYTES), FINISHED)
            ]

    virtual_time.run(scenario)


def test_a_successor_goes_on_leaving_out() -> None:
    """The limit is that of the log, not of its owner: nothing passes again, and all that was left out is counted."""

    async def scenario() -> None:
        async with a_scene() as scene:
            log = await scene.log(limit=5)
            await log.append([line("1234"), line("over")])
            log = await scene.log(limit=5)
            await log.append([line("last"), RUNNING])
            await log.close([FINISHED], a_closing(scene.update))

            assert await scene.happenings() == [
                *(QUEUED, line("1234"), LogOmissionStarted(5), OwnerChanged(2), RUNNING),
                *(LogOmitted(1, 5), line("last"), FINISHED),
            ]

    virtual_time.run(scenario)
