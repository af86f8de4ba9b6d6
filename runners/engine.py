"""The engine's own words: what Pulumi's event log says about a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from graphql_api.domain.records import Diagnostic, StackOutput

#: Longer lines of the event log are not parsed: no error message and no set of outputs is that long.
LINE_LIMIT = 8 * 1024 * 1024
#: How many error messages of a run are kept, and how much of each.
ERRORS_KEPT = 10
ERROR_LENGTH = 2000
#: A set of stack outputs over this many bytes is not kept: a MongoDB document ends at 16 MB.
OUTPUTS_LIMIT = 1024 * 1024
#: What each output takes beside its name and its value where it is stored.
_OUTPUT_ROOM = 64

#: Pulumi marks a secret by an object with this key (its sdk/go/common/resource/sig).
_SECRET_SIGNATURE = "4dabf18193072939515e22adb298388d"  # noqa: S105 (a public constant)
_STACK_TYPE = "pulumi:pulumi:Stack"
#: Only lines with one of these are parsed; a chatty program's log lines are passed over.
_TELLING = (
    *(b'"resOutputsEvent"', b'"resOpFailedEvent"', b'"severity":"error"', b'"info#err"', b'"summaryEvent"'),
    b'"stdoutEvent"',
)
#: The engine's own words when a signal tells it to stop.
_CANCELLING = "received; cancelling."


class _Line(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="ignore", frozen=True)


class _State(_Line):
    outputs: dict[str, Any] | None = None


class _Metadata(_Line):
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
        if any(word in line for word in _TELLING):
            try:
                yield EngineEvent.model_validate_json(line)
            except ValidationError:  # a half-written last line after a kill, or a shape of a later Pulumi
                continue


def _lines(path: Path) -> Iterator[bytes]:
    if not path.exists():
        return
    with path.open("rb") as file:
        whole = True
        while line := file.readline(LINE_LIMIT):
            if whole and line.endswith(b"\n"):
                yield line
            whole = line.endswith(b"\n")


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
