"""Puts a page of a log together from stored chunks."""

from __future__ import annotations

from collections.abc import Sequence

from graphql_api.adapters.stored_events import bytes_of, events_text, read_events
from graphql_api.domain.events import Event, EventKind
from graphql_api.domain.ports import READ_LIMIT, LogPage


class LogPageBuilder:
    """Takes those chunks after ``after`` that hold what is asked for, one by one in their order, until it is full."""

    def __init__(self, after: int, limit: int, kinds: frozenset[EventKind] | None) -> None:
        self._after = after
        self._limit = limit
        self._kinds = kinds
        self._events: list[Event] = []
        self._size = 0
        self._full_at: int | None = None

    def ends_before(self, first_seq: int, size: int) -> bool:
        """Whether the page is full, now that the next chunk begins so and is of so many bytes."""
        if self._events and (len(self._events) >= self._limit or self._size + size > READ_LIMIT):
            self._full_at = first_seq - 1
        return self._full_at is not None

    def add(self, first_seq: int, text: str) -> bool:
        """Take the next chunk; False when the page is full before the chunk's end."""
        size = bytes_of(text)
        if self.ends_before(first_seq, size):
            return False
        self._size += size
        found = read_events(text, first_seq, self._after, self._kinds)
        taken: Sequence[Event] = found[: self._limit - len(self._events)]
        if size > READ_LIMIT:
            taken = _within_limit(taken)
        self._events += taken
        if len(taken) < len(found):
            self._full_at = found[len(taken)].seq - 1
        return self._full_at is None

    def page(self, last_seq: int) -> LogPage:
        """What there is of a log that ends with ``last_seq``."""
        if self._full_at is not None:
            return LogPage(self._events, self._full_at, has_more=True)
        return LogPage(self._events, max(self._after, last_seq), has_more=False)


def _within_limit(events: Sequence[Event]) -> Sequence[Event]:
    """The first one, and those after it that are no more than READ_LIMIT with it."""
    size = 0
    for number, event in enumerate(events):
        size += bytes_of(events_text([event]))
        if size > READ_LIMIT and number:
            return events[:number]
    return events
