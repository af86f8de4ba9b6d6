"""A feed of changes: what a store says has changed, each change once, for listeners who may take any time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Generic, TypeVar

from graphql_api.domain.ports import Wakeups
from graphql_api.domain.records import utc_now
from graphql_api.service.patience import REREAD_INTERVAL, patiently
from graphql_api.service.sharing import Fresh, Shared, Source

#: At most five reads a second, beside those for who begins to listen.
READ_INTERVAL = timedelta(milliseconds=200)
#: How far behind the newest change known each read begins. Many changes share a millisecond, and one becomes visible
#: later than its time says: by a store's patience (5 s) and a second try, if the store was slow to take it.
OVERLAP = timedelta(seconds=10)
#: How many changes one read brings.
BATCH = 100
#: How many changes are held for listeners who are behind; who is further behind reads on its own.
HELD = 5 * BATCH

Change = TypeVar("Change")


@dataclass(frozen=True, slots=True)
class Version:
    """Which change it is, and when it was made."""

    key: Hashable
    moment: datetime


@dataclass(frozen=True, slots=True)
class Ready:
    """The feed has begun: whatever is not in the store by now will come."""

    at: datetime


class Feed(Source, Generic[Change]):
    """Reads a store's ``changed_since`` again and again, and passes on what it has not seen yet.

    ``version`` tells changes apart. Remembered is only what the overlap of the next read can bring again, and HELD
    changes for those who are behind.
    """

    def __init__(
        self,
        wakeups: Wakeups,
        topic: str,
        changed_since: Callable[[datetime, int], Awaitable[Sequence[Change]]],
        version: Callable[[Change], Version],
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        super().__init__()
        self._wakeups = wakeups
        self._topic = topic
        self._changed_since = changed_since
        self._version = version
        self._clock = clock
        self._newest = clock()
        self._seen: set[Hashable] = set()
        self._look = Fresh[_Began[Change]]()
        self._held = deque[_Held[Change]](maxlen=HELD)
        self._passed_on = 0

    async def run(self) -> None:
        """Read what is new for all who wait, after an announcement or the interval."""
        clock = asyncio.get_running_loop().time
        async with self._wakeups.listen(self._topic) as wakeup:
            self.begin()
            while True:
                next_read = clock() + READ_INTERVAL.total_seconds()
                await self.wanted()
                await wakeup.wait(REREAD_INTERVAL)
                await asyncio.sleep(next_read - clock())
                await self._look.get(self._pass_on)

    async def follow(self, takes: Callable[[Change], bool]) -> AsyncGenerator[Shared[Ready | Change], None]:
        """Ready, then every change that is made from then on and that the listener takes, without end.

        Of several changes to one record within a read the last comes. When the store is away it waits for it, before
        Ready as after. After the clock was set back, or to a listener who is more than HELD changes behind, what it
        had been given may come again.
        """
        began = await self._look.get(self._pass_on)
        yield began.ready
        place, newest = began.place, began.newest
        while True:
            behind = self._passed_on - place
            if not behind:
                await self.moved()
            elif behind > len(self._held):
                # What is passed on from here on, it takes up when it has made up for what it has missed.
                since, place, newest = newest, self._passed_on, self._newest
                async with aclosing(self._read(since, set())) as missed:
                    async for _, change in missed:
                        if takes(change):
                            yield Shared(change)
            else:
                held = self._held[-behind]
                place, newest = place + 1, held.newest
                if takes(held.change):
                    yield held.shared

    async def _pass_on(self) -> _Began[Change]:
        """Pass on what this look at the store shows and none before did."""
        seen = set[Hashable]()
        async with aclosing(self._read(self._newest, seen)) as changes:
            async for version, change in changes:
                self._newest = max(self._newest, version.moment)
                if version.key not in self._seen:
                    self._seen.add(version.key)
                    self._held.append(_Held(change, Shared(change), self._newest))
                    self._passed_on += 1
                    self.wake()
        self._seen = seen
        return _Began(Shared(Ready(self._clock())), self._passed_on, self._newest)

    async def _read(self, newest: datetime, seen: set[Hashable]) -> AsyncGenerator[tuple[Version, Change], None]:
        """Every change from an overlap behind the newest that was known, each once; ``seen`` is filled with them.

        It begins behind the newest change, not behind the last look: what the store takes only after an outage bears
        a time from within it. A clock that was ahead must not let it begin in the future.
        """
        since, limit = min(newest, self._clock()) - OVERLAP, BATCH
        while True:
            changes = await patiently(f"the {self._topic}", partial(self._changed_since, since, limit))
            for change in changes:
                version = self._version(change)
                if version.key not in seen:
                    seen.add(version.key)
                    yield version, change
            if len(changes) < limit:
                return
            last = self._version(changes[-1]).moment
            limit = 2 * limit if last == since else BATCH  # more of them share one moment than a read brings
            since = last


@dataclass(frozen=True, slots=True)
class _Held(Generic[Change]):
    """A change that was passed on, and which change was the newest by then."""

    change: Change
    shared: Shared[Ready | Change]
    newest: datetime


@dataclass(frozen=True, slots=True)
class _Began(Generic[Change]):
    """What a listener is given first, how much had been passed on by then, and which change was the newest."""

    ready: Shared[Ready | Change]
    place: int
    newest: datetime
