"""The events of a stack update: followed from any seq on to the end, given in pages, or folded into its resources."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from graphql_api.domain.errors import BadUserInput, CursorAhead, EventsExpired, StackUpdateNotFound
from graphql_api.domain.events import (
    DiagnosticReported,
    Event,
    EventKind,
    LogLine,
    ResourceChanged,
    Severity,
    StatusChanged,
    Stream,
)
from graphql_api.domain.ports import READ_LIMIT, EventLog, LogPage, Span, UpdateStore, Wakeups, events_topic
from graphql_api.domain.progress import ResourceProgress, Resources
from graphql_api.domain.records import Phase, StackUpdateId
from graphql_api.service.feed import REREAD_INTERVAL
from graphql_api.service.patience import patiently

#: How many events a batch holds at most.
BATCH_EVENTS = 500
#: About how many bytes of events a batch holds at most. In JSON that can become three times as many, and common clients
#: take no message over 1 MiB.
BATCH_BYTES = 256 * 1024
#: How many events one call looks at with a filter, and how many times it asks the store for READ_LIMIT bytes.
SCAN_EVENTS = 20_000
SCAN_READS = 8
#: What an event weighs beside its texts, in bytes.
_BARE = 200
_RESOURCES_ONLY = frozenset({EventKind.RESOURCE_CHANGED})


@dataclass(frozen=True, slots=True)
class Batch:
    """Events that follow each other; ``seq`` is where to go on.

    ``caught_up`` is False when more are there already, ``finished`` True in the last batch of all.
    """

    events: Sequence[Event]
    seq: int
    caught_up: bool
    finished: bool


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events to give; None does not restrict, an empty set allows none. An event has to satisfy every member.

    ``streams`` and ``severities`` leave the lines of these streams and the diagnostics of these severities, ``urn``
    the changes and diagnostics of that resource, and ``text`` the lines and diagnostics that contain it, whatever the
    case of the letters.
    """

    streams: frozenset[Stream] | None = None
    severities: frozenset[Severity] | None = None
    urn: str | None = None
    text: str | None = None

    @property
    def kinds(self) -> frozenset[EventKind] | None:
        """The kinds of the events that can pass; None when all can."""
        kinds = frozenset(EventKind)
        if self.streams is not None or self.severities is not None:
            kinds &= _kinds_of(EventKind.LOG_LINE, self.streams) | _kinds_of(
                EventKind.DIAGNOSTIC_REPORTED, self.severities
            )
        if self.urn is not None:
            kinds &= {EventKind.RESOURCE_CHANGED, EventKind.DIAGNOSTIC_REPORTED}
        if self.text is not None:
            kinds &= {EventKind.LOG_LINE, EventKind.DIAGNOSTIC_REPORTED}
        return kinds if kinds != frozenset(EventKind) else None

    def passes(self, event: Event) -> bool:
        """Whether an event of one of these kinds passes."""
        match event.what:
            case LogLine(stream=stream, text=text):
                return (self.streams is None or stream in self.streams) and self._contained_in(text)
            case DiagnosticReported(severity=severity, message=message, urn=urn):
                wanted = self.severities is None or severity in self.severities
                return wanted and self.urn in (None, urn) and self._contained_in(message)
            case ResourceChanged(resource=resource):
                return self.urn in (None, resource.urn)
        return True

    def _contained_in(self, text: str) -> bool:
        return self.text is None or self.text.casefold() in text.casefold()


EVERY_EVENT = EventFilter()


def _kinds_of(kind: EventKind, wanted: frozenset[object] | None) -> frozenset[EventKind]:
    return frozenset({kind}) if wanted else frozenset()


class Events:
    """Reads the events of stack updates. Nothing is held for anybody: a slow reader reads later from the log.

    Whoever has begun to read waits for a store that is away, however long. Every ``after`` below 0 is BadUserInput.
    """

    def __init__(self, updates: UpdateStore, events: EventLog, wakeups: Wakeups) -> None:
        self._updates = updates
        self._events = events
        self._wakeups = wakeups
        self._turn = asyncio.Lock()  # of who is given a batch

    async def watch(self, id_: StackUpdateId, after: int) -> AsyncGenerator[Batch, None]:
        """Every event after ``after``: first those that are there, then each as it comes; ends with the log.

        The first batch comes at once, even if it is empty. Raises StackUpdateNotFound, CursorAhead or EventsExpired,
        the last also later, where what comes next is kept no longer.
        """
        async with self._wakeups.listen(events_topic(id_)) as wakeup:
            if await patiently(f"the events of {id_}", partial(self._ends_at, id_, after)):
                await self._is_recorded(id_)
                yield Batch((), after, caught_up=True, finished=True)
                return
            begun = False
            while True:
                page = await patiently(f"the events of {id_}", partial(self._next, id_, after, BATCH_EVENTS))
                if _closes(page.events):
                    await self._is_recorded(id_)
                if page.events or not begun:
                    for batch in _batches(page):
                        await self._take_turn()
                        yield batch
                    begun = True
                if _closes(page.events):
                    return
                after = page.seq
                if not page.has_more:
                    await wakeup.wait(REREAD_INTERVAL)

    async def history(self, id_: StackUpdateId, after: int) -> AsyncGenerator[Sequence[Event], None]:
        """What there is after ``after`` by now, in pages.

        Raises StackUpdateNotFound, CursorAhead, EventsExpired or StoreUnavailable before there is anything to read.
        """
        span = await self._span(id_, after)
        return self._pages(id_, after, span.last_seq if span else after)

    async def page(self, id_: StackUpdateId, after: int, first: int, where: EventFilter = EVERY_EVENT) -> LogPage:
        """The first so many events after ``after`` that the filter takes; what is kept no longer is passed over.

        With a filter one call looks at a bounded part of the log: it may give less, or nothing, and have more. May
        raise StoreUnavailable.
        """
        _check(after)
        if where == EVERY_EVENT:
            return await self._events.read(id_, after, first)
        found = list[Event]()
        for _ in range(SCAN_READS):
            page = await self._events.read(id_, after, SCAN_EVENTS // SCAN_READS, where.kinds)
            passing = [event for event in page.events if where.passes(event)]
            if len(found) + len(passing) > first:
                found += passing[: first - len(found)]
                return LogPage(found, found[-1].seq, has_more=True)
            found += passing
            after = page.seq
            if not page.has_more or len(found) == first or sum(map(_weight, found)) >= READ_LIMIT:
                break
        return LogPage(found, after, page.has_more)

    async def resources(self, id_: StackUpdateId) -> list[ResourceProgress]:
        """What was done to each Pulumi resource, in the order in which Pulumi began. May raise StoreUnavailable."""
        resources, after, has_more = Resources(), 0, True
        while has_more:
            page = await self._events.read(id_, after, SCAN_EVENTS, _RESOURCES_ONLY)
            for event in page.events:
                if isinstance(event.what, ResourceChanged):
                    resources.put(event.what.resource)
            after, has_more = page.seq, page.has_more
        return resources.all()

    async def _pages(self, id_: StackUpdateId, after: int, last: int) -> AsyncGenerator[Sequence[Event], None]:
        while after < last:
            page = await patiently(
                f"the events of {id_}", partial(self._next, id_, after, min(BATCH_EVENTS, last - after))
            )
            if not page.events:
                raise EventsExpired(id_, None)
            yield page.events
            after = page.seq

    async def _take_turn(self) -> None:
        """Wait until no other watcher is given a batch in this round of the loop.

        A large one keeps the loop busy for some 15 ms: between two of them all other work has its turn, so that
        watchers, however many, don't hold up the worker and each other's answers.
        """
        async with self._turn:
            await asyncio.sleep(0)

    async def _is_recorded(self, id_: StackUpdateId) -> None:
        """Wait until the record has ended, a moment after its log: who is told of the end may ask for it at once."""
        async with self._wakeups.listen(id_) as wakeup:
            while True:
                update = await patiently(f"the stack update {id_}", partial(self._updates.get, id_))
                if update is None or update.ended:
                    return
                await wakeup.wait(REREAD_INTERVAL)

    async def _next(self, id_: StackUpdateId, after: int, limit: int) -> LogPage:
        page = await self._events.read(id_, after, limit)
        if page.events and page.events[0].seq > after + 1:
            raise EventsExpired(id_, page.events[0].seq)
        if not page.events and await self._updates.get(id_) is None:  # nothing more will come
            raise EventsExpired(id_, None)
        return page

    async def _ends_at(self, id_: StackUpdateId, after: int) -> bool:
        """Whether the log is closed and ``after`` its last seq."""
        span = await self._span(id_, after)
        if span is None or after < span.last_seq:
            return False
        return _closes((await self._events.read(id_, after - 1, 1)).events)

    async def _span(self, id_: StackUpdateId, after: int) -> Span | None:
        """What is kept of the log, where all that comes after ``after`` is kept or still to come."""
        _check(after)
        update = await self._updates.get(id_)  # before the log, which is closed before the record ends
        if update is None:
            raise StackUpdateNotFound(id_)
        span = await self._events.span(id_)
        if span is None and update.ended:
            raise EventsExpired(id_, None)
        first, last = (span.first_seq, span.last_seq) if span else (1, 0)
        if after > last:
            raise CursorAhead(id_, last)
        if after + 1 < first:
            raise EventsExpired(id_, first)
        return span


def _check(after: int) -> None:
    if after < 0:
        raise BadUserInput(f"after must be 0, for all events, or the seq of an event; it is {after}.", "after")


def _closes(events: Sequence[Event]) -> bool:
    """Whether the last of them is the last of the log."""
    what = events[-1].what if events else None
    return isinstance(what, StatusChanged) and what.phase is Phase.FINISHED


def _batches(page: LogPage) -> Iterator[Batch]:
    """The page in parts of about BATCH_BYTES; one at least."""
    start, weight = 0, 0
    for end, event in enumerate(page.events):
        weight += _weight(event)
        if weight > BATCH_BYTES and end > start:
            yield Batch(page.events[start:end], page.events[end - 1].seq, caught_up=False, finished=False)
            start, weight = end, _weight(event)
    rest = page.events[start:]
    yield Batch(rest, page.seq, caught_up=not page.has_more, finished=_closes(rest))


def _weight(event: Event) -> int:
    """About how many bytes it takes."""
    match event.what:
        case LogLine(text=text):
            return _BARE + _size(text)
        case DiagnosticReported(message=message, urn=urn):
            return _BARE + _size(message) + _size(urn or "")
        case ResourceChanged(resource=resource):
            return _BARE + 3 * _size(resource.urn)  # of which its id, name and type are made
    return _BARE


def _size(text: str) -> int:
    return len(text.encode(errors="replace"))
