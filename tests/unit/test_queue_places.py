"""Places in the queue: in which order, behind whom, why, and how rarely the store is asked for that."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphql_api.domain.errors import StoreUnavailable
from graphql_api.domain.ports import EVERY_UPDATE, Slice, StackUpdateFilter, UpdateHistory
from graphql_api.domain.records import StackFqdn, StackUpdate, StackUpdateId, Status
from graphql_api.service.queue import FRESH, PAGE, Queue, QueuePlace, QueueReason, under_way
from tests.builders import FAILURE, NOON, SECOND, a_stack_update, started
from tests.unit import virtual_time


@dataclass
class History:
    """Stack updates in memory; a page of them takes a while."""

    updates: list[StackUpdate] = field(default_factory=list)
    takes: float = 0
    away: bool = False
    pages: int = 0
    at_work: set[StackUpdateId] = field(default_factory=set)
    served: set[StackFqdn] = field(default_factory=set)

    @property
    def queue(self) -> Queue:
        return Queue(cast("UpdateHistory", self), 2, at_work=lambda: self.at_work, served=lambda: self.served)

    async def page(self, slice_: Slice, where: StackUpdateFilter = EVERY_UPDATE) -> Sequence[StackUpdate]:
        self.pages += 1
        await asyncio.sleep(self.takes)
        if self.away:
            raise StoreUnavailable("The database did not answer.")
        assert where.statuses == frozenset({Status.IN_PROGRESS})
        after = (slice_.after.created_at, slice_.after.id) if slice_.after else (NOON + timedelta(days=1), "")
        found = [
            update
            for update in self.updates
            if not update.ended
            and where.stack_fqdn in (None, update.stack_fqdn)
            and (update.created_at, update.id) < after
        ]
        return sorted(found, key=lambda update: (update.created_at, update.id), reverse=True)[: slice_.limit]

    def add(self, stack: str | None, *, running: bool = False) -> StackUpdate:
        """Another one, a second later than the one before it."""
        fqdn = StackFqdn(f"organization/tests/{stack}") if stack else None
        update = a_stack_update(stack_fqdn=fqdn, created_at=NOON + len(self.updates) * SECOND)
        self.updates.append(started(update) if running else update)
        return self.updates[-1]


async def places(history: History) -> list[QueuePlace | None]:
    queue = history.queue
    return [await queue.place(update) for update in history.updates]


async def positions(history: History) -> list[int | None]:
    return [place.position if place else None for place in await places(history)]


async def test_the_queue_goes_round_the_stacks() -> None:
    """The oldest of each stack first, by age; then the second oldest of each; and so on."""
    history = History()
    for stack in "aaabbc":
        history.add(stack)

    assert await positions(history) == [1, 4, 6, 2, 5, 3]


async def test_a_stack_on_which_one_is_under_way_has_had_its_turn() -> None:
    """Those that wait on it come after the first of every other stack, even if they are older."""
    history = History()
    history.add("a", running=True)
    for stack in "aabb":
        history.add(stack)

    assert await positions(history) == [None, 2, 4, 1, 3]


async def test_a_place_tells_what_is_right_before_it_on_its_stack() -> None:
    """The one under way, or the one that waits before it; other stacks don't matter."""
    history = History()
    running = history.add("a", running=True)
    other = history.add("b")
    second, third = history.add("a"), history.add("a")
    queue = history.queue

    assert await queue.place(other) == QueuePlace(1, None, QueueReason.STARTING)
    assert await queue.place(second) == QueuePlace(2, running, QueueReason.STACK_BUSY)
    assert await queue.place(third) == QueuePlace(3, second, QueueReason.STACK_BUSY)


async def test_where_the_stack_is_free_a_place_at_work_may_be_missing() -> None:
    """The reason is the one of the moment, whenever the queue was looked at."""
    history = History()
    update = history.add("a")
    queue = history.queue
    reasons = []
    for others in (1, 2, 3, 0):
        history.at_work = {StackUpdateId(f"{number:024x}") for number in range(others)}
        place = await queue.place(update)
        assert place
        reasons.append(place.reason)

    starting, taken = QueueReason.STARTING, QueueReason.PLACES_TAKEN
    assert reasons == [starting, taken, taken, starting]
    assert history.pages == 1


async def test_one_that_has_a_place_at_work_is_starting() -> None:
    """Its own place is not one that it has to wait for."""
    history = History()
    update = history.add("a")
    history.at_work = {update.id, StackUpdateId("0" * 24)}

    place = await history.queue.place(update)

    assert place
    assert place.reason is QueueReason.STARTING


async def test_a_stack_that_was_served_in_this_round_comes_after_the_others() -> None:
    """Also where nothing is under way on it any more: so the worker takes them."""
    history = History()
    served, other = history.add("a"), history.add("b")
    history.served = {StackFqdn("organization/tests/a")}

    places = [await history.queue.place(update) for update in (served, other)]

    assert [place and place.position for place in places] == [2, 1]


async def test_what_does_not_wait_has_no_place() -> None:
    """Neither when it is known to go on, for which nothing is read, nor when that shows only now."""
    history = History()
    update = history.add("a")
    history.updates[0] = started(update)
    queue = history.queue

    assert await queue.place(started(update)) is None
    assert history.pages == 0
    assert await queue.place(update) is None
    assert await queue.place(update.failed(NOON, FAILURE)) is None


async def test_updates_that_name_no_stack_stand_for_themselves() -> None:
    """Records that other programs wrote block nobody."""
    history = History()
    history.add(None)
    history.add(None)

    assert await places(history) == [QueuePlace(n, None, QueueReason.STARTING) for n in (1, 2)]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=30))
def test_whoever_takes_from_each_stack_in_turn_meets_the_places_in_order(added: list[tuple[str, bool]]) -> None:
    """Rounds that serve each stack once, its oldest first, as the worker makes them."""
    history = History()
    for stack, running in added:
        history.add(stack, running=running)
    served = {update.stack_fqdn for update in history.updates if update.started_at}
    waiting = [update for update in history.updates if not update.started_at]
    taken: list[StackUpdate] = []
    while waiting:
        following = next((update for update in waiting if update.stack_fqdn not in served), None)
        if following is None:
            served.clear()
            continue
        served.add(following.stack_fqdn)
        waiting.remove(following)
        taken.append(following)

    async def scenario() -> None:
        queue = history.queue
        found = [await queue.place(update) for update in taken]
        assert [place.position for place in found if place] == list(range(1, len(taken) + 1))

    virtual_time.run(scenario)


# --- how often the store is asked


def test_one_look_serves_all_who_ask() -> None:
    """A thousand askers within a moment cost one look, and the next look is made only when that is old."""

    async def scenario() -> None:
        history = History(takes=0.001)
        for _ in range(1000):
            history.add("a")
        pages = 1000 // PAGE + 1
        queue = history.queue
        await asyncio.gather(*map(queue.place, history.updates))
        assert history.pages == pages
        await asyncio.sleep(FRESH.total_seconds() / 2)
        await queue.place(history.updates[0])
        assert history.pages == pages
        await asyncio.sleep(FRESH.total_seconds())
        history.updates[0] = started(history.updates[0])
        second = await queue.place(history.updates[1])
        assert history.pages == 2 * pages
        assert second == QueuePlace(1, history.updates[0], QueueReason.STACK_BUSY)

    virtual_time.run(scenario)


def test_what_was_accepted_after_the_last_look_is_seen_at_once() -> None:
    """Whoever asks about it does not wait for the look to grow old; what went on meanwhile is looked for once."""

    async def scenario() -> None:
        history = History(takes=0.001)
        history.add("a")
        queue = history.queue
        await queue.place(history.updates[0])
        new = history.add("a")
        place = await queue.place(new)
        assert place == QueuePlace(2, history.updates[0], QueueReason.STACK_BUSY)
        assert asyncio.get_running_loop().time() < 0.01
        history.updates[1] = started(new)
        gone = await asyncio.gather(*[queue.place(a_stack_update()) for _ in range(100)])
        assert gone == [None] * 100
        assert history.pages == 3

    virtual_time.run(scenario)


def test_a_long_queue_is_looked_at_less_often() -> None:
    """However often is asked, and about what, most of the time is left to others."""

    async def scenario() -> None:
        history = History(takes=0.1)
        history.add("a")
        queue = history.queue
        clock = asyncio.get_running_loop().time
        while clock() < 100:
            await asyncio.gather(queue.place(history.updates[0]), queue.place(a_stack_update()))
        assert history.pages == pytest.approx(200, abs=2)

    virtual_time.run(scenario)


async def test_a_store_that_is_away_is_asked_again_by_the_next() -> None:
    """An asker is told, and no look is remembered that was not had."""
    history = History(away=True)
    update = history.add("a")
    queue = history.queue
    with pytest.raises(StoreUnavailable):
        await queue.place(update)
    history.away = False

    assert await queue.place(update) is not None


async def test_all_that_is_under_way_is_read_page_by_page() -> None:
    """On one stack or on all, newest first, to the last."""
    history = History()
    for number in range(2 * PAGE + 1):
        history.add("ab"[number % 2])
    everything = cast("UpdateHistory", history)

    assert await under_way(everything) == history.updates[::-1]
    assert await under_way(everything, StackFqdn("organization/tests/b")) == history.updates[1::2][::-1]
