"""The events of a stack update in the schema.

Thousands of them are answered at once, so every field is plain data that is there when an event is made.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

import strawberry

from graphql_api.domain import events
from graphql_api.domain.ports import LogPage
from graphql_api.schema.cancellation import Cancellation
from graphql_api.schema.enums import DiagnosticSeverity, LogStream, StackUpdatePhase, StackUpdateStatus
from graphql_api.schema.progress import ResourceProgress
from graphql_api.service.batches import Batch

AfterSeq = Annotated[
    int,
    strawberry.argument(
        description="Only events after the one with this seq; 0 for all. A page's or a batch's `seq` says where to go "
        "on."
    ),
]


@strawberry.interface(description="Something that happened while a stack update was worked on.")
class StackUpdateEvent:
    seq: int = strawberry.field(description="Its number in the stack update's log: 1, 2, 3 and so on, without a gap.")
    at: datetime = strawberry.field(description="When the service came to know of it.")


@strawberry.type(
    description="The stack update has another status or phase. In phase FINISHED it is the last event of all."
)
class StatusChanged(StackUpdateEvent):
    status: StackUpdateStatus = strawberry.field(description="How it stands.")
    phase: StackUpdatePhase = strawberry.field(description="Where it is on its way.")


@strawberry.type(description="Pulumi printed a line.")
class LogLine(StackUpdateEvent):
    stream: LogStream = strawberry.field(description="Where it was written to.")
    text: str = strawberry.field(description="The line without its end, free of what could drive a terminal.")
    truncated: bool = strawberry.field(description="Whether it was longer than 64 KiB and has been cut.")


@strawberry.type(description="An operation on a Pulumi resource has begun or ended.")
class ResourceChanged(StackUpdateEvent):
    resource: ResourceProgress = strawberry.field(description="How it stands.")


@strawberry.type(description="Pulumi reported a warning or an error.")
class DiagnosticReported(StackUpdateEvent):
    severity: DiagnosticSeverity = strawberry.field(description="How grave it is.")
    message: str = strawberry.field(description="Pulumi's own words.")
    urn: str | None = strawberry.field(description="The Pulumi resource that it is about; null when it is about none.")


@strawberry.type(description="The deployment is being ended before its time, or that has come further.")
class CancellationChanged(StackUpdateEvent):
    cancellation: Cancellation = strawberry.field(description="How far it has come.")


@strawberry.type(description="The deployment will soon be ended for having run too long.")
class DeadlineApproaching(StackUpdateEvent):
    deadline: datetime = strawberry.field(
        description="When that will be, unless extendStackUpdateDeadline is asked for more time."
    )


@strawberry.type(description="The deployment may run until another time than before.")
class DeadlineChanged(StackUpdateEvent):
    deadline: datetime = strawberry.field(description="When it is ended if it still runs then.")


@strawberry.type(description="From here on lines are left out, since the log has reached its limit.")
class LogOmissionStarted(StackUpdateEvent):
    limit: float = strawberry.field(description="How many bytes of lines the log takes.")


@strawberry.type(description="Lines were left out before this place; the last lines of all follow.")
class LogOmitted(StackUpdateEvent):
    lines: float = strawberry.field(description="How many lines were left out.")
    bytes: float = strawberry.field(description="How many bytes they had together.")


@strawberry.type(description="Another life of the service goes on with the stack update.")
class OwnerChanged(StackUpdateEvent):
    epoch: int = strawberry.field(description="The number of its claim on the stack; of two the higher is the later.")


#: For each event of the domain, its type here, and its fields beside seq and at.
_TYPES: dict[type[events.Happening], tuple[type[StackUpdateEvent], Callable[[Any], dict[str, Any]]]] = {
    events.StatusChanged: (
        StatusChanged,
        lambda what: {"status": StackUpdateStatus(what.status), "phase": StackUpdatePhase(what.phase)},
    ),
    events.LogLine: (
        LogLine,
        lambda what: {"stream": LogStream(what.stream), "text": what.text, "truncated": what.truncated},
    ),
    events.ResourceChanged: (ResourceChanged, lambda what: {"resource": ResourceProgress.of(what.resource)}),
    events.DiagnosticReported: (
        DiagnosticReported,
        lambda what: {"severity": DiagnosticSeverity(what.severity), "message": what.message, "urn": what.urn},
    ),
    events.CancellationChanged: (
        CancellationChanged,
        lambda what: {"cancellation": Cancellation.of(what.cancellation)},
    ),
    events.DeadlineApproaching: (DeadlineApproaching, lambda what: {"deadline": what.deadline}),
    events.DeadlineChanged: (DeadlineChanged, lambda what: {"deadline": what.deadline}),
    events.LogOmissionStarted: (LogOmissionStarted, lambda what: {"limit": what.limit}),
    events.LogOmitted: (LogOmitted, lambda what: {"lines": what.lines, "bytes": what.bytes}),
    events.OwnerChanged: (OwnerChanged, lambda what: {"epoch": what.epoch}),
}

EVENT_TYPES = [type_ for type_, _ in _TYPES.values()]


def event_of(event: events.Event) -> StackUpdateEvent:
    """The event as the schema shows it."""
    type_, fields = _TYPES[type(event.what)]
    return type_(seq=event.seq, at=event.at, **fields(event.what))


@strawberry.type(description="A part of a stack update's log.")
class StackUpdateEventPage:
    events: list[StackUpdateEvent] = strawberry.field(description="The events, in their order.")
    seq: int = strawberry.field(
        description="Go on with `after: seq`. With a filter it may lie behind the last event that is given here."
    )
    has_more: bool = strawberry.field(
        description="Whether the log goes on after `seq`; with a filter, perhaps with nothing that it takes."
    )

    @classmethod
    def of(cls, page: LogPage) -> StackUpdateEventPage:
        return cls(events=[event_of(event) for event in page.events], seq=page.seq, has_more=page.has_more)


@strawberry.type(description="Events that follow each other without a gap.")
class StackUpdateEventBatch:
    events: list[StackUpdateEvent] = strawberry.field(description="The events, in their order.")
    seq: int = strawberry.field(description="After a reconnection go on with `after: seq`.")
    caught_up: bool = strawberry.field(description="False while more events are there already and follow at once.")
    finished: bool = strawberry.field(description="True in the last batch of all; then the subscription completes.")

    @classmethod
    def of(cls, batch: Batch) -> StackUpdateEventBatch:
        return cls(
            events=[event_of(event) for event in batch.events],
            seq=batch.seq,
            caught_up=batch.caught_up,
            finished=batch.finished,
        )
