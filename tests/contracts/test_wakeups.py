"""The contract of Wakeups."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from time import monotonic

import pytest

from graphql_api.adapters.in_process import InProcessWakeups

LONG = timedelta(seconds=30)
SHORT = timedelta(milliseconds=30)


@pytest.fixture
def wakeups() -> InProcessWakeups:
    return InProcessWakeups()


async def test_an_announcement_wakes_who_waits(wakeups: InProcessWakeups) -> None:
    """Waiting ends long before its limit when the topic is announced."""
    async with wakeups.listen("a") as wakeup, asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(wakeup.wait(LONG))
        await asyncio.sleep(0)
        await wakeups.announce("a")


async def test_an_announcement_before_the_wait_is_not_lost(wakeups: InProcessWakeups) -> None:
    """Between listening and waiting one reads: what is announced then ends the wait at once."""
    async with wakeups.listen("a") as wakeup, asyncio.timeout(5):
        await wakeups.announce("a")
        await wakeup.wait(LONG)


async def test_announcements_while_nobody_waits_are_one(wakeups: InProcessWakeups) -> None:
    """However many there were, one return stands for all of them; the next wait takes its whole limit."""
    async with wakeups.listen("a") as wakeup, asyncio.timeout(5):
        for _ in range(3):
            await wakeups.announce("a")
        await wakeup.wait(LONG)

        assert await waited(wakeup.wait(SHORT)) >= SHORT


async def test_an_announcement_before_listening_does_not_count(wakeups: InProcessWakeups) -> None:
    """Who listens reads first anyway: earlier announcements are none of theirs."""
    await wakeups.announce("a")

    async with wakeups.listen("a") as wakeup:
        assert await waited(wakeup.wait(SHORT)) >= SHORT


async def test_a_wait_ends_at_its_limit(wakeups: InProcessWakeups) -> None:
    """Without an announcement a wait returns, so that the caller reads again."""
    async with wakeups.listen("a") as wakeup:
        assert SHORT <= await waited(wakeup.wait(SHORT)) < timedelta(seconds=5)
        assert await waited(wakeup.wait(timedelta(0))) < timedelta(seconds=5)


async def test_every_listener_of_a_topic_is_woken(wakeups: InProcessWakeups) -> None:
    """One announcement is for all, and one listener's wait takes nothing from another's."""
    async with wakeups.listen("a") as first, wakeups.listen("a") as second, asyncio.timeout(5):
        await wakeups.announce("a")
        await first.wait(LONG)
        await second.wait(LONG)


async def test_topics_do_not_wake_each_other(wakeups: InProcessWakeups) -> None:
    """An announcement on another topic ends no wait."""
    async with wakeups.listen("a") as wakeup:
        await wakeups.announce("b")

        assert await waited(wakeup.wait(SHORT)) >= SHORT


async def test_a_cancelled_wait_loses_no_announcement(wakeups: InProcessWakeups) -> None:
    """An announcement that meets a cancelled wait is still there for the next one."""
    async with wakeups.listen("a") as wakeup, asyncio.timeout(5):
        waiting = asyncio.create_task(wakeup.wait(LONG))
        await asyncio.sleep(0)
        await wakeups.announce("a")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

        await wakeup.wait(LONG)


async def test_a_topic_is_forgotten_with_its_last_listener(wakeups: InProcessWakeups) -> None:
    """Topics without listeners take no memory, also when the listener was cancelled or announced to."""
    async with wakeups.listen("a"):
        async with wakeups.listen("a"), wakeups.listen("b"):
            assert wakeups.topics == {"a", "b"}
        assert wakeups.topics == {"a"}
        await wakeups.announce("c")

    assert wakeups.topics == set()


async def waited(wait: object) -> timedelta:
    start = monotonic()
    assert asyncio.iscoroutine(wait)
    await wait
    return timedelta(seconds=monotonic() - start)
