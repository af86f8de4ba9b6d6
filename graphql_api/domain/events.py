"""What happens while a stack update is worked on, as its log tells it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from graphql_api.domain.progress import ResourceProgress
from graphql_api.domain.records import Cancellation, Phase, Status

#: Longer lines are cut, in bytes of UTF-8.
LINE_LIMIT = 64 * 1024


class EventKind(StrEnum):
    """Which event it is; a log can be read for some kinds only."""

    STATUS_CHANGED = "status"
    LOG_LINE = "line"
    RESOURCE_CHANGED = "resource"
    DIAGNOSTIC_REPORTED = "diagnostic"
    CANCELLATION_CHANGED = "cancellation"
    DEADLINE_APPROACHING = "deadline_approaching"
    DEADLINE_CHANGED = "deadline_changed"
    LOG_OMISSION_STARTED = "omission_started"
    LOG_OMITTED = "omitted"
    OWNER_CHANGED = "owner"


class Stream(StrEnum):
    """Where a line was written to."""

    STDOUT = "stdout"
    STDERR = "stderr"


class Severity(StrEnum):
    """How grave a diagnostic is. What is less grave than a warning is a line of the log."""

    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class StatusChanged:
    """The stack update has another status or phase. In phase FINISHED it is the log's last event."""

    kind: ClassVar = EventKind.STATUS_CHANGED
    status: Status
    phase: Phase


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line that Pulumi printed, without its end, as text that can be shown anywhere.

    ``truncated`` when it was longer than LINE_LIMIT.
    """

    kind: ClassVar = EventKind.LOG_LINE
    stream: Stream
    text: str
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class ResourceChanged:
    """An operation on a resource has begun or ended."""

    kind: ClassVar = EventKind.RESOURCE_CHANGED
    resource: ResourceProgress


@dataclass(frozen=True, slots=True)
class DiagnosticReported:
    """Pulumi reported a warning or an error, about a resource if there is a ``urn``."""

    kind: ClassVar = EventKind.DIAGNOSTIC_REPORTED
    severity: Severity
    message: str
    urn: str | None = None


@dataclass(frozen=True, slots=True)
class CancellationChanged:
    """The deployment is being ended, and how far that has come."""

    kind: ClassVar = EventKind.CANCELLATION_CHANGED
    cancellation: Cancellation


@dataclass(frozen=True, slots=True)
class DeadlineApproaching:
    """The deployment will soon be ended for having run too long."""

    kind: ClassVar = EventKind.DEADLINE_APPROACHING
    deadline: datetime


@dataclass(frozen=True, slots=True)
class DeadlineChanged:
    """The deployment may run until another time than before."""

    kind: ClassVar = EventKind.DEADLINE_CHANGED
    deadline: datetime


@dataclass(frozen=True, slots=True)
class LogOmissionStarted:
    """From here on lines are left out, since the log has reached its limit of so many bytes of lines."""

    kind: ClassVar = EventKind.LOG_OMISSION_STARTED
    limit: int


@dataclass(frozen=True, slots=True)
class LogOmitted:
    """So many lines, of so many bytes together, were left out; the last lines of all follow."""

    kind: ClassVar = EventKind.LOG_OMITTED
    lines: int
    bytes: int


@dataclass(frozen=True, slots=True)
class OwnerChanged:
    """Another life of the service goes on with the stack update."""

    kind: ClassVar = EventKind.OWNER_CHANGED
    epoch: int


Happening = (
    StatusChanged
    | LogLine
    | ResourceChanged
    | DiagnosticReported
    | CancellationChanged
    | DeadlineApproaching
    | DeadlineChanged
    | LogOmissionStarted
    | LogOmitted
    | OwnerChanged
)


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of a log: ``seq`` counts from 1 without a gap, ``at`` is when the service came to know of it."""

    seq: int
    at: datetime
    what: Happening
