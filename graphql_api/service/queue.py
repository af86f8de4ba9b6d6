"""The queue: where each stack update that waits stands in it, and what it waits for."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from graphql_api.domain.ports import Cursor, Slice, StackUpdateFilter, UpdateHistory
from graphql_api.domain.records import Phase, StackFqdn, StackUpdate, StackUpdateId, Status

#: How long one look at the queue serves all who ask.
FRESH = timedelta(milliseconds=200)
#: Looks at a long queue are rarer: between two of them passes so many times what one takes.
REST = 4
#: How many stack updates one question to the store brings.
PAGE = 500


class QueueReason(StrEnum):
    """Why a stack update still waits: for another of its stack, for a place at work, or for nothing any more."""

    STACK_BUSY = "stack_busy"
    PLACES_TAKEN = "places_taken"
    STARTING = "starting"


@dataclass(frozen=True, slots=True)
class QueuePlace:
    """Where a stack update stands in the queue: 1 is taken up next. ``blocked_by`` is the one before it on its stack.

    That one is being deployed or waits itself; None when there is none.
    """

    position: int
    blocked_by: StackUpdate | None
    reason: QueueReason


@dataclass(frozen=True, slots=True)
class _Waiting:
    position: int
    blocked_by: StackUpdate | None


@dataclass(frozen=True, slots=True)
class _Look:
    """What a look at the queue has shown, which began at this time of the loop and took so many seconds."""

    began: float
    took: float
    waiting: Mapping[StackUpdateId, _Waiting]

    @property
    def rested(self) -> float:
        """When the next look may begin."""
        return self.began + (1 + REST) * self.took

    @property
    def stale(self) -> float:
        """When the next look must begin."""
        return max(self.began + self.took + FRESH.total_seconds(), self.rested)


class Queue:
    """Tells the places of queued stack updates, in the order in which the worker takes them up.

    It goes round the stacks: each round takes the oldest of each stack. ``at_work`` gives the stack updates that have
    one of the ``max_concurrent`` places at work, and ``served`` the stacks that have had their turn in this round.
    """

    def __init__(
        self,
        history: UpdateHistory,
        max_concurrent: int,
        at_work: Callable[[], Collection[StackUpdateId]],
        served: Callable[[], Collection[StackFqdn]],
    ) -> None:
        self._history = history
        self._max_concurrent = max_concurrent
        self._at_work = at_work
        self._served = served
        self._turn = asyncio.Lock()
        self._last = _Look(began=float("-inf"), took=0, waiting={})

    async def place(self, update: StackUpdate) -> QueuePlace | None:
        """Its place in the queue; None when it does not wait, or does no longer. May raise StoreUnavailable."""
        if update.phase is not Phase.QUEUED:
            return None
        found = (await self._look(update.id)).waiting.get(update.id)
        return QueuePlace(found.position, found.blocked_by, self._reason(update, found)) if found else None

    def _reason(self, update: StackUpdate, waiting: _Waiting) -> QueueReason:
        if waiting.blocked_by is not None:
            return QueueReason.STACK_BUSY
        at_work = self._at_work()
        has_to_wait = update.id not in at_work and len(at_work) >= self._max_concurrent
        return QueueReason.PLACES_TAKEN if has_to_wait else QueueReason.STARTING

    async def _look(self, id_: StackUpdateId) -> _Look:
        """A look that is fresh, and shows this one unless it began to wait no later than the question was asked."""
        clock = asyncio.get_running_loop().time
        asked = clock()
        async with self._turn:
            missed = id_ not in self._last.waiting and self._last.began < asked
            if missed or clock() >= self._last.stale:
                await asyncio.sleep(self._last.rested - clock())
                began = clock()
                waiting = _places(await under_way(self._history), self._served())
                self._last = _Look(began, clock() - began, waiting)
            return self._last


async def under_way(history: UpdateHistory, stack: StackFqdn | None = None) -> list[StackUpdate]:
    """Every stack update that has not ended, on this stack or on all, newest first. May raise StoreUnavailable."""
    where = StackUpdateFilter(statuses=frozenset({Status.IN_PROGRESS}), stack_fqdn=stack)
    found = list[StackUpdate]()
    cursor: Cursor | None = None
    while True:
        page = await history.page(Slice(PAGE, after=cursor), where)
        found += page
        if len(page) < PAGE:
            return found
        cursor = Cursor(page[-1].created_at, page[-1].id)


def _places(updates: Iterable[StackUpdate], served: Collection[StackFqdn]) -> dict[StackUpdateId, _Waiting]:
    stacks = defaultdict[str, list[StackUpdate]](list)
    for update in sorted(updates, key=lambda it: (it.phase is Phase.QUEUED, it.created_at, it.id)):
        stacks[update.stack_fqdn or update.id].append(update)  # one that names no stack stands for itself
    rounds = list[tuple[int, StackUpdate, StackUpdate | None]]()
    for on_stack in stacks.values():
        pairs = zip([None, *on_stack], on_stack, strict=False)
        queued = [(before, update) for before, update in pairs if update.phase is Phase.QUEUED]
        # What is under way may have been taken up by an earlier life of the service, in no round of this one.
        had_turn = on_stack[0].phase is not Phase.QUEUED or on_stack[0].stack_fqdn in served
        rounds += [(number, update, before) for number, (before, update) in enumerate(queued, start=int(had_turn))]
    rounds.sort(key=lambda it: (it[0], it[1].created_at, it[1].id))
    return {update.id: _Waiting(position, before) for position, (_, update, before) in enumerate(rounds, start=1)}
