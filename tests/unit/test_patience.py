"""Trying again, bringing to an end what must not be left half done, and doing things beside one another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from itertools import islice, pairwise

import pytest

from graphql_api.domain.errors import StoreRefused, StoreUnavailable
from runners.lease import LeaseLost
from runners.patience import LONGEST_PAUSE, PAUSE, beside, insistently, pauses, persistently, to_the_end
from tests.unit import virtual_time


class Asked:
    """Who answers in turn, or raises, and knows when they were asked."""

    def __init__(self, *answers: int | Exception) -> None:
        self._answers = list(answers)
        self.times: list[float] = []

    async def __call__(self) -> int:
        self.times.append(asyncio.get_running_loop().time())
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


AWAY, REFUSED = StoreUnavailable("away"), StoreRefused("read-only")


# --- trying again


def test_pauses_grow_up_to_a_limit() -> None:
    """Each is twice the one before: what an operator has to correct takes its time."""
    first = list(islice(pauses(), 10))

    assert first[0] == PAUSE
    assert all(later == min(2 * earlier, LONGEST_PAUSE) for earlier, later in pairwise(first))
    assert first[-1] == LONGEST_PAUSE


def test_what_is_done_persistently_gives_the_answer() -> None:
    """The first answer counts; an error that is no outage is raised at once."""

    async def scenario() -> None:
        ask = Asked(AWAY, AWAY, 42, ValueError("a defect"))

        assert await persistently(ask) == 42
        assert ask.times == [pytest.approx(n * PAUSE.total_seconds()) for n in range(3)]
        with pytest.raises(ValueError, match="a defect"):
            await persistently(ask)

    virtual_time.run(scenario)


def test_what_is_done_insistently_is_tried_again_whatever_was_wrong(caplog: pytest.LogCaptureFixture) -> None:
    """With growing pauses, since an operator may be needed, and with the reason in the log each time."""

    async def scenario() -> None:
        ask = Asked(REFUSED, ValueError("a defect"), REFUSED, 42)

        assert await insistently("storing it", ask) == 42
        assert ask.times == [pytest.approx(time) for time in (0, 1, 1 + 2, 1 + 2 + 4)]

    with caplog.at_level(logging.ERROR):
        virtual_time.run(scenario)
    assert [record.message for record in caplog.records] == ["storing it was refused; it is tried again"] * 3
    assert "a defect" in caplog.text


def test_another_way_is_gone_at_once_where_the_first_is_refused() -> None:
    """And the first again after a pause, where the other is refused, too. An outage is waited for on the way."""

    async def scenario() -> None:
        first, second = Asked(REFUSED, AWAY, REFUSED), Asked(REFUSED, 42)

        assert await insistently("storing it", first, second) == 42
        assert first.times == [pytest.approx(time) for time in (0, 1, 2)]
        assert second.times == [pytest.approx(time) for time in (0, 2)]

    virtual_time.run(scenario)


def test_nobody_insists_on_what_is_somebody_elses() -> None:
    """The loss of the lease is told at once, and no other way is tried."""

    async def scenario() -> None:
        other = Asked()

        with pytest.raises(LeaseLost):
            await insistently("storing it", Asked(LeaseLost("lost")), other)

        assert not other.times

    virtual_time.run(scenario)


# --- to the end


async def tell(said: list[str], word: str, seconds: float = 1) -> None:
    await asyncio.sleep(seconds)
    said.append(word)


def test_what_is_done_to_the_end_gives_its_answer() -> None:
    """As if it had been awaited, and its error, too."""

    async def scenario() -> None:
        assert await to_the_end(Asked(42)()) == 42
        with pytest.raises(StoreRefused):
            await to_the_end(Asked(REFUSED)())

    virtual_time.run(scenario)


@pytest.mark.parametrize("times", [1, 2, 5])
def test_what_is_done_to_the_end_is_done_however_often_it_is_cancelled(times: int) -> None:
    """The cancellation is heeded afterwards."""

    async def scenario() -> None:
        said: list[str] = []
        task = asyncio.create_task(to_the_end(tell(said, "done", seconds=10)))
        for _ in range(times):
            await asyncio.sleep(1)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert said == ["done"]
        assert asyncio.get_running_loop().time() == pytest.approx(10)

    virtual_time.run(scenario)


def test_an_error_after_a_cancellation_is_the_cancellations() -> None:
    """Nobody is there any more to hear of it, and it is not reported as lost either."""

    async def scenario() -> None:
        async def fail() -> None:
            await asyncio.sleep(1)
            raise StoreRefused("read-only")

        task = asyncio.create_task(to_the_end(fail()))
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    virtual_time.run(scenario)


# --- beside


async def forever(ends: list[str], name: str = "work") -> None:
    try:
        await asyncio.sleep(10**9)
    finally:
        ends.append(name)


async def fail_after(seconds: float, error: Exception) -> None:
    await asyncio.sleep(seconds)
    raise error


def test_the_bodys_end_ends_what_is_done_beside_it() -> None:
    """Leaving waits until all of it is gone."""

    async def scenario() -> None:
        ends: list[str] = []
        async with beside(forever(ends, "a"), forever(ends, "b"), tell([], "done before")):
            await asyncio.sleep(5)

        assert sorted(ends) == ["a", "b"]
        assert len(asyncio.all_tasks()) == 1

    virtual_time.run(scenario)


def test_an_error_of_the_work_ends_the_body_and_comes_out_as_itself() -> None:
    """Whoever expects a LeaseLost can catch one, and no group of errors."""

    async def scenario() -> None:
        ends: list[str] = []
        body: list[str] = []

        with pytest.raises(LeaseLost, match="lost"):
            async with beside(forever(ends), fail_after(3, LeaseLost("lost"))):
                await forever(body, "body")

        assert (ends, body) == (["work"], ["body"])
        assert asyncio.get_running_loop().time() == pytest.approx(3)

    virtual_time.run(scenario)


def test_an_error_of_the_body_ends_the_work_and_comes_out_as_itself() -> None:
    """So does an error with which the work ends when it is told to."""

    async def scenario() -> None:
        async def fail_at_the_end() -> None:
            try:
                await asyncio.sleep(10**9)
            finally:
                raise ValueError("second")

        with pytest.raises(LeaseLost, match="first"):
            async with beside(forever([])):
                raise LeaseLost("first")
        with pytest.raises(ValueError, match="second"):
            async with beside(fail_at_the_end()):
                await asyncio.sleep(1)

    virtual_time.run(scenario)


def test_errors_of_groups_within_come_out_as_themselves() -> None:
    """However deep the body nests such groups."""

    async def scenario() -> None:
        async def work() -> None:
            async with beside(forever([])), asyncio.TaskGroup() as tasks, beside(fail_after(1, LeaseLost("deep"))):
                tasks.create_task(forever([]))
                await forever([])

        with pytest.raises(LeaseLost, match="deep"):
            await work()

    virtual_time.run(scenario)


@pytest.mark.parametrize("is_in_body", [True, False])
def test_a_cancellation_ends_both_and_comes_out(is_in_body: bool) -> None:
    """In the body or while its end is awaited: whoever is cancelled is cancelled."""

    async def scenario() -> None:
        ends: list[str] = []

        async def slow_to_end() -> None:
            try:
                await asyncio.sleep(10**9)
            finally:
                await tell(ends, "work", seconds=10)

        async def work(body: Callable[[], asyncio.Future[None]]) -> None:
            async with beside(slow_to_end()):
                await body()

        seconds = 1000.0 if is_in_body else 1.0
        task = asyncio.create_task(work(lambda: asyncio.ensure_future(asyncio.sleep(seconds))))
        await asyncio.sleep(3)
        task.cancel()
        await asyncio.wait([task])

        assert task.cancelled()
        assert len(asyncio.all_tasks()) == 1

    virtual_time.run(scenario)
