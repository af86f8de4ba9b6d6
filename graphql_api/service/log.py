"""The log of one stack update, read from the stores, with the reasons why it can not be."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from graphql_api.domain.errors import BadUserInput, CursorAhead, EventsExpired, StackUpdateNotFound
from graphql_api.domain.events import Event, StatusChanged
from graphql_api.domain.ports import EventLog, LogPage, Span, UpdateStore, Wakeups
from graphql_api.domain.records import Phase, StackUpdateId
from graphql_api.service.patience import REREAD_INTERVAL, patiently

_EMPTY = Span(first_seq=1, last_seq=0)


class Log:
    """Reads the log of one stack update. Whatever it asks the stores may raise StoreUnavailable."""

    def __init__(self, id_: StackUpdateId, updates: UpdateStore, events: EventLog, wakeups: Wakeups) -> None:
        self.id = id_
        self._updates = updates
        self._events = events
        self._wakeups = wakeups

    async def span(self) -> Span:
        """Which events are kept. Raises StackUpdateNotFound, and EventsExpired where none are left."""
        update = await self._updates.get(self.id)  # before the log, which is closed before the record ends
        if update is None:
            raise StackUpdateNotFound(self.id)
        span = await self._events.span(self.id)
        if span is None and update.ended:
            raise EventsExpired(self.id, None)
        return span or _EMPTY

    def check(self, span: Span, after: int) -> None:
        """Raises CursorAhead or EventsExpired unless all that comes after ``after`` is kept or still to come."""
        if after > span.last_seq:
            raise CursorAhead(self.id, span.last_seq)
        if after + 1 < span.first_seq:
            raise EventsExpired(self.id, span.first_seq)

    async def read(self, after: int, limit: int) -> LogPage:
        """What comes after ``after``. Raises EventsExpired where that is kept no longer, or never comes."""
        page = await self._events.read(self.id, after, limit)
        if page.events and page.events[0].seq > after + 1:
            raise EventsExpired(self.id, page.events[0].seq)
        if not page.events and await self._updates.get(self.id) is None:  # nothing more will come
            raise EventsExpired(self.id, None)
        return page

    async def ends_with(self, seq: int) -> bool:
        """Whether the event with this seq, the last by now, is the last of all."""
        return seq > 0 and closes((await self._events.read(self.id, seq - 1, 1)).events)

    async def recorded(self) -> None:
        """Wait until the record has ended, a moment after its log: who is told of the end may ask for it at once."""
        async with self._wakeups.listen(self.id) as wakeup:
            while True:
                update = await patiently(f"the stack update {self.id}", partial(self._updates.get, self.id))
                if update is None or update.ended:
                    return
                await wakeup.wait(REREAD_INTERVAL)


def check_after(after: int) -> None:
    """Raises BadUserInput unless it is a place in a log."""
    if after < 0:
        raise BadUserInput(f"after must be 0, for all events, or the seq of an event; it is {after}.", "after")


def closes(events: Sequence[Event]) -> bool:
    """Whether the last of them is the last of the log."""
    what = events[-1].what if events else None
    return isinstance(what, StatusChanged) and what.phase is Phase.FINISHED
