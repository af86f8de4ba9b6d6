"""Batches: a log in parts that are small enough for a message."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from graphql_api.domain.events import DiagnosticReported, Event, LogLine, ResourceChanged
from graphql_api.domain.ports import LogPage
from graphql_api.service.log import closes

#: How many events a batch holds at most.
BATCH_EVENTS = 500
#: About how many bytes of events a batch holds at most. In JSON that can become three times as many, and common clients
#: take no message over 1 MiB.
BATCH_BYTES = 256 * 1024
#: What an event weighs beside its texts, in bytes.
_BARE = 200


@dataclass(frozen=True, slots=True)
class Batch:
    """Events that follow each other; ``seq`` is where to go on.

    ``caught_up`` is False when more are there already, ``finished`` True in the last batch of all.
    """

    events: Sequence[Event]
    seq: int
    caught_up: bool
    finished: bool


def batches(page: LogPage) -> Iterator[Batch]:
    """The page in parts of about BATCH_BYTES; one at least."""
    start, size = 0, 0
    for end, event in enumerate(page.events):
        size += weight(event)
        if size > BATCH_BYTES and end > start:
            yield Batch(page.events[start:end], page.events[end - 1].seq, caught_up=False, finished=False)
            start, size = end, weight(event)
    rest = page.events[start:]
    yield Batch(rest, page.seq, caught_up=not page.has_more, finished=closes(rest))


def weight(event: Event) -> int:
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
