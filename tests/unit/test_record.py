"""Writing a stack update's record: first to the store, then to the listeners, and never once the stack is lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol, cast

import pytest

from graphql_api.adapters import Backends, open_backends
from graphql_api.domain.errors import StoreRefused, StoreUnavailable
from graphql_api.domain.ports import UpdateStore
from graphql_api.domain.records import (
    Failure,
    FailureKind,
    StackOutput,
    StackUpdate,
    Status,
    Tail,
    utc_now,
)
from runners.lease import Lease
from runners.outcome import Outcome
from runners.record import LONGEST_PAUSE, PAUSE, LeaseLost, Record, persistently
from tests.builders import MANIFEST, a_claim, a_stack_update
from tests.unit import virtual_time


class Saves(Protocol):
    """All that a record does with its store."""

    async def save(self, update: StackUpdate, output: str | None = None) -> None: ...


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
) -> AsyncIterator[tuple[Record, Lease, Backends]]:
    """The record of a deployment that is being prepared."""
    async with open_backends("sqlite:///:memory:") as backends:
        update = a_stack_update()
        await backends.updates.insert(update, MANIFEST)
        lease = Lease(a_claim())
        started = update.started(utc_now())
        await backends.updates.save(started)
        yield Record(started, lease, cast("UpdateStore", store(backends.updates)), backends.wakeups), lease, backends


def test_a_change_is_stored_and_then_announced() -> None:
    """Whoever is woken by the announcement reads the change."""

    async def scenario() -> None:
        async with a_record() as (record, _, backends), backends.wakeups.listen(record.update.id) as wakeup:
            changed = record.update.running(utc_now())

            await record.save(changed)

            assert await virtual_time.elapsed(wakeup.wait()) == 0
            assert await backends.updates.get(changed.id) == changed == record.update

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


def test_what_is_done_persistently_gives_the_answer() -> None:
    """The first answer counts; an error that is no outage is raised at once."""

    async def scenario() -> None:
        answers: list[int | Exception] = [ValueError("a defect"), 42, *[StoreUnavailable("away")] * 2]

        async def ask() -> int:
            answer = answers.pop()
            if isinstance(answer, Exception):
                raise answer
            return answer

        assert await persistently(ask) == 42
        assert asyncio.get_running_loop().time() == pytest.approx(2 * PAUSE.total_seconds())
        with pytest.raises(ValueError, match="a defect"):
            await persistently(ask)

    virtual_time.run(scenario)


def test_the_record_of_another_revision_is_refused_by_the_store() -> None:
    """Leaving out a revision is a conflict too: no change goes unseen."""

    async def scenario() -> None:
        async with a_record() as (record, _, _backends):
            with pytest.raises(LeaseLost):
                await record.save(replace(record.update.running(utc_now()), revision=9))

    virtual_time.run(scenario)


@dataclass
class Refusing:
    """An update store that refuses some saves: those with outputs of the stack, or the first few."""

    store: UpdateStore
    refused: Callable[[StackUpdate], bool]
    asked: int = 0

    async def save(self, update: StackUpdate, output: str | None = None) -> None:
        self.asked += 1
        if self.refused(update):
            raise StoreRefused("The document is too large.")
        await self.store.save(update, output)


def test_an_outcome_that_the_store_refuses_is_recorded_without_its_texts() -> None:
    """That the deployment ended, and with which status, is known; the record has no other owner who could say it."""

    async def scenario() -> None:
        async with a_record(lambda store: Refusing(store, lambda update: bool(update.stack_outputs))) as (
            record,
            _,
            them,
        ):
            await record.finish(Outcome(None, 0, (StackOutput("url", "x"),), Tail("a text that is too large")))

            ended = await them.updates.get(record.update.id)
            assert ended
            assert ended.failure
            assert (ended.status, ended.failure.kind, ended.exit_code) == (Status.FAILED, FailureKind.INTERNAL, 0)
            assert "too large" not in (await them.updates.output(record.update.id) or "")

    virtual_time.run(scenario)


def test_a_store_that_refuses_everything_for_a_while_gets_the_whole_outcome() -> None:
    """The record's owner keeps it until an operator has made room, with growing pauses, and nothing is lost."""

    async def scenario() -> None:
        start = asyncio.get_running_loop().time()

        def refused(_: StackUpdate) -> bool:
            return asyncio.get_running_loop().time() < start + 3600

        async with a_record(lambda store: Refusing(store, refused)) as (record, _, them):
            took = await virtual_time.elapsed(record.finish(Outcome(None, 0, (StackOutput("url", "x"),))))

            ended = await them.updates.get(record.update.id)
            assert ended
            assert (ended.status, ended.stack_outputs) == (Status.SUCCESS, (StackOutput("url", "x"),))
            assert 3600 <= took <= 3600 + LONGEST_PAUSE.total_seconds()

    virtual_time.run(scenario)
