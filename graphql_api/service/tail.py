"""The tail of a log: what all are given who watch the events of one stack update."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from weakref import WeakValueDictionary

from graphql_api.domain.ports import Span, Wakeups, events_topic
from graphql_api.service.batches import BATCH_EVENTS, Batch, batches
from graphql_api.service.log import Log, closes
from graphql_api.service.patience import REREAD_INTERVAL, patiently
from graphql_api.service.sharing import Fresh, Shared, Source

#: How many pages of a log, of some batches each, are held for those who are at the same place.
HELD_PAGES = 4


@dataclass(frozen=True, slots=True)
class Page:
    """What one read of the log has brought, as batches; ``seq`` is the last that it was found to hold."""

    batches: Sequence[Shared[Batch]]
    seq: int
    has_more: bool = False
    finished: bool = False


class Tail(Source):
    """Follows the log for those who have seen all of it, and reads pages of it for those who are behind.

    Who are at the same place share a page, as long as it is one of the last few: nothing else is held for anybody.
    """

    def __init__(self, log: Log, wakeups: Wakeups) -> None:
        super().__init__()
        self._log = log
        self._wakeups = wakeups
        self._name = f"the events of {log.id}"
        self._look = Fresh[tuple[Span, bool]]()
        self._head = 0  # the highest seq that is known
        self._finished = False
        self._pages = OrderedDict[int, Page]()  # by the seq that they come after
        self._turns = WeakValueDictionary[int, asyncio.Lock]()  # of who reads the page after a seq
        self._nothing = Page([], seq=-1)

    async def run(self) -> None:
        """Read what comes after the head, after each announcement or the interval, until the log is closed."""
        async with self._wakeups.listen(events_topic(self._log.id)) as wakeup:
            self.begin()
            while not self._finished:
                await self.wanted()
                await wakeup.wait(REREAD_INTERVAL)
                await self._read(self._head)

    async def first(self, after: int) -> Page:
        """What comes after ``after`` by now, which may be nothing.

        Raises StackUpdateNotFound, CursorAhead or EventsExpired.
        """
        span, finished = await self._look.get(self._measure)
        self._log.check(span, after)
        self._go_on_to(span.last_seq)
        if after < self._head:
            return await self.next(after)
        if finished:
            await self._log.recorded()
        if (self._nothing.seq, self._nothing.finished) != (after, finished):
            nothing = Batch((), after, caught_up=True, finished=finished)
            self._nothing = Page([Shared(nothing)], after, finished=finished)
        return self._nothing

    async def rest(self, after: int) -> Page:
        """What comes after ``after``, which was given before, as soon as there is something. Raises EventsExpired."""
        self._go_on_to(after)
        return self._page(after) or await self._read(after) or await self.next(after)

    async def next(self, after: int) -> Page:
        """What comes after ``after``, as soon as there is something. Raises EventsExpired."""
        while True:
            if after >= self._head:
                await self.moved()
            elif page := self._page(after) or await self._read(after):
                return page
            else:  # a store's replica may lag behind
                await asyncio.sleep(REREAD_INTERVAL.total_seconds())

    async def _measure(self) -> tuple[Span, bool]:
        """What is kept of the log, and whether it is closed."""
        span = await patiently(self._name, self._log.span)
        return span, await patiently(self._name, partial(self._log.ends_with, span.last_seq))

    async def _read(self, after: int) -> Page | None:
        """The page after ``after``, None when there is nothing; who ask for it at the same time share one read."""
        async with self._turns.setdefault(after, asyncio.Lock()):
            if page := self._page(after):
                return page
            found = await patiently(self._name, partial(self._log.read, after, BATCH_EVENTS))
            if not found.events:
                return None
            if finished := closes(found.events):
                await self._log.recorded()
            self._finished = self._finished or finished
            page = Page(list(map(Shared, batches(found))), found.seq, found.has_more, finished)
            self._hold(after, page)
            self._go_on_to(page.seq)
            return page

    def _page(self, after: int) -> Page | None:
        """The page after ``after`` if it is held. One that says of itself that it is the last has to be."""
        page = self._pages.get(after)
        return page if page and (page.has_more or page.seq == self._head) else None

    def _hold(self, after: int, page: Page) -> None:
        self._pages.pop(after, None)
        self._pages[after] = page
        if len(self._pages) > HELD_PAGES:
            self._pages.popitem(last=False)

    def _go_on_to(self, seq: int) -> None:
        if seq > self._head:
            self._head = seq
            self.wake()
