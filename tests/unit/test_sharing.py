"""Sharing: one reader for all who follow a source, however they come, wait, fall behind and leave."""

from __future__ import annotations

import asyncio
import gc
import traceback
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from graphql_api.service.sharing import Fresh, Shared, Source, Sources
from tests.unit import virtual_time


class Broken(Exception):
    """What ends a reader in these tests."""


@dataclass
class Well:
    """What sources draw from, one number after the other as they are let in; it notes what becomes of their readers."""

    numbers: asyncio.Queue[int] = field(default_factory=asyncio.Queue)
    broken: Exception | None = None
    end_takes: float = 0
    begun: int = 0
    ended: int = 0

    def __post_init__(self) -> None:
        self.sources: Sources[str, Drawn] = Sources("draw", lambda _: Drawn(self))


class Drawn(Source):
    """The last number that was drawn."""

    def __init__(self, well: Well) -> None:
        super().__init__()
        self._well = well
        self.last = 0

    async def run(self) -> None:
        self._well.begun += 1
        try:
            if self._well.broken:
                raise self._well.broken
            self.begin()
            while True:
                await self.wanted()
                self.last = await self._well.numbers.get()
                if self.last < 0:
                    raise Broken
                self.wake()
        finally:
            await asyncio.sleep(self._well.end_takes)
            self._well.ended += 1

    async def after(self, number: int) -> int:
        while self.last <= number:
            await self.moved()
        return self.last


@dataclass
class Follower:
    """Takes numbers, resting after each."""

    well: Well
    rest: float = 0
    got: list[int] = field(default_factory=list)

    async def follow(self) -> None:
        async with self.well.sources.join("one") as source:
            number = 0
            while True:
                number = await source.after(number)
                self.got.append(number)
                await asyncio.sleep(self.rest)


@asynccontextmanager
async def a_well() -> AsyncIterator[Well]:
    well = Well()
    yield well
    assert len(well.sources) == 0
    assert well.ended == well.begun
    assert len(asyncio.all_tasks()) == 1


def following(well: Well, number: int) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(Follower(well).follow()) for _ in range(number)]


async def settle() -> None:
    """Let everything happen that needs no time."""
    await asyncio.sleep(0.001)


async def leave(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


# --- followers of a source


def test_a_thousand_followers_share_one_reader() -> None:
    """Each gets what was read, and no task is made for any of them."""

    async def scenario() -> None:
        async with a_well() as well:
            followers = [Follower(well) for _ in range(1000)]
            tasks = [asyncio.create_task(follower.follow()) for follower in followers]
            for number in (1, 2):
                well.numbers.put_nowait(number)
                await settle()
            assert {tuple(follower.got) for follower in followers} == {(1, 2)}
            assert well.begun == 1
            assert len(asyncio.all_tasks()) == 1000 + 2
            await leave(*tasks)

    virtual_time.run(scenario)


def test_whoever_leaves_leaves_the_others_alone() -> None:
    """Cancelled while it waits, or at the moment at which all are woken."""

    async def scenario() -> None:
        async with a_well() as well:
            staying = Follower(well)
            first, second, third = *following(well, 2), asyncio.create_task(staying.follow())
            await settle()
            await leave(first)
            async with well.sources.join("one") as source:
                well.numbers.put_nowait(1)
                await source.moved()
                await leave(second)
            well.numbers.put_nowait(2)
            await settle()
            assert (staying.got, well.begun) == ([1, 2], 1)
            await leave(third)

    virtual_time.run(scenario)


def test_the_last_to_leave_ends_the_reader() -> None:
    """When leaving is done, the reader has ended and nothing is held; whoever comes then begins anew."""

    async def scenario() -> None:
        async with a_well() as well:
            well.end_takes = 5
            tasks = following(well, 3)
            await settle()
            await leave(*tasks[:2])
            assert well.ended == 0
            await leave(tasks[2])
            assert (well.begun, well.ended) == (1, 1)
            async with well.sources.join("one"):
                assert well.begun == 2

    virtual_time.run(scenario)


def test_whoever_joins_while_the_reader_ends_gets_another() -> None:
    """The one that ends is nobody's any more, and its end does not touch the new one."""

    async def scenario() -> None:
        async with a_well() as well:
            well.end_takes = 5
            leaving = following(well, 1)[0]
            await settle()
            leaving.cancel()
            await asyncio.sleep(1)
            joining = Follower(well)
            task = asyncio.create_task(joining.follow())
            await settle()
            assert (well.begun, well.ended, leaving.done()) == (2, 0, False)
            await asyncio.wait([leaving])
            well.numbers.put_nowait(1)
            await settle()
            assert joining.got == [1]
            await leave(task)

    virtual_time.run(scenario)


def test_a_follower_that_is_hurried_while_it_ends_the_reader_leaves_it_ending() -> None:
    """Cancelled once more, it does not wait any longer, and the reader ends all the same."""

    async def scenario() -> None:
        async with a_well() as well:
            well.end_takes = 5
            leaving = following(well, 1)[0]
            await settle()
            leaving.cancel()
            await asyncio.sleep(1)
            assert await virtual_time.elapsed(leave(leaving)) == 0
            await asyncio.sleep(5)

    virtual_time.run(scenario)


def test_whoever_leaves_before_the_reader_listens_leaves_nothing() -> None:
    """Neither one that never began, nor others waiting for it."""

    async def scenario() -> None:
        async with a_well() as well:
            tasks = following(well, 2)
            await asyncio.sleep(0)
            await leave(*tasks)

    virtual_time.run(scenario)


def test_an_error_in_the_reader_reaches_all_who_follow() -> None:
    """Who waits is told at once, who is busy when it wants more; and whoever comes after that begins anew."""

    async def scenario() -> None:
        async with a_well() as well:
            waiting, busy = following(well, 10), asyncio.create_task(Follower(well, rest=60).follow())
            well.numbers.put_nowait(1)
            await settle()
            well.numbers.put_nowait(-1)
            await settle()
            assert [type(task.exception()) for task in waiting] == [Broken] * 10
            new = Follower(well)
            task = asyncio.create_task(new.follow())
            well.numbers.put_nowait(1)
            await asyncio.sleep(100)
            assert (type(busy.exception()), new.got, well.begun) == (Broken, [1], 2)
            await leave(task)

    virtual_time.run(scenario)


def test_an_error_does_not_grow_with_those_who_are_told() -> None:
    """Each sees where the reader broke, and its own calls; not those of all the others."""

    async def scenario() -> None:
        async with a_well() as well:
            tasks = following(well, 100)
            await settle()
            well.numbers.put_nowait(-1)
            await asyncio.wait(tasks)
            error = tasks[0].exception()
            assert error
            assert len(traceback.extract_tb(error.__traceback__)) < 10

    virtual_time.run(scenario)


def test_a_reader_that_can_not_begin_keeps_nobody_waiting() -> None:
    """Who joins is told why."""

    async def scenario() -> None:
        async with a_well() as well:
            well.broken = Broken()
            tasks = following(well, 3)
            await settle()
            assert [type(task.exception()) for task in tasks] == [Broken] * 3

    virtual_time.run(scenario)


def test_a_slow_follower_holds_up_nobody() -> None:
    """The others get each number as it is drawn; it gets what there is when it comes back."""

    async def scenario() -> None:
        async with a_well() as well:
            fast, slow = Follower(well), Follower(well, rest=9.5)
            tasks = [asyncio.create_task(follower.follow()) for follower in (fast, slow)]
            for number in range(1, 16):
                well.numbers.put_nowait(number)
                await asyncio.sleep(1)
            assert (fast.got, slow.got) == (list(range(1, 16)), [1, 10])
            await leave(*tasks)

    virtual_time.run(scenario)


def test_nothing_is_read_while_nobody_waits() -> None:
    """A source whose followers are all busy stands still."""

    async def scenario() -> None:
        async with a_well() as well:
            tasks = [asyncio.create_task(Follower(well, rest=10).follow()) for _ in range(2)]
            for number in range(1, 10):
                well.numbers.put_nowait(number)
            await asyncio.sleep(5)
            assert well.numbers.qsize() == 8
            await leave(*tasks)

    virtual_time.run(scenario)


def test_a_source_goes_with_its_last_follower() -> None:
    """What it holds is free at once, and does not wait for the collector of cycles."""

    async def scenario() -> None:
        async with a_well() as well:
            async with well.sources.join("one") as source:
                held = weakref.ref(source)
            del source
            await settle()
            assert held() is None

    gc.disable()
    try:
        virtual_time.run(scenario)
    finally:
        gc.enable()


def test_those_who_have_left_leave_nothing_behind() -> None:
    """However many come and go while one stays, and nothing is read."""

    async def scenario() -> None:
        async with a_well() as well:
            staying = following(well, 1)[0]
            await leave_soon(following(well, 10))
            before = waiters()
            for _ in range(10):
                await leave_soon(following(well, 10))
            assert waiters() == before
            await leave(staying)

    async def leave_soon(tasks: list[asyncio.Task[None]]) -> None:
        await settle()
        await leave(*tasks)

    def waiters() -> int:
        gc.collect()
        return sum(type(one) is asyncio.Future for one in gc.get_objects())

    virtual_time.run(scenario)


# --- what is shared


def test_what_is_made_of_a_shared_object_is_made_once() -> None:
    """The same object for all who make the same of it, another for who makes something else."""
    shared = Shared((1, 2))

    assert shared.made(list) is shared.made(list)
    assert shared.made(list) == [1, 2]
    assert shared.made(set) == {1, 2}


# --- fresh reads


@dataclass
class Slow:
    """A read that takes a second; it answers with its number."""

    reads: int = 0
    fails: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        self._fresh = Fresh[int]()

    async def ask(self) -> int:
        return await self._fresh.get(self.read)

    async def read(self) -> int:
        self.reads += 1
        number = self.reads
        await asyncio.sleep(1)
        if number in self.fails:
            raise Broken
        return number


def test_those_who_ask_at_once_share_a_read() -> None:
    """The first reads, the others share the next; and who asks later gets another."""

    async def scenario() -> None:
        slow = Slow()
        answers = await asyncio.gather(*[slow.ask() for _ in range(100)])
        assert (answers, await slow.ask(), slow.reads) == ([1] + [2] * 99, 3, 3)

    virtual_time.run(scenario)


def test_nobody_is_given_a_read_that_began_before_it_asked() -> None:
    """Those who ask while one is under way share the next."""

    async def scenario() -> None:
        slow = Slow()
        first = asyncio.create_task(slow.ask())
        await asyncio.sleep(0.5)
        others = await asyncio.gather(*[slow.ask() for _ in range(10)])
        assert (await first, others, slow.reads) == (1, [2] * 10, 2)

    virtual_time.run(scenario)


def test_when_who_reads_gives_up_another_reads() -> None:
    """Cancelling one of those who wait for an answer leaves the others waiting for theirs."""

    async def scenario() -> None:
        slow = Slow()
        reading, *others = [asyncio.create_task(slow.ask()) for _ in range(5)]
        await asyncio.sleep(0.5)
        reading.cancel()
        assert await asyncio.gather(*others) == [2] * 4
        assert reading.cancelled()

    virtual_time.run(scenario)


def test_a_read_that_fails_answers_nobody_else() -> None:
    """The error is for who read; the next in turn tries again."""

    async def scenario() -> None:
        slow = Slow(fails=frozenset({1}))
        answers = await asyncio.gather(*[slow.ask() for _ in range(3)], return_exceptions=True)
        assert [type(answers[0]), *answers[1:]] == [Broken, 2, 2]
        with pytest.raises(Broken):
            await Slow(fails=frozenset({1})).ask()

    virtual_time.run(scenario)
