"""Cancelling and extending: what is asked of an owner, how long the answer waits for it, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from graphql_api.adapters import Backends, open_backends
from graphql_api.domain.errors import BadUserInput, StackUpdateCancelling, StackUpdateEnded, StackUpdateNotFound
from graphql_api.domain.ports import REQUESTS_TOPIC, CancelRequest, ExtendRequest, Request
from graphql_api.domain.records import (
    Cancellation,
    CancellationReason,
    CancellationStage,
    StackUpdate,
    StackUpdateId,
    new_id,
    utc_now,
)
from graphql_api.service.control import PATIENCE, Control
from tests.builders import CANCELLATION, FAILURE, MANIFEST, SECOND, a_stack_update, started
from tests.unit import virtual_time

LIMIT = timedelta(hours=1)
HEEDING = 0.2  # seconds that an owner takes
ASKED = CancelRequest(CancellationReason.ASKED)

Heed = Callable[[StackUpdate, Request], StackUpdate]


@dataclass
class Stage:
    """A stack update and those who want something of its owner."""

    backends: Backends
    update: StackUpdate

    @property
    def control(self) -> Control:
        return Control(self.backends.updates, self.backends.requests, self.backends.wakeups, LIMIT)

    async def save(self, update: StackUpdate) -> None:
        await self.backends.updates.save(update)
        self.update = update
        await self.backends.wakeups.announce(update.id)

    async def asked(self) -> list[CancelRequest | ExtendRequest]:
        """What waits for the owner."""
        requests = await self.backends.requests.open(100)
        assert {request.update_id for request in requests} <= {self.update.id}
        return [request.what for request in requests]

    @asynccontextmanager
    async def owner(self, heed: Heed) -> AsyncIterator[None]:
        """Somebody who heeds one request, a little after it is made."""

        async def own() -> None:
            async with self.backends.wakeups.listen(REQUESTS_TOPIC) as wakeup:
                while not (requests := await self.backends.requests.open(1)):
                    await wakeup.wait()
                await asyncio.sleep(HEEDING)
                await self.save(heed(self.update, requests[0]))
                await self.backends.requests.settle(requests[0].id)

        owning = asyncio.create_task(own())
        await asyncio.sleep(0)
        try:
            yield
            await owning
        finally:
            owning.cancel()


@asynccontextmanager
async def a_stage(*revisions: StackUpdate) -> AsyncIterator[Stage]:
    async with open_backends("sqlite:///:memory:") as backends:
        await backends.updates.insert(revisions[0], MANIFEST)
        for revision in revisions[1:]:
            await backends.updates.save(revision)
        yield Stage(backends, revisions[-1])


def on_the_way() -> list[StackUpdate]:
    update = a_stack_update()
    return [update, started(update), started(update).running(utc_now())]


def being_cancelled(stage: CancellationStage = CancellationStage.INTERRUPTED) -> list[StackUpdate]:
    *before, running = on_the_way()
    return [*before, running, running.cancelling(utc_now(), replace(CANCELLATION, stage=stage))]


def to_cancelling(update: StackUpdate, _: Request) -> StackUpdate:
    began = Cancellation(utc_now(), CancellationReason.ASKED)
    return update.cancelling(utc_now(), replace(began, stage=CancellationStage.INTERRUPTED))


def to_terminated(update: StackUpdate, _: Request) -> StackUpdate:
    assert update.cancellation
    return update.cancelling(utc_now(), replace(update.cancellation, stage=CancellationStage.TERMINATED))


def to_cancelled(update: StackUpdate, _: Request) -> StackUpdate:
    return update.cancelled(utc_now())


def to_extended(update: StackUpdate, request: Request) -> StackUpdate:
    assert isinstance(request.what, ExtendRequest)
    return update.extended(utc_now(), request.what.timeout)


# --- cancelling


def test_cancelling_answers_once_the_first_step_is_taken() -> None:
    """The answer shows the stage, and comes as soon as that is there."""

    async def scenario() -> None:
        async with a_stage(*on_the_way()) as stage, stage.owner(to_cancelling):
            clock = asyncio.get_running_loop().time
            began = clock()
            answered = await stage.control.cancel(stage.update.id)
            assert clock() - began == pytest.approx(HEEDING)
            assert answered == stage.update
            assert answered.cancellation is not None

    virtual_time.run(scenario)


def test_cancelling_a_queued_update_answers_with_its_end() -> None:
    """It ends at once, so the answer shows it ended."""

    async def scenario() -> None:
        async with a_stage(a_stack_update()) as stage, stage.owner(to_cancelled):
            assert (await stage.control.cancel(stage.update.id)).ended

    virtual_time.run(scenario)


def test_an_owner_that_does_not_answer_is_not_waited_for_long() -> None:
    """After three seconds the record is answered as it is; the request stays for the owner."""

    async def scenario() -> None:
        async with a_stage(*on_the_way()) as stage:
            cancelling = asyncio.create_task(stage.control.cancel(stage.update.id))
            assert await virtual_time.elapsed(cancelling) == pytest.approx(PATIENCE.total_seconds())
            assert cancelling.result() == stage.update
            assert await stage.asked() == [ASKED]

    virtual_time.run(scenario)


def test_what_nobody_announces_is_found_while_waiting() -> None:
    """A lost announcement costs a second at most."""

    async def scenario() -> None:
        async with a_stage(*on_the_way()) as stage:
            cancelling = asyncio.create_task(stage.control.cancel(stage.update.id))
            await asyncio.sleep(HEEDING)
            await stage.backends.updates.save(stage.update.cancelling(utc_now(), CANCELLATION))
            assert await virtual_time.elapsed(cancelling) <= 1
            assert cancelling.result().cancellation == CANCELLATION

    virtual_time.run(scenario)


def test_cancelling_again_asks_for_nothing() -> None:
    """The record is answered at once, and no request is made."""

    async def scenario() -> None:
        async with a_stage(*being_cancelled()) as stage:
            cancelling = asyncio.create_task(stage.control.cancel(stage.update.id))
            assert await virtual_time.elapsed(cancelling) == 0
            assert cancelling.result() == stage.update
            assert await stage.asked() == []

    virtual_time.run(scenario)


def test_force_answers_once_the_next_step_is_taken() -> None:
    """What is being cancelled already is hastened; the answer shows the stage that it has come to."""

    async def scenario() -> None:
        async with a_stage(*being_cancelled()) as stage, stage.owner(to_terminated):
            answered = await stage.control.cancel(stage.update.id, force=True)
            assert answered == stage.update
            assert answered.cancellation
            assert answered.cancellation.stage is CancellationStage.TERMINATED

    virtual_time.run(scenario)


def test_force_that_nobody_heeds_stays_asked() -> None:
    """The record is answered as it is after three seconds, and the request stays for the owner."""

    async def scenario() -> None:
        async with a_stage(*being_cancelled()) as stage:
            cancelling = asyncio.create_task(stage.control.cancel(stage.update.id, force=True))
            assert await virtual_time.elapsed(cancelling) == pytest.approx(PATIENCE.total_seconds())
            assert cancelling.result() == stage.update
            assert await stage.asked() == [replace(ASKED, force=True)]

    virtual_time.run(scenario)


def test_force_beyond_the_last_stage_asks_for_nothing() -> None:
    """Nothing comes after SIGKILL."""

    async def scenario() -> None:
        async with a_stage(*being_cancelled(CancellationStage.KILLED)) as stage:
            assert await stage.control.cancel(stage.update.id, force=True) == stage.update
            assert await stage.asked() == []

    virtual_time.run(scenario)


# --- extending


def test_extending_answers_once_the_owner_has_done_it() -> None:
    """The answer shows the new time."""

    async def scenario() -> None:
        async with a_stage(*on_the_way()) as stage, stage.owner(to_extended):
            answered = await stage.control.extend(stage.update.id, timedelta(seconds=900))
            assert answered == stage.update
            assert answered.timeout == timedelta(seconds=900)

    virtual_time.run(scenario)


def test_no_more_is_asked_for_than_the_limit() -> None:
    """A longer time is cut to it, and waited for as that."""

    async def scenario() -> None:
        async with a_stage(a_stack_update()) as stage, stage.owner(to_extended):
            assert (await stage.control.extend(stage.update.id, 100 * LIMIT)).timeout == LIMIT

    virtual_time.run(scenario)


@pytest.mark.parametrize(
    ("now", "asked", "words"),
    [
        (600, 600, "more than the 600 that it has now, and at most 3600; it is 600"),
        (600, 10, "it is 10"),
        (3600, 4000, "is 3600 already, which is the most that this server gives"),
        (7200, 4000, "is 7200 already"),
    ],
)
def test_less_or_as_much_as_now_is_bad_input(now: int, asked: int, words: str) -> None:
    """The refusal names the argument and says what there is; no request is made."""

    async def scenario() -> None:
        async with a_stage(a_stack_update(timeout=now * SECOND)) as stage:
            with pytest.raises(BadUserInput, match=words) as refused:
                await stage.control.extend(stage.update.id, asked * SECOND)
            assert refused.value.argument == "timeoutSeconds"
            assert await stage.asked() == []

    virtual_time.run(scenario)


def test_what_is_being_cancelled_is_not_extended() -> None:
    """Also where it has been asked to end only after the request was made: then nobody waits for more time."""

    async def scenario() -> None:
        async with a_stage(*being_cancelled()) as stage:
            with pytest.raises(StackUpdateCancelling) as refused:
                await stage.control.extend(stage.update.id, LIMIT)
            assert refused.value.stack_update == stage.update
            assert await stage.asked() == []
        async with a_stage(*on_the_way()) as stage, stage.owner(to_cancelling):
            extending = asyncio.create_task(stage.control.extend(stage.update.id, LIMIT))
            assert await virtual_time.elapsed(extending) == pytest.approx(HEEDING)
            assert extending.result() == stage.update

    virtual_time.run(scenario)


# --- what can't be asked


Ask = Callable[[Control, StackUpdateId], Awaitable[StackUpdate]]
ASKS: list[Ask] = [
    lambda control, id_: control.cancel(id_),
    lambda control, id_: control.cancel(id_, force=True),
    lambda control, id_: control.extend(id_, LIMIT),
]


@pytest.mark.parametrize("ask", ASKS, ids=["cancel", "force", "extend"])
def test_nothing_is_asked_about_what_has_ended_or_never_was(ask: Ask) -> None:
    """The refusals are typed, carry the record, and no request is made."""

    async def scenario() -> None:
        update = a_stack_update()
        async with a_stage(update, update.failed(utc_now(), FAILURE)) as stage:
            with pytest.raises(StackUpdateEnded) as ended:
                await ask(stage.control, update.id)
            assert ended.value.stack_update == stage.update
            unknown = StackUpdateId(new_id(utc_now()))
            with pytest.raises(StackUpdateNotFound, match=unknown):
                await ask(stage.control, unknown)
            assert await stage.asked() == []

    virtual_time.run(scenario)


def test_an_end_before_the_request_is_heeded_is_answered() -> None:
    """Whoever asks something of what ends at that moment is shown its end."""

    async def scenario() -> None:
        for ask in ASKS:
            async with (
                a_stage(*on_the_way()) as stage,
                stage.owner(lambda update, _: update.failed(utc_now(), FAILURE)),
            ):
                assert (await ask(stage.control, stage.update.id)).ended

    virtual_time.run(scenario)
