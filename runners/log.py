"""The log of one stack update, as the owner of its stack writes it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

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
)
from graphql_api.domain.ports import Chunk, Closing, EventLog, Wakeups, events_topic
from graphql_api.domain.progress import Resources
from graphql_api.domain.records import Phase, StackUpdate, Status, utc_now
from runners.lease import Lease, LeaseLost
from runners.patience import insistently, persistently, to_the_end

#: How many bytes of lines, the last of all, are kept beyond the limit.
TAIL_BYTES = 64 * 1024
_PAGE = 1000
_QUEUED = StatusChanged(Status.IN_PROGRESS, Phase.QUEUED)


class Log:
    """Gives every event its seq and appends it to the store, then wakes who listens.

    It may be used by several tasks at once. A store that is away, or refuses, is waited for. Raises LeaseLost once
    another owner writes. Past ``limit`` bytes of lines, lines are left out, up to the last of all.
    """

    def __init__(self, update: StackUpdate, lease: Lease, events: EventLog, wakeups: Wakeups, limit: int) -> None:
        self._id = update.id
        self._accepted_at = update.created_at
        self._lease = lease
        self._events = events
        self._wakeups = wakeups
        self._limit = limit
        self._turn = asyncio.Lock()
        self._number = 0
        self._seq = 0
        self._last_at = update.created_at
        self._place: Mapping[str, Any] = {}
        self._omission = _Omission(limit)
        self._wrote = False
        self._unsure: Chunk | None = None
        self._is_closing = False
        self.closing: Closing | None = None

    @property
    def place(self) -> Mapping[str, Any]:
        """Where whoever wrote last stood in what is read into the log."""
        return self._place

    async def open(self) -> None:
        """Find where an earlier owner stopped, to go on there; ``closing`` is set if it had come to the end."""
        last = await persistently(lambda: self._events.last(self._id))
        if last is None:
            return
        self._number, self._seq, self._last_at = last.number, last.events[-1].seq, last.events[-1].at
        self._place = last.place.get("read", {})
        self._omission = _Omission(self._limit, last.place.get("lines"))
        self.closing = last.closing
        self._is_closing = last.closing is not None

    async def take_over(self) -> None:
        """Say that another owner writes from here on, which ends the right of every earlier one to write."""
        async with self._turn:
            await self._make_sure()
            if self._number > 0 and not self._wrote:
                self._unsure = self._chunk([], None)
                await self._make_sure()

    async def resources(self) -> Resources:
        """What the log tells of the resources."""
        async with self._turn:
            await self._make_sure()
        resources, after = Resources(), 0
        kinds = frozenset({EventKind.RESOURCE_CHANGED})
        while True:
            page = await persistently(lambda after=after: self._events.read(self._id, after, _PAGE, kinds))  # type: ignore[misc]
            for event in page.events:
                if isinstance(event.what, ResourceChanged):
                    resources.put(event.what.resource)
            if not page.has_more:
                return resources
            after = page.seq

    async def append(
        self,
        happenings: Iterable[Happening],
        place: Mapping[str, Any] | None = None,
        taken: Callable[[], None] = lambda: None,
    ) -> None:
        """Append these, read up to ``place``. What is nothing but lines that are left out needs no append.

        ``taken`` is called once they will be in the log whatever comes, also where we are cancelled.
        """
        async with self._turn:
            await self._make_sure()
            kept = list(self._omission.passed(happenings))
            if place is not None:
                self._place = place
            if kept and self._is_closing:
                raise RuntimeError(f"The log of {self._id} is closed: nothing more can be told.")
            if kept:
                self._unsure = self._chunk(kept, None)
            taken()
            await self._make_sure()

    async def close(self, happenings: Iterable[Happening], closing: Closing) -> Closing:
        """Append the last events of all, and with them how the stack update has ended.

        Unlike ``append`` it raises what the store refuses, since something else may be taken. Returns the closing that
        counts: an earlier one where there is one, such as one that was written although no answer came.
        """
        async with self._turn:
            await self._make_sure()
            written = await self._written_closing() if self._is_closing else None
            if written is None:
                chunk = self._chunk([*self._omission.ending(), *happenings], closing)
                self._is_closing = True
                await persistently(lambda: self._insert(chunk))
            self.closing = written or closing
            return self.closing

    async def _written_closing(self) -> Closing | None:
        last = await persistently(lambda: self._events.last(self._id))
        return last.closing if last else None

    async def _make_sure(self) -> None:
        """Insert the chunk whose insertion was begun, also where whoever began it was cancelled, until it is there."""
        if (unsure := self._unsure) is not None:
            await insistently(f"{self._id}: appending to its log", lambda: self._insert(unsure))

    async def _insert(self, chunk: Chunk) -> None:
        # To the end even if we are cancelled: what is stored and what we know of it must not come apart.
        await to_the_end(self._store(chunk))
        await self._wakeups.announce(events_topic(self._id))

    async def _store(self, chunk: Chunk) -> None:
        if self._lease.lost or not await self._events.append(chunk):
            raise LeaseLost(f"somebody else writes the log of {self._id}")
        self._number, self._seq, self._last_at = chunk.number, chunk.events[-1].seq, chunk.events[-1].at
        self._wrote, self._unsure = True, None

    def _chunk(self, happenings: list[Happening], closing: Closing | None) -> Chunk:
        claim = self._lease.claim
        place = {"read": self._place, "lines": self._omission.state}
        events = tuple(self._events_of([*self._introduction(), *happenings]))
        return Chunk(self._id, self._number + 1, claim.epoch, claim.nonce, events, place, closing)

    def _events_of(self, happenings: list[Happening]) -> Iterator[Event]:
        now = max(utc_now(), self._last_at)  # never before the event before, even when the clock was set back
        for seq, what in enumerate(happenings, start=self._seq + 1):
            yield Event(seq, self._accepted_at if what is _QUEUED else now, what)

    def _introduction(self) -> list[Happening]:
        """What stands before the first event that is ours: that it had been queued, or had another owner."""
        if self._wrote:
            return []
        return [_QUEUED] if self._number == 0 else [OwnerChanged(self._lease.claim.epoch)]


class _Omission:
    """Lets lines pass until they have so many bytes together; of the rest it keeps the last, for the end."""

    def __init__(self, limit: int, state: Mapping[str, int] | None = None) -> None:
        self._limit = limit
        self._passed_bytes = 0
        self._omitted_lines = 0
        self._omitted_bytes = 0
        if state:
            self._passed_bytes, self._omitted_lines, self._omitted_bytes = (
                state["passed"],
                state["lines"],
                state["bytes"],
            )
        self._tail = deque[tuple[LogLine, int]]()
        self._tail_bytes = 0

    @property
    def state(self) -> dict[str, int]:
        """What a successor needs; the lines in the tail are counted as omitted there."""
        lines, size = self._omitted_lines + len(self._tail), self._omitted_bytes + self._tail_bytes
        return {"passed": self._passed_bytes, "lines": lines, "bytes": size}

    @property
    def _has_started(self) -> bool:
        return bool(self._omitted_lines or self._tail)

    def passed(self, happenings: Iterable[Happening]) -> Iterator[Happening]:
        """Those that are to be told now."""
        for what in happenings:
            if not isinstance(what, LogLine):
                yield what
                continue
            size = len(what.text.encode()) + 1
            if not self._has_started and self._passed_bytes + size <= self._limit:
                self._passed_bytes += size
                yield what
                continue
            if not self._has_started:
                yield LogOmissionStarted(self._limit)
            self._keep(what, size)

    def ending(self) -> Iterator[Happening]:
        """How much was left out, and the last lines of all; nothing where the limit was not reached."""
        if self._has_started:
            yield LogOmitted(self._omitted_lines, self._omitted_bytes)
        yield from (line for line, _ in self._tail)

    def _keep(self, line: LogLine, size: int) -> None:
        self._tail.append((line, size))
        self._tail_bytes += size
        while self._tail_bytes > TAIL_BYTES and len(self._tail) > 1:
            _, oldest = self._tail.popleft()
            self._tail_bytes -= oldest
            self._omitted_lines += 1
            self._omitted_bytes += oldest
