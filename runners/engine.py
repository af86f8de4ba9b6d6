"""The engine's own words: what Pulumi's event log says about a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from graphql_api.domain.events import DiagnosticReported, Happening, ResourceChanged, Severity
from graphql_api.domain.progress import ResourceOperation, ResourceProgress, ResourceState
from graphql_api.domain.records import Diagnostic, StackOutput
from runners.lines import Splitter, cut
from runners.output import clean

#: Longer lines of the event log are not parsed: no error message and no set of outputs is that long.
LINE_LIMIT = 8 * 1024 * 1024
#: How many error messages of a run are kept, and how much of each.
ERRORS_KEPT = 10
ERROR_LENGTH = 2000
#: How much of a URN or a type is told live.
NAME_LENGTH = 2000
#: A set of stack outputs over this many bytes is not kept: a MongoDB document ends at 16 MB.
OUTPUTS_LIMIT = 1024 * 1024
#: What each output takes beside its name and its value where it is stored.
_OUTPUT_ROOM = 64

#: Pulumi marks a secret by an object with this key (its sdk/go/common/resource/sig).
_SECRET_SIGNATURE = "4dabf18193072939515e22adb298388d"  # noqa: S105 (a public constant)
_STACK_TYPE = "pulumi:pulumi:Stack"
_PROVIDER_TYPES = "pulumi:providers:"
#: Only lines with one of these are parsed; a chatty program's log lines are passed over.
_TELLING = (
    *(b'"resOutputsEvent"', b'"resOpFailedEvent"', b'"severity":"error"', b'"info#err"', b'"summaryEvent"'),
    b'"stdoutEvent"',
)
_TELLING_LIVE = (
    *(b'"resourcePreEvent"', b'"resOutputsEvent"', b'"resOpFailedEvent"', b'"severity":"error"'),
    b'"severity":"warning"',
)
_OPERATIONS = {operation.value: operation for operation in ResourceOperation}
_SEVERITIES = {severity.value: severity for severity in Severity}
_READ_BYTES = 64 * 1024
#: The engine's own words when a signal tells it to stop.
_CANCELLING = "received; cancelling."


class _Line(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="ignore", frozen=True)


class _State(_Line):
    outputs: dict[str, Any] | None = None


class _Metadata(_Line):
    op: str = ""
    urn: str = ""
    type: str = ""
    new: _State | None = None


class _Resource(_Line):
    metadata: _Metadata


class _Diagnostic(_Line):
    message: str = ""
    severity: str = ""
    urn: str | None = None


class _Stdout(_Line):
    message: str = ""


class _Summary(_Line):
    result: str | None = None


class EngineEvent(_Line):
    """A line of the event log, as far as it matters here; unknown members are ignored, Pulumi adds new ones often."""

    resource_pre_event: _Resource | None = None
    res_outputs_event: _Resource | None = None
    res_op_failed_event: _Resource | None = None
    diagnostic_event: _Diagnostic | None = None
    stdout_event: _Stdout | None = None
    summary_event: _Summary | None = None


@dataclass(frozen=True, slots=True)
class EngineReport:
    """What the event log says of a run; all empty when the engine never started.

    ``errors`` are the messages of the first ERRORS_KEPT error diagnostics, ``program_errors`` what the program wrote
    to its standard error beginning with ``Error``, which is all that some language hosts leave behind;
    ``diagnostics`` are the same, in this order, with the resources that they are about. ``signalled`` is true when a
    signal told the engine to stop, whoever sent it, ``outputs_left_out`` when the outputs are too large to be kept.
    """

    stack_outputs: tuple[StackOutput, ...] = ()
    failed_resources: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    program_errors: tuple[str, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()
    summarized: bool = False
    signalled: bool = False
    outputs_left_out: bool = False


def _as_it_is(text: str) -> str:
    return text


def read_report(path: Path, hide: Callable[[str], str] = _as_it_is) -> EngineReport:
    """Read an event log of any length with bounded memory. A missing or damaged one gives what could be read.

    ``hide`` replaces the secrets in a message before it is cut to its length.
    """
    outputs: tuple[StackOutput, ...] = ()
    failed: list[str] = []
    errors: list[Diagnostic] = []
    program_errors: list[Diagnostic] = []
    summarized = signalled = False
    for event in _events(path):
        if event.res_outputs_event and event.res_outputs_event.metadata.type == _STACK_TYPE:
            outputs = _stack_outputs(event.res_outputs_event.metadata.new)
        elif event.res_op_failed_event:
            failed.append(event.res_op_failed_event.metadata.urn)
        elif event.diagnostic_event:
            _keep_error(event.diagnostic_event, hide, errors, program_errors)
        elif event.stdout_event:
            signalled = signalled or _CANCELLING in event.stdout_event.message
        summarized = summarized or event.summary_event is not None
    fits = _stored_size(outputs) <= OUTPUTS_LIMIT
    return EngineReport(
        stack_outputs=outputs if fits else (),
        failed_resources=tuple(failed[:ERRORS_KEPT]),
        errors=tuple(error.message for error in errors),
        program_errors=tuple(error.message for error in program_errors),
        diagnostics=(*errors, *program_errors),
        summarized=summarized,
        signalled=signalled,
        outputs_left_out=not fits,
    )


#: What names one operation on one resource: its URN beside it.
OperationKey = tuple[str, ResourceOperation]


class LiveReport:
    """What the event log says while it grows, line by line.

    ``hide`` replaces the secrets in a text. ``in_progress`` are the operations whose beginning an earlier reader of the
    same log has told, with when that was. ``stack_outputs`` are those that were told last, None until then, without
    what Pulumi marks secret; other secrets may be in them, as in a report's.
    """

    def __init__(self, hide: Callable[[str], str], in_progress: Mapping[OperationKey, datetime] | None = None) -> None:
        self.stack_outputs: tuple[StackOutput, ...] | None = None
        self._hide = hide
        self._begun = dict(in_progress or {})
        self._ends: dict[OperationKey, ResourceState] = {}

    @property
    def in_progress(self) -> Mapping[OperationKey, datetime]:
        """The operations whose end has not been told, with when they began."""
        return self._begun

    def happenings(self, line: bytes, now: datetime) -> Iterator[Happening]:
        """What a line tells that was not known before; ``now`` is when it was read."""
        event = _parsed(line, _TELLING_LIVE)
        if event is None:
            return
        if event.resource_pre_event:
            yield from self._begin(event.resource_pre_event.metadata, now)
        elif event.res_outputs_event:
            self._keep_outputs(event.res_outputs_event.metadata)
            yield from self._end(event.res_outputs_event.metadata, ResourceState.DONE, now)
        elif event.res_op_failed_event:
            yield from self._end(event.res_op_failed_event.metadata, ResourceState.FAILED, now)
        elif event.diagnostic_event:
            yield from self._diagnostic(event.diagnostic_event)

    def _begin(self, metadata: _Metadata, now: datetime) -> Iterator[Happening]:
        key = self._key(metadata)
        if _is_shown(metadata) and key not in self._begun:
            self._begun[key] = now
            yield self._changed(metadata, key, ResourceState.IN_PROGRESS, now)

    def _end(self, metadata: _Metadata, state: ResourceState, now: datetime) -> Iterator[Happening]:
        key = self._key(metadata)
        if key not in self._begun and (key[0], ResourceOperation.REFRESH) in self._begun:
            key = key[0], ResourceOperation.REFRESH  # `pulumi refresh` ends it with the name of what it found
        begun = self._begun.pop(key, None)
        if _is_shown(metadata) and (begun or self._ends.get(key) is not state):
            self._ends[key] = state
            yield self._changed(metadata, key, state, begun or now, now)

    def _key(self, metadata: _Metadata) -> OperationKey:
        return self._name(metadata.urn), _OPERATIONS.get(metadata.op, ResourceOperation.OTHER)

    def _changed(
        self,
        metadata: _Metadata,
        key: OperationKey,
        state: ResourceState,
        begun: datetime,
        ended: datetime | None = None,
    ) -> ResourceChanged:
        return ResourceChanged(ResourceProgress(key[0], self._name(metadata.type), key[1], state, begun, ended))

    def _diagnostic(self, diagnostic: _Diagnostic) -> Iterator[Happening]:
        severity = _SEVERITIES.get(diagnostic.severity)
        message = self._hide(clean(diagnostic.message).strip())
        if severity and message:
            yield DiagnosticReported(severity, cut(message).text, self._name(diagnostic.urn or "") or None)

    def _name(self, text: str) -> str:
        return self._hide(clean(text))[:NAME_LENGTH]

    def _keep_outputs(self, metadata: _Metadata) -> None:
        if metadata.type == _STACK_TYPE:
            outputs = _stack_outputs(metadata.new)
            self.stack_outputs = outputs if _stored_size(outputs) <= OUTPUTS_LIMIT else ()


def _is_shown(metadata: _Metadata) -> bool:
    """False for what nobody wrote into a program: its default providers, and the stack, whose end is often not told."""
    name = metadata.urn.rpartition("::")[2]
    is_default = metadata.type.startswith(_PROVIDER_TYPES) and (name == "default" or name.startswith("default_"))
    return bool(metadata.urn) and metadata.type != _STACK_TYPE and not is_default


def _stored_size(outputs: tuple[StackOutput, ...]) -> int:
    return sum(
        len(json.dumps([output.name, output.value], ensure_ascii=False).encode("utf-8", "surrogatepass")) + _OUTPUT_ROOM
        for output in outputs
    )


def _keep_error(
    diagnostic: _Diagnostic,
    hide: Callable[[str], str],
    errors: list[Diagnostic],
    program_errors: list[Diagnostic],
) -> None:
    message = hide(diagnostic.message.strip())[:ERROR_LENGTH]
    kept = errors if diagnostic.severity == "error" else program_errors if message.startswith("Error") else None
    if kept is not None and len(kept) < ERRORS_KEPT:
        kept.append(Diagnostic(message, (diagnostic.urn or "")[:ERROR_LENGTH] or None))


def _events(path: Path) -> Iterator[EngineEvent]:
    for line in _lines(path):
        if event := _parsed(line, _TELLING):
            yield event


def _parsed(line: bytes, telling: tuple[bytes, ...]) -> EngineEvent | None:
    """The event in a line that holds a telling word; None for a half line, and for a shape of a later Pulumi."""
    if len(line) > LINE_LIMIT or not any(word in line for word in telling):
        return None
    try:
        return EngineEvent.model_validate_json(line)
    except ValidationError:
        return None


def _lines(path: Path) -> Iterator[bytes]:
    if not path.exists():
        return
    splitter = Splitter(LINE_LIMIT)
    with path.open("rb") as file:
        while data := file.read(_READ_BYTES):
            yield from splitter.feed(data)


def _stack_outputs(state: _State | None) -> tuple[StackOutput, ...]:
    outputs = (state.outputs if state else None) or {}
    return tuple(
        StackOutput(name, None, secret=True) if _holds_secret(value) else StackOutput(name, value)
        for name, value in outputs.items()
    )


def _holds_secret(value: object) -> bool:
    if isinstance(value, dict):
        return _SECRET_SIGNATURE in value or any(_holds_secret(member) for member in value.values())
    return isinstance(value, list) and any(_holds_secret(item) for item in value)
