"""Writing a stack update's record: first to its log, then to the store, then to the listeners, and never once the
stack is lost.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol, cast

import pytest

from graphql_api.adapters import Backends, open_backends
from graphql_api.domain.errors import StoreRefused, StoreUnavailable
from graphql_api.domain.events import CancellationChanged, Happening, LogLine, StatusChanged, Stream
from graphql_api.domain.ports import Chunk, Closing, EventLog, UpdateStore
from graphql_api.domain.progress import Progress, ProgressCount, ResourceOperation, ResourceState
from graphql_api.domain.records import (
    Cancellation,
    CancellationReason,
    CancellationStage,
    Diagnostic,
    Ending,
    Failure,
    FailureKind,
    MoveRefused,
    Phase,
    StackOutput,
    StackUpdate,
    StackUpdateId,
    Status,
    Tail,
    utc_now,
)
from runners.lease import Lease, LeaseLost
from runners.log import Log
from runners.outcome import Outcome
from runners.patience import LONGEST_PAUSE, PAUSE
from runners.record import Record
from tests.builders import MANIFEST, a_claim, a_stack_update
from tests.unit import virtual_time

PROGRESS = Progress((ProgressCount(ResourceOperation.CREATE, ResourceState.DONE, 3),), total=5)


class Saves(Protocol):
    """All that a record does with its store."""

    async def save(self, update: StackUpdate, output: str | None = None) -> None: ...


class Appends(Protocol):
    """All that a record's log does with its store while nobody reads it."""

    async def append(self, chunk: Chunk) -> bool: ...

    async def last(self, update_id: StackUpdateId) -> Chunk | None: ...


@dataclass
class Away:
    """An update store that is away for some calls of ``save``; with ``takes_effect`` only their answers are lost."""

    store: UpdateStore
    calls: int
    takes_effect: bool = False

    async def save(self, update: StackUpdate, output: str | None = None) -> None:
        self.calls -= 1
        if self.calls < 0 or self.takes_effect:
            await self.store.save(update, output)
        if self.calls >= 0:
            raise StoreUnavailable("The database did not answer.")


@asynccontextmanager
async def a_record(
    store: Callable[[UpdateStore], Saves] = lambda store: store,
    log: Callable[[EventLog], Appends] = lambda events: events,
) -> AsyncIterator[tuple[Record, Lease, Backends]]:
    """The record of a deployment that is being prepared."""
    async with open_backends("sqlite:///:memory:") as backends:
        update = a_stack_update()
        await backends.updates.insert(update, MANIFEST)
        lease = Lease(a_claim())
        started = update.started(utc_now())
        await backends.updates.save(started)
        events = Log(started, lease, cast("EventLog", log(backends.events)), backends.wakeups, limit=1024)
        yield (
            Record(started, lease, cast("UpdateStore", store(backends.updates)), backends.wakeups, events),
            lease,
            backends,
        )


async def told(record: Record, backends: Backends) -> list[Happening]:
    """What its log tells since it had been queued."""
    page = await backends.events.read(record.update.id, 1, 100)
    return [event.what for event in page.events]


def test_a_change_is_told_and_stored_and_then_announced() -> None:
    """Whoever is woken by the announcement reads the change, and finds its phase in the log."""

    async def scenario() -> None:
        async with a_record() as (record, _, backends), backends.wakeups.listen(record.update.id) as wakeup:
            before = record.update

            await record.change(StackUpdate.running)

            assert await virtual_time.elapsed(wakeup.wait()) == 0
            assert await backends.updates.get(before.id) == record.update == before.running(record.update.updated_at)
            assert await told(record, backends) == [StatusChanged(Status.IN_PROGRESS, Phase.RUNNING)]

    virtual_time.run(scenario)


def test_what_happened_is_told_after_the_phase_it_led_to() -> None:
    """A change that leaves the phase as it is tells only what happened."""
    begun = Cancellation(utc_now(), CancellationReason.ASKED)
    further = replace(begun, stage=CancellationStage.INTERRUPTED)

    async def scenario() -> None:
        async with a_record() as (record, _, backends):
            for cancellation in (begun, further):
                change = partial(StackUpdate.cancelling, cancellation=cancellation)
                await record.change(change, CancellationChanged(cancellation))

            assert await told(record, backends) == [
                StatusChanged(Status.IN_PROGRESS, Phase.CANCELLING),
                CancellationChanged(begun),
                CancellationChanged(further),
            ]
            assert record.update.cancellation == further

    virtual_time.run(scenario)


def test_a_change_that_changes_nothing_is_neither_told_nor_stored() -> None:
    """Whether there is anything to change is decided when it is one's turn."""

    async def scenario() -> None:
        async with a_record() as (record, _, backends), backends.wakeups.listen(record.update.id) as wakeup:
            before = record.update

            await record.change(lambda update, _: update, LogLine(Stream.STDOUT, "never"))

            assert await backends.updates.get(before.id) == before == record.update
            assert await told(record, backends) == []
            assert await virtual_time.elapsed(wakeup.wait(timedelta(seconds=5))) == 5

    virtual_time.run(scenario)


def test_changes_of_many_tasks_are_made_one_after_the_other() -> None:
    """Each changes the record as it is by then; none is lost."""

    async def scenario() -> None:
        async with a_record() as (record, _, backends):

            def longer(update: StackUpdate, now: datetime) -> StackUpdate:
                return update.extended(now, update.timeout + timedelta(seconds=1))

            before = record.update
            await asyncio.gather(*(record.change(longer) for _ in range(20)))

            stored = await backends.updates.get(before.id)
            assert stored
            assert stored.timeout == before.timeout + timedelta(seconds=20)
            assert stored.revision == before.revision + 20

    virtual_time.run(scenario)


@pytest.mark.parametrize("takes_effect", [False, True])
def test_a_cancelled_change_does_not_come_apart_from_the_next(takes_effect: bool) -> None:
    """What is stored and what is known of it agree: the next change finds it saved, or saves it first."""

    async def scenario() -> None:
        async with a_record(lambda store: Away(store, 1, takes_effect)) as (record, _, backends):
            changing = asyncio.create_task(record.change(StackUpdate.running))
            await asyncio.sleep(PAUSE.total_seconds() / 2)
            changing.cancel()
            await asyncio.wait([changing])

            await record.change(lambda update, now: update.progressed(now, PROGRESS, ()))

            stored = await backends.updates.get(record.update.id)
            assert stored
            assert (stored.phase, stored.progress) == (Phase.RUNNING, PROGRESS)

    virtual_time.run(scenario)


def test_a_change_that_is_not_allowed_leaves_the_record_as_it_is() -> None:
    """It is told nowhere, and others can change the record."""

    async def scenario() -> None:
        async with a_record() as (record, _, backends):
            await record.change(StackUpdate.recording)
            with pytest.raises(MoveRefused):
                await record.change(StackUpdate.running)
            await record.finish(Outcome(None, 0))

            assert await told(record, backends) == [
                StatusChanged(Status.IN_PROGRESS, Phase.RECORDING),
                StatusChanged(Status.SUCCESS, Phase.FINISHED),
            ]

    virtual_time.run(scenario)


def test_a_store_that_refuses_a_change_is_waited_for() -> None:
    """A deployment goes on, and what is known of it is stored once an operator has made that possible."""

    async def scenario() -> None:
        async with a_record(lambda store: Refusing(store, until(300))) as (record, _, backends):
            await record.change(StackUpdate.running)

            stored = await backends.updates.get(record.update.id)
            assert stored
            assert stored.phase is Phase.RUNNING
            assert 300 <= asyncio.get_running_loop().time() <= 300 + LONGEST_PAUSE.total_seconds()

    virtual_time.run(scenario)


def test_a_success_is_recorded_with_outputs_and_output() -> None:
    """All that the outcome says stands in the record, and the seed's JSON beside it."""

    async def scenario() -> None:
        async with a_record() as (record, _, backends):
            outcome = Outcome(None, 0, (StackOutput("url", "x"),), Tail("out", truncated=True), Tail("err"))

            await record.finish(outcome)

            ended = await backends.updates.get(record.update.id)
            output = json.loads(await backends.updates.output(record.update.id) or "")
            assert ended == record.update
            assert (ended.status, ended.exit_code, ended.stack_outputs) == (
                Status.SUCCESS,
                0,
                (StackOutput("url", "x"),),
            )
            assert (output["status"], output["stdout"], output["stderr"]) == ("success", "out", "err")
            assert output["stdout_truncated"] is True

    virtual_time.run(scenario)


def test_the_log_ends_with_what_the_record_is_to_be() -> None:
    """Record and output can be made from it."""

    async def scenario() -> None:
        async with a_record() as (record, _, backends):
            await record.finish(Outcome(None, 0, (StackOutput("url", "x"),), Tail("out")))

            last = await backends.events.last(record.update.id)
            output = await backends.updates.output(record.update.id)
            assert last
            assert last.closing == Closing(record.update, output or "")
            assert last.events[-1].what == StatusChanged(Status.SUCCESS, Phase.FINISHED)

    virtual_time.run(scenario)


def test_a_deployment_that_was_cancelled_is_recorded_as_such() -> None:
    """Without a failure, with what had been done, and with how it was ended: no stage follows any more."""
    cancellation = Cancellation(
        utc_now(), CancellationReason.ASKED, CancellationStage.TERMINATED, utc_now() + timedelta(seconds=9)
    )

    async def scenario() -> None:
        async with a_record() as (record, _, backends):
            await record.finish(Outcome(None, 255, cancelled=True, lock_left=True), PROGRESS, cancellation)

            ended = await backends.updates.get(record.update.id)
            output = json.loads(await backends.updates.output(record.update.id) or "")
            assert ended
            assert (ended.status, ended.failure, ended.exit_code) == (Status.CANCELLED, None, 255)
            assert ended.progress == PROGRESS
            assert ended.cancellation == replace(cancellation, next_stage_at=None, lock_left=True)
            assert (output["status"], output["exit_code"]) == ("cancelled", 255)
            assert "cancelled" in output["error"]

    virtual_time.run(scenario)


def test_progress_and_cancellation_that_were_recorded_stay() -> None:
    """Whoever finishes the record need not know them."""
    cancellation = Cancellation(utc_now(), CancellationReason.ASKED)

    async def scenario() -> None:
        async with a_record() as (record, _, _backends):
            await record.change(lambda update, now: update.progressed(now, PROGRESS, ()))
            await record.change(partial(StackUpdate.cancelling, cancellation=cancellation))
            await record.finish(Outcome(None, 0))

            assert (record.update.status, record.update.progress) == (Status.SUCCESS, PROGRESS)
            assert record.update.cancellation == cancellation

    virtual_time.run(scenario)


@pytest.mark.parametrize("is_saved", [False, True])
def test_an_end_that_the_log_tells_is_the_records(is_saved: bool) -> None:
    """An owner that died after it had closed the log decided it; whether it came to write the record or not."""

    async def scenario() -> None:
        async with a_record() as (record, _, backends):
            ended = record.update.succeeded(record.now(), Ending(0))
            await record.log.close([StatusChanged(ended.status, ended.phase)], Closing(ended, "its output"))
            if is_saved:
                await backends.updates.save(ended, "its output")
            lease = Lease(a_claim(epoch=2))
            log = Log(record.update, lease, backends.events, backends.wakeups, limit=1024)
            await log.open()

            successor = Record(record.update, lease, backends.updates, backends.wakeups, log)
            await successor.finish(Outcome(Failure(FailureKind.WORKER_LOST, "It was lost.")))

            assert await backends.updates.get(ended.id) == ended
            assert await backends.updates.output(ended.id) == "its output"

    virtual_time.run(scenario)


def test_a_failure_is_recorded_with_its_reason() -> None:
    """Kind, sentence, exit status and what outputs there were stand in the record."""

    async def scenario() -> None:
        async with a_record() as (record, _, backends):
            failure = Failure(FailureKind.RESOURCE_ERROR, "It could not be deployed.", retryable=True)

            await record.finish(Outcome(failure, 255, (StackOutput("url", "x"),)))

            ended = await backends.updates.get(record.update.id)
            output = json.loads(await backends.updates.output(record.update.id) or "")
            assert ended
            assert (ended.status, ended.failure, ended.exit_code) == (Status.FAILED, failure, 255)
            assert ended.stack_outputs == (StackOutput("url", "x"),)
            assert (output["status"], output["error"], output["exit_code"]) == ("failed", failure.message, 255)

    virtual_time.run(scenario)


@pytest.mark.parametrize("takes_effect", [False, True])
def test_an_outage_delays_the_record_and_loses_nothing(takes_effect: bool) -> None:
    """The store is asked again, once a pause, until it answers; a save that had taken effect is no conflict."""

    async def scenario() -> None:
        async with a_record(lambda store: Away(store, 100, takes_effect)) as (record, _, backends):
            took = await virtual_time.elapsed(record.finish(Outcome(None, 0)))

            ended = await backends.updates.get(record.update.id)
            assert ended
            assert ended.status is Status.SUCCESS
            assert took == pytest.approx(100 * PAUSE.total_seconds())

    virtual_time.run(scenario)


def test_after_the_lease_is_lost_nothing_is_written() -> None:
    """Somebody else's record is left alone, nothing is announced, and the loss is told."""

    async def scenario() -> None:
        async with a_record() as (record, lease, backends), backends.wakeups.listen(record.update.id) as wakeup:
            before = record.update
            lease.lost = True

            with pytest.raises(LeaseLost):
                await record.finish(Outcome(None, 0))

            assert await backends.updates.get(before.id) == before == record.update
            assert await backends.events.last(before.id) is None
            assert await virtual_time.elapsed(wakeup.wait(timedelta(seconds=5))) == 5

    virtual_time.run(scenario)


def test_a_lease_that_is_lost_during_an_outage_ends_the_waiting() -> None:
    """Once the stack is somebody else's there is nothing left to wait for."""

    async def scenario() -> None:
        async with a_record(lambda store: Away(store, 10**9)) as (record, lease, _):
            finishing = asyncio.create_task(record.finish(Outcome(None, 0)))
            await asyncio.sleep(60)
            lease.lost = True

            with pytest.raises(LeaseLost):
                await finishing

    virtual_time.run(scenario)


def test_a_record_that_somebody_else_changed_is_left_to_them() -> None:
    """A conflict of revisions means that they write from here on."""

    async def scenario() -> None:
        async with a_record() as (record, _, backends):
            theirs = record.update.failed(utc_now(), Failure(FailureKind.WORKER_LOST, "It was lost."))
            await backends.updates.save(theirs)

            with pytest.raises(LeaseLost):
                await record.finish(Outcome(None, 0))

            assert await backends.updates.get(theirs.id) == theirs

    virtual_time.run(scenario)


def test_the_record_of_another_revision_is_refused_by_the_store() -> None:
    """Leaving out a revision is a conflict too: no change goes unseen."""

    async def scenario() -> None:
        async with a_record() as (record, _, _backends):
            with pytest.raises(LeaseLost):
                await record.change(lambda update, now: replace(update.running(now), revision=9))

    virtual_time.run(scenario)


@dataclass
class Refusing:
    """An update store that refuses some saves."""

    store: UpdateStore
    refused: Callable[[StackUpdate], bool]

    async def save(self, update: StackUpdate, output: str | None = None) -> None:
        if self.refused(update):
            raise StoreRefused("The document is too large.")
        await self.store.save(update, output)


@dataclass
class RefusingLog:
    """A store of logs that refuses some closings."""

    events: EventLog
    refused: Callable[[StackUpdate], bool]

    async def append(self, chunk: Chunk) -> bool:
        if chunk.closing and self.refused(chunk.closing.update):
            raise StoreRefused("The document is too large.")
        return await self.events.append(chunk)

    async def last(self, update_id: StackUpdateId) -> Chunk | None:
        return await self.events.last(update_id)


def with_outputs(update: StackUpdate) -> bool:
    return bool(update.stack_outputs)


def until(seconds: float) -> Callable[[StackUpdate], bool]:
    """True for all up to this time of the loop."""
    return lambda _: asyncio.get_running_loop().time() < seconds


@pytest.mark.parametrize("cancelled", [False, True])
def test_an_outcome_that_the_log_refuses_is_recorded_without_its_texts(cancelled: bool) -> None:
    """That the deployment ended, and with which status, is known; the record has no other owner who could say it."""

    async def scenario() -> None:
        async with a_record(log=lambda events: RefusingLog(events, with_outputs)) as (record, _, them):
            await record.finish(
                Outcome(None, 0, (StackOutput("url", "x"),), Tail("a text that is too large"), cancelled=cancelled)
            )

            ended = await them.updates.get(record.update.id)
            assert ended
            assert ended.exit_code == 0
            if cancelled:
                assert (ended.status, ended.failure) == (Status.CANCELLED, None)
            else:
                assert ended.failure
                assert (ended.status, ended.failure.kind) == (Status.FAILED, FailureKind.INTERNAL)
            assert "too large" not in (await them.updates.output(record.update.id) or "")
            assert (await told(record, them))[-1] == StatusChanged(ended.status, Phase.FINISHED)

    virtual_time.run(scenario)


@pytest.mark.parametrize("failure", [None, Failure(FailureKind.TIMEOUT, "Too long.", True, (Diagnostic("long"),))])
def test_a_record_that_the_store_refuses_is_stored_without_its_texts(failure: Failure | None) -> None:
    """Its log is closed by then: status and reason are those that it tells, and the output says what is missing."""

    async def scenario() -> None:
        async with a_record(lambda store: Refusing(store, with_outputs)) as (record, _, them):
            await record.finish(Outcome(failure, 7, (StackOutput("url", "x"),), Tail("a text that is too large")))

            ended = await them.updates.get(record.update.id)
            output = json.loads(await them.updates.output(record.update.id) or "")
            assert ended
            assert (ended.exit_code, ended.failure) == (7, failure and replace(failure, diagnostics=()))
            assert (await told(record, them))[-1] == StatusChanged(ended.status, Phase.FINISHED)
            assert (output["stdout"], output["exit_code"]) == ("", 7)
            assert output["stderr"].startswith("stackcast: ")

    virtual_time.run(scenario)


@pytest.mark.parametrize("is_log", [True, False])
def test_a_store_that_refuses_everything_for_a_while_gets_the_whole_outcome(is_log: bool) -> None:
    """The record's owner keeps it until an operator has made room, with growing pauses, and nothing is lost."""

    async def scenario() -> None:
        refused = until(3600)

        async with (
            a_record(log=lambda events: RefusingLog(events, refused))
            if is_log
            else a_record(lambda store: Refusing(store, refused))
        ) as (record, _, them):
            took = await virtual_time.elapsed(record.finish(Outcome(None, 0, (StackOutput("url", "x"),))))

            ended = await them.updates.get(record.update.id)
            assert ended
            assert (ended.status, ended.stack_outputs) == (Status.SUCCESS, (StackOutput("url", "x"),))
            assert 3600 <= took <= 3600 + LONGEST_PAUSE.total_seconds()

    virtual_time.run(scenario)
