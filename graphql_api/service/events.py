"""The events of a stack update: followed from any seq on to the end, given in pages, or folded into its resources."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from functools import partial

from graphql_api.domain.errors import EventsExpired
from graphql_api.domain.events import (
    DiagnosticReported,
    Event,
    EventKind,
    LogLine,
    ResourceChanged,
    Severity,
    Stream,
)
from graphql_api.domain.ports import READ_LIMIT, EventLog, LogPage, UpdateStore, Wakeups
from graphql_api.domain.progress import ResourceProgress, Resources
from graphql_api.domain.records import StackUpdateId
from graphql_api.service.batches import BATCH_EVENTS, Batch, weight
from graphql_api.service.log import Log, check_after
from graphql_api.service.patience import patiently
from graphql_api.service.sharing import Shared, Sources
from graphql_api.service.tail import Tail

#: How many events one call looks at with a filter, and how many times it asks the store for READ_LIMIT bytes.
SCAN_EVENTS = 20_000
SCAN_READS = 8
_RESOURCES_ONLY = frozenset({EventKind.RESOURCE_CHANGED})


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
        self._tails: Sources[StackUpdateId, Tail] = Sources(
            "watch the events of a stack update", lambda id_: Tail(self._log(id_), wakeups)
        )

    async def watch(
        self, id_: StackUpdateId, after: int, *, interrupted: bool = False
    ) -> AsyncGenerator[Shared[Batch], None]:
        """Every event after ``after``: first those that are there, then each as it comes; ends with the log.

        The first batch comes at once, even if it is empty. Watchers at the same place are given the same batch. Raises
        StackUpdateNotFound, CursorAhead or EventsExpired, the last also later, where what comes next is kept no longer.

        A watcher who was ``interrupted`` behind a batch that was not the last goes on as if it had not been.
        """
        check_after(after)
        async with self._tails.join(id_) as tail:
            page = await (tail.rest(after) if interrupted else tail.first(after))
            while True:
                for batch in page.batches:
                    yield batch
                    if not batch.value.caught_up:  # what is there already may need no wait: give way to others
                        await asyncio.sleep(0)
                if page.finished:
                    return
                page = await tail.next(page.seq)

    async def history(self, id_: StackUpdateId, after: int) -> AsyncGenerator[Sequence[Event], None]:
        """What there is after ``after`` by now, in pages.

        Raises StackUpdateNotFound, CursorAhead, EventsExpired or StoreUnavailable before there is anything to read.
        """
        check_after(after)
        log = self._log(id_)
        span = await log.span()
        log.check(span, after)
        return self._pages(log, after, span.last_seq)

    async def page(self, id_: StackUpdateId, after: int, first: int, where: EventFilter = EVERY_EVENT) -> LogPage:
        """The first so many events after ``after`` that the filter takes; what is kept no longer is passed over.

        With a filter one call looks at a bounded part of the log: it may give less, or nothing, and have more. May
        raise StoreUnavailable.
        """
        check_after(after)
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
            if not page.has_more or len(found) == first or sum(map(weight, found)) >= READ_LIMIT:
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

    def _log(self, id_: StackUpdateId) -> Log:
        return Log(id_, self._updates, self._events, self._wakeups)

    async def _pages(self, log: Log, after: int, last: int) -> AsyncGenerator[Sequence[Event], None]:
        while after < last:
            page = await patiently(f"the events of {log.id}", partial(log.read, after, min(BATCH_EVENTS, last - after)))
            if not page.events:
                raise EventsExpired(log.id, None)
            yield page.events
            after = page.seq
