"""How the log of a stack update is stored: each chunk's events, place and closing as JSON text.

The events are ``[TIME, [EVENT, ...]]``, and an event is ``[MILLISECONDS AFTER TIME, WORD, what it says ...]``: most are
lines, and a line takes little room beside its text. Their seqs follow from the chunk's first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, assert_never

from graphql_api.adapters.stored import (
    UPDATE_FIELDS,
    cancellation_of,
    cancellation_values,
    json_text,
    milliseconds,
    optional_milliseconds,
    read_optional_time,
    read_time,
    read_update,
    update_values,
)
from graphql_api.domain.events import (
    CancellationChanged,
    DeadlineApproaching,
    DeadlineChanged,
    DiagnosticReported,
    Event,
    EventKind,
    Happening,
    LogLine,
    LogOmissionStarted,
    LogOmitted,
    OwnerChanged,
    ResourceChanged,
    Severity,
    StatusChanged,
    Stream,
)
from graphql_api.domain.ports import Closing
from graphql_api.domain.progress import ResourceOperation, ResourceProgress, ResourceState
from graphql_api.domain.records import Phase, Status

_COMPACT = (",", ":")
#: What the closings that earlier versions stored do not have.
_ADDED = {"requested_by": None}
#: The words for lines; every other event's word is its kind.
_WORD_OF_STREAM = {Stream.STDOUT: "o", Stream.STDERR: "e"}
_STREAM_OF_WORD = {word: stream for stream, word in _WORD_OF_STREAM.items()}
#: Stored with every chunk: never change one; another kind takes the next.
_BITS: Mapping[EventKind, int] = {
    EventKind.STATUS_CHANGED: 1 << 0,
    EventKind.LOG_LINE: 1 << 1,
    EventKind.RESOURCE_CHANGED: 1 << 2,
    EventKind.DIAGNOSTIC_REPORTED: 1 << 3,
    EventKind.CANCELLATION_CHANGED: 1 << 4,
    EventKind.DEADLINE_APPROACHING: 1 << 5,
    EventKind.DEADLINE_CHANGED: 1 << 6,
    EventKind.LOG_OMISSION_STARTED: 1 << 7,
    EventKind.LOG_OMITTED: 1 << 8,
    EventKind.OWNER_CHANGED: 1 << 9,
}


def mask_of(kinds: Iterable[EventKind]) -> int:
    """The kinds as one number, of which a bitwise and with another one tells whether both have one."""
    return sum(_BITS[kind] for kind in set(kinds))


def kinds_of(events: Iterable[Event]) -> int:
    """The kinds that are among the events, as such a number."""
    return mask_of(event.what.kind for event in events)


def events_text(events: Sequence[Event]) -> str:
    base = milliseconds(events[0].at)
    stored = []
    time, offset = events[0].at, 0
    for event in events:
        if event.at is not time:
            time, offset = event.at, milliseconds(event.at) - base
        stored.append((offset, *_stored(event.what)))
    return json_text((base, stored), _COMPACT)


def bytes_of(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def read_events(text: str, first_seq: int, after: int = 0, kinds: frozenset[EventKind] | None = None) -> list[Event]:
    """Those with a seq over ``after``, of these kinds or of all.

    Raises ValueError, LookupError or TypeError when the text is none of ours.
    """
    base, stored = json.loads(text)
    words = None if kinds is None else _words(kinds)
    events = []
    time, last_offset = read_time(base), 0
    skipped = max(0, after - first_seq + 1)
    for seq, (offset, word, *what) in enumerate(stored[skipped:], start=first_seq + skipped):
        if words is not None and word not in words:
            continue
        if offset != last_offset:
            time, last_offset = read_time(base + offset), offset
        stream = _STREAM_OF_WORD.get(word)
        happening = LogLine(stream, *what) if stream else _READERS[word](*what)
        events.append(Event(seq, time, happening))
    return events


def place_text(place: Mapping[str, Any]) -> str:
    return json_text(dict(place), _COMPACT)


def read_place(text: str) -> Mapping[str, Any]:
    place: dict[str, Any] = json.loads(text)
    return place


def closing_text(closing: Closing | None) -> str | None:
    if closing is None:
        return None
    update = dict(zip(UPDATE_FIELDS, update_values(closing.update), strict=True))
    return json_text({"update": update, "output": closing.output}, _COMPACT)


def read_closing(text: str | None) -> Closing | None:
    """Raises ValueError or KeyError when the text is none of ours."""
    if text is None:
        return None
    stored = json.loads(text)
    values = {**_ADDED, **stored["update"]}
    update = read_update([values[field] for field in UPDATE_FIELDS])
    return Closing(update, stored["output"])


def _words(kinds: frozenset[EventKind]) -> frozenset[str]:
    lines = _STREAM_OF_WORD if EventKind.LOG_LINE in kinds else ()
    return frozenset({*kinds, *lines})


def _stored(what: Happening) -> tuple[Any, ...]:
    match what:
        case LogLine():
            return _line(what)
        case ResourceChanged(resource):
            return what.kind, *_resource_values(resource)
        case DiagnosticReported(severity, message, urn):
            return what.kind, severity, message, urn
        case StatusChanged(status, phase):
            return what.kind, status, phase
        case CancellationChanged(cancellation):
            return what.kind, *cancellation_values(cancellation)
        case DeadlineApproaching(deadline) | DeadlineChanged(deadline):
            return what.kind, milliseconds(deadline)
        case LogOmitted(lines, bytes_):
            return what.kind, lines, bytes_
        case LogOmissionStarted(number) | OwnerChanged(number):
            return what.kind, number
        case _:
            assert_never(what)


def _line(line: LogLine) -> tuple[Any, ...]:
    word = _WORD_OF_STREAM[line.stream]
    return (word, line.text, True) if line.truncated else (word, line.text)


def _resource_values(resource: ResourceProgress) -> tuple[Any, ...]:
    times = (milliseconds(resource.started_at), optional_milliseconds(resource.ended_at))
    return resource.urn, resource.type, resource.operation, resource.state, *times


def _resource(
    urn: str, type_: str, operation: str, state: str, started_at: int, ended_at: int | None
) -> ResourceProgress:
    return ResourceProgress(
        urn,
        type_,
        ResourceOperation(operation),
        ResourceState(state),
        read_time(started_at),
        read_optional_time(ended_at),
    )


_READERS: Mapping[str, Callable[..., Happening]] = {
    EventKind.STATUS_CHANGED: lambda status, phase: StatusChanged(Status(status), Phase(phase)),
    EventKind.RESOURCE_CHANGED: lambda *values: ResourceChanged(_resource(*values)),
    EventKind.DIAGNOSTIC_REPORTED: lambda severity, *rest: DiagnosticReported(Severity(severity), *rest),
    EventKind.CANCELLATION_CHANGED: lambda *values: CancellationChanged(cancellation_of(*values)),
    EventKind.DEADLINE_APPROACHING: lambda deadline: DeadlineApproaching(read_time(deadline)),
    EventKind.DEADLINE_CHANGED: lambda deadline: DeadlineChanged(read_time(deadline)),
    EventKind.LOG_OMISSION_STARTED: LogOmissionStarted,
    EventKind.LOG_OMITTED: LogOmitted,
    EventKind.OWNER_CHANGED: OwnerChanged,
}
