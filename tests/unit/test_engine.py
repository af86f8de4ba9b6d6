"""The engine's event log: what is read from it, and that no log is too long or too broken.

The lines have the shape of those that Pulumi 3.259.0 writes, cut to the members that matter or might mislead.
"""

from __future__ import annotations

import json
import tracemalloc
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from graphql_api.domain.events import LINE_LIMIT as MESSAGE_LIMIT
from graphql_api.domain.events import DiagnosticReported, Happening, ResourceChanged, Severity
from graphql_api.domain.progress import ResourceOperation, ResourceProgress, ResourceState
from graphql_api.domain.records import StackOutput
from runners.engine import (
    ERROR_LENGTH,
    ERRORS_KEPT,
    LINE_LIMIT,
    NAME_LENGTH,
    OUTPUTS_LIMIT,
    EngineReport,
    LiveReport,
    read_report,
)
from tests.builders import NOON, SECOND

SECRET = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", "ciphertext": "[secret]"}
STACK_URN = "urn:pulumi:dev::shop::pulumi:pulumi:Stack::shop-dev"
NOTE_URN = "urn:pulumi:dev::shop::pulumi:index:Stash::note"


def line(**event: Any) -> str:
    """A line as the engine writes it: compact, numbered, with the time."""
    return json.dumps({"sequence": 0, "timestamp": 1767323045, **event}, separators=(",", ":"), ensure_ascii=False)


def state(urn: str, outputs: dict[str, Any] | None) -> dict[str, Any]:
    kind = urn.split("::")[2]
    return {"type": kind, "urn": urn, "id": "", "parent": "", "inputs": {}, "outputs": outputs, "provider": ""}


def resource(
    urn: str, outputs: dict[str, Any] | None, old: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    kind = urn.split("::")[2]
    old_state = None if old is None else state(urn, old)
    metadata = {"op": "create", "urn": urn, "type": kind, "old": old_state, "new": state(urn, outputs), **more}
    return {"metadata": {**metadata, "detailedDiff": None, "logical": True, "provider": ""}}


def diagnostic(severity: str, message: str, urn: str | None = None) -> str:
    named = {} if urn is None else {"urn": urn}
    return line(diagnosticEvent={**named, "message": message, "color": "never", "severity": severity})


def summary(result: str) -> str:
    figures = {"maybeCorrupt": False, "durationSeconds": 1, "resourceChanges": {"create": 2}, "PolicyPacks": {}}
    return line(summaryEvent={**figures, "isPreview": False, "result": result})


PRELUDE = line(preludeEvent={"config": {}})
CANCEL = line(cancelEvent={})
OUTPUTS = {"count": 3, "message": "hi", "nested": SECRET, "top": SECRET}
SUCCESS = (
    PRELUDE,
    line(resourcePreEvent=resource(STACK_URN, {})),
    diagnostic("debug", "Registering resource [note]\n"),
    line(resourcePreEvent=resource(NOTE_URN, {})),
    line(resOutputsEvent=resource(NOTE_URN, {"input": "hello", "output": "hello"})),
    line(resOutputsEvent=resource(STACK_URN, OUTPUTS)),
    summary("succeeded"),
    CANCEL,
)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "events"


def report(log: Path, *lines: str, end: str = "\n") -> EngineReport:
    log.write_text("\n".join(lines) + end, encoding="utf-8")
    return read_report(log)


def test_a_success_gives_the_stacks_outputs(log: Path) -> None:
    """Only the stack's own outputs are read, not those of its resources, and a secret one has no value."""
    assert report(log, *SUCCESS) == EngineReport(
        stack_outputs=(
            StackOutput("count", 3),
            StackOutput("message", "hi"),
            StackOutput("nested", None, secret=True),
            StackOutput("top", None, secret=True),
        ),
        summarized=True,
    )


@pytest.mark.parametrize(
    "value",
    [
        SECRET,
        [SECRET],
        {"a": SECRET},
        {"a": [1, {"b": [SECRET]}]},
        ["plain", {"inner": SECRET}],
        {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", "value": "in clear"},
    ],
)
def test_an_output_that_holds_a_secret_anywhere_has_no_value(log: Path, value: object) -> None:
    """However deep a secret is nested, nothing of that output is kept."""
    (output,) = report(log, line(resOutputsEvent=resource(STACK_URN, {"it": value}))).stack_outputs

    assert output == StackOutput("it", None, secret=True)


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -1.5, 12345678901234567890123, "", "日本", [], {}, [[None]], {"4dabf": 1}, "4dabf18193072939"],
)
def test_an_output_of_any_kind_keeps_its_value(log: Path, value: object) -> None:
    """Outputs are what JSON can say, and come out as they went in."""
    (output,) = report(log, line(resOutputsEvent=resource(STACK_URN, {"it": value}))).stack_outputs

    assert output == StackOutput("it", value)
    assert type(output.value) is type(value)


def test_the_last_outputs_count(log: Path) -> None:
    """A refresh or a second step tells of the stack again: what it says last is what it is."""
    lines = [line(resOutputsEvent=resource(STACK_URN, outputs)) for outputs in ({"a": 1}, {"a": 2, "b": 3})]

    assert report(log, *lines).stack_outputs == (StackOutput("a", 2), StackOutput("b", 3))


@pytest.mark.parametrize(
    "event",
    [
        resource(STACK_URN, None),
        resource(STACK_URN, {}),
        resource(STACK_URN, {}, new=None),
        resource(STACK_URN, {}, old={"gone": 1}),
        resource("urn:pulumi:dev::shop::pulumi:pulumi:StackReference::x", {"outputs": {"theirs": 1}}),
    ],
    ids=["null", "none", "no state", "only old ones", "another stack's"],
)
def test_a_stack_may_have_no_outputs(log: Path, event: dict[str, Any]) -> None:
    """No outputs are no outputs, in whichever way the engine says so."""
    assert report(log, line(resOutputsEvent=event)).stack_outputs == ()


def test_a_resource_that_fails_is_named_with_the_errors(log: Path) -> None:
    """What could not be deployed, and the providers' words about it, in their order."""
    found = report(
        log,
        PRELUDE,
        line(resOpFailedEvent={**resource(NOTE_URN, {}), "status": 1, "steps": 0}),
        diagnostic("error", "quota exceeded\n", NOTE_URN),
        diagnostic("warning", "a warning\n"),
        diagnostic("info", "Error: said by the program to its standard output\n"),
        diagnostic("error", "update failed\n", STACK_URN),
        line(resOutputsEvent=resource(STACK_URN, {"kept": 1})),
        summary("failed"),
        CANCEL,
    )

    assert found.failed_resources == (NOTE_URN,)
    assert found.errors == ("quota exceeded", "update failed")
    assert found.program_errors == ()
    assert found.stack_outputs == (StackOutput("kept", 1),)
    assert found.summarized


def test_a_program_that_fails_tells_it_on_standard_error(log: Path) -> None:
    """Of what the YAML host leaves behind, the line with the error is kept, not the quoted source."""
    found = report(
        log,
        PRELUDE,
        diagnostic("info#err", 'Error: resource, variable, or config value "nothing" not found\n\n'),
        diagnostic("info#err", "  on <stdout from compiler sh> line 5:\n\n"),
        diagnostic("info#err", "   5:       input: ${nothing}\n\n"),
        summary("failed"),
        CANCEL,
    )

    assert found.program_errors == ('Error: resource, variable, or config value "nothing" not found',)
    assert found.errors == ()


def test_a_generator_that_fails_at_once_leaves_only_the_end(log: Path) -> None:
    """A log that holds nothing but ``cancelEvent`` says nothing, and that the engine never came to a summary."""
    assert report(log, CANCEL) == EngineReport()


def test_a_summary_says_that_the_engine_came_to_its_end(log: Path) -> None:
    """It is noted whatever the result, and whatever members it has."""
    assert report(log, summary("failed")).summarized
    assert report(log, line(summaryEvent={})).summarized
    assert not report(log, PRELUDE, diagnostic("error", "about a summaryEvent")).summarized


def test_words_of_a_program_are_not_taken_for_events(log: Path) -> None:
    """A program may print whatever it likes, even lines that look like the engine's."""
    forged = line(resOutputsEvent=resource(STACK_URN, {"forged": True}))

    assert report(log, diagnostic("info", forged), diagnostic("debug", summary("succeeded"))) == EngineReport()


# --- logs that are missing, broken or long


def test_a_missing_log_is_an_empty_report(tmp_path: Path) -> None:
    """Pulumi writes no event log when it ends before the engine starts."""
    assert read_report(tmp_path / "events") == EngineReport()


def test_an_empty_log_is_an_empty_report(log: Path) -> None:
    """A log that was only begun says nothing."""
    log.touch()

    assert read_report(log) == EngineReport()


def test_a_half_written_last_line_is_passed_over(log: Path) -> None:
    """After a kill the log ends anywhere: whole lines count, half ones don't."""
    whole = report(log, *SUCCESS[:-2])
    half = summary("succeeded")

    for cut in range(len(half) + 1):
        assert report(log, *SUCCESS[:-2], half[:cut], end="") == whole


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\xff\xfe\x00",
        b'{"summaryEvent"',
        b'{"summaryEvent":[]}',
        b'{"summaryEvent":1}',
        b'["summaryEvent"]',
        b'"summaryEvent"',
        b'{"summaryEvent":{"result":7}}',
        b'{"resOutputsEvent":{"metadata":"pulumi:pulumi:Stack"}}',
        b'{"resOutputsEvent":null}',
        b'{"resOutputsEvent":{}}',
        b'{"resOpFailedEvent":{}}',
        b'{"diagnosticEvent":{"severity":"error","message":null}}',
        b'{"diagnosticEvent":{"severity":"error","message":"\\ud800"}}',
        b"[" * 100_000 + b'"summaryEvent"',
        b'{"laterEvent":{"severity":"error"}}',
    ],
)
def test_garbage_between_the_lines_is_passed_over(log: Path, garbage: bytes) -> None:
    """A damaged line, or the shape of a later Pulumi, hides nothing that stands after it."""
    lines = [text.encode() for text in SUCCESS]
    log.write_bytes(b"\n".join([*lines[:3], garbage, *lines[3:]]) + b"\n")

    assert read_report(log) == report(log, *SUCCESS)


def test_unknown_members_and_events_are_passed_over(log: Path) -> None:
    """Pulumi adds to its events from version to version."""
    newer = line(resOutputsEvent={**resource(STACK_URN, {"a": 1}, laterMember={"x": 1}), "planning": True}, later={})

    assert report(log, line(laterEvent={"summaryEvent": {}}), newer).stack_outputs == (StackOutput("a", 1),)


@pytest.mark.parametrize("length", [LINE_LIMIT - 1, LINE_LIMIT, 20 * 1024 * 1024, 8 * LINE_LIMIT])
def test_a_very_long_line_is_passed_over_with_bounded_memory(log: Path, length: int) -> None:
    """A line of any length is skipped in pieces; the line after it is read."""
    with log.open("wb") as file:
        file.write(b'{"diagnosticEvent":{"severity":"info","message":"' + b"x" * length + b'"}}\n')
        file.writelines(f"{text}\n".encode() for text in SUCCESS)

    tracemalloc.start()
    try:
        found = read_report(log)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert found.summarized
    assert len(found.stack_outputs) == 4
    assert peak < 4 * LINE_LIMIT


def test_the_end_of_a_long_line_is_no_line(log: Path) -> None:
    """What follows the limit inside one line is not read as an event of its own."""
    forged = summary("succeeded")
    log.write_bytes(b"x" * LINE_LIMIT + forged.encode() + b"\n")

    assert read_report(log) == EngineReport()


def test_a_line_within_the_limit_is_read(log: Path) -> None:
    """Large outputs are outputs."""
    large = "y" * (OUTPUTS_LIMIT // 2)

    found = report(log, line(resOutputsEvent=resource(STACK_URN, {"large": large})))

    assert found.stack_outputs == (StackOutput("large", large),)
    assert not found.outputs_left_out


@pytest.mark.parametrize(
    "outputs",
    [
        {"large": "y" * OUTPUTS_LIMIT},
        {"ä": "ß" * (OUTPUTS_LIMIT // 2)},
        {f"{number:05}": 1 for number in range(20_000)},
    ],
    ids=["one", "in bytes", "many"],
)
def test_outputs_that_no_store_would_take_are_left_out(log: Path, outputs: dict[str, Any]) -> None:
    """A record must stay small enough to be stored; that something is missing is said."""
    found = report(log, line(resOutputsEvent=resource(STACK_URN, outputs)))

    assert (found.stack_outputs, found.outputs_left_out) == ((), True)


def test_a_secret_at_the_cut_of_an_error_is_hidden_first(log: Path) -> None:
    """Half a secret is not a known one any more, so secrets are hidden before a message is cut."""
    log.write_text(diagnostic("error", "x" * (ERROR_LENGTH - 3) + "hunter2") + "\n", encoding="utf-8")

    (error,) = read_report(log, lambda text: text.replace("hunter2", "[secret]")).errors

    assert error == "x" * (ERROR_LENGTH - 3) + "[se"


def test_many_errors_are_kept_within_bounds(log: Path) -> None:
    """The first errors are kept, each up to a length: a failure's sentence stays readable."""
    errors = [diagnostic("error", f"{number} " + "x" * 5000) for number in range(ERRORS_KEPT + 5)]
    failed = [line(resOpFailedEvent=resource(f"{NOTE_URN}{number}", {})) for number in range(ERRORS_KEPT + 5)]

    found = report(log, *errors, *failed)

    assert [error.split()[0] for error in found.errors] == [str(number) for number in range(ERRORS_KEPT)]
    assert {len(error) for error in found.errors} == {ERROR_LENGTH}
    assert found.failed_resources == tuple(f"{NOTE_URN}{number}" for number in range(ERRORS_KEPT))


def test_many_program_errors_are_kept_within_bounds(log: Path) -> None:
    """The first words of a program are kept, and an error diagnostic too many is none of them."""
    programs = [diagnostic("info#err", f"Error: {number}") for number in range(ERRORS_KEPT + 5)]
    errors = [diagnostic("error", f"Error: from a provider {number}") for number in range(ERRORS_KEPT + 5)]

    assert report(log, *programs).program_errors == tuple(f"Error: {number}" for number in range(ERRORS_KEPT))
    assert report(log, *errors).program_errors == ()


# --- what is told while the log grows

PROVIDERS = "urn:pulumi:dev::shop::pulumi:providers:filetest::"
FILE_URN = "urn:pulumi:dev::shop::filetest:index:File::one"
IN_PROGRESS, DONE, FAILED = ResourceState.IN_PROGRESS, ResourceState.DONE, ResourceState.FAILED


def as_it_is(text: str) -> str:
    return text


def hiding(text: str) -> str:
    return text.replace("hunter2-long", "[secret]")


def step(kind: str, op: str, urn: str = FILE_URN, outputs: dict[str, Any] | None = None) -> str:
    return line(**{kind: resource(urn, outputs, op=op)})


def begins(op: str, urn: str = FILE_URN) -> str:
    return step("resourcePreEvent", op, urn)


def ends(op: str, urn: str = FILE_URN) -> str:
    return step("resOutputsEvent", op, urn)


def fails(op: str, urn: str = FILE_URN) -> str:
    return step("resOpFailedEvent", op, urn)


def told(*lines: str, report: LiveReport | None = None) -> list[Happening]:
    """What is told of these lines, of which one is read each second from noon on."""
    report = report or LiveReport(as_it_is)
    return [
        happening
        for number, text in enumerate(lines)
        for happening in report.happenings(text.encode(), NOON + number * SECOND)
    ]


def steps(*lines: str) -> list[tuple[str, str, str]]:
    """What is told of resources: name, operation and state of each."""
    return [
        (happening.resource.name, happening.resource.operation.value, happening.resource.state.value)
        for happening in told(*lines)
        if isinstance(happening, ResourceChanged)
    ]


def diagnostics(*lines: str, report: LiveReport | None = None) -> list[DiagnosticReported]:
    return [one for one in told(*lines, report=report) if isinstance(one, DiagnosticReported)]


@pytest.mark.parametrize(("end", "state"), [(ends, DONE), (fails, FAILED)])
def test_an_operation_has_a_beginning_and_an_end(end: Any, state: ResourceState) -> None:
    """Both are told when they are read, the end with the time of the beginning."""
    begun = ResourceProgress(FILE_URN, "filetest:index:File", ResourceOperation.CREATE, IN_PROGRESS, NOON)
    ended = ResourceProgress(FILE_URN, begun.type, begun.operation, state, NOON, NOON + 2 * SECOND)

    assert told(begins("create"), PRELUDE, end("create")) == [ResourceChanged(begun), ResourceChanged(ended)]


def test_a_replacement_is_three_operations() -> None:
    """The resource is created, or deleted, first; that it is replaced is an operation without work of its own."""
    created_first = [of(op) for op in ("create-replacement", "replace", "delete-replaced") for of in (begins, ends)]
    deleted_first = [of(op) for op in ("delete-replaced", "replace", "create-replacement") for of in (begins, ends)]

    assert steps(*created_first) == [
        ("one", operation, state)
        for operation in ("create-replacement", "replace", "delete-replaced")
        for state in ("in_progress", "done")
    ]
    assert sorted(steps(*deleted_first)) == sorted(steps(*created_first))


@pytest.mark.parametrize("operation", [one for one in ResourceOperation if one is not ResourceOperation.OTHER])
def test_operations_have_the_engines_names(operation: ResourceOperation) -> None:
    """Each is told as itself."""
    assert steps(ends(operation.value)) == [("one", operation.value, "done")]


@pytest.mark.parametrize("op", ["discard", "remove-pending-replace", "", "later"])
def test_an_unknown_operation_is_another_one(op: str) -> None:
    """Pulumi has more operations than anybody needs to tell apart, and adds to them."""
    assert steps(begins(op), fails(op)) == [("one", "other", "in_progress"), ("one", "other", "failed")]


@pytest.mark.parametrize(
    "urn",
    [STACK_URN, f"{PROVIDERS}default", f"{PROVIDERS}default_4_1_0", ""],
    ids=["stack", "default", "version", "none"],
)
def test_what_no_program_asks_for_is_no_resource(urn: str) -> None:
    """Default providers are Pulumi's own affair, and the stack is what all is about."""
    kind = urn.split("::")[2] if urn else "a:b:C"
    metadata = {"metadata": {"op": "create", "urn": urn, "type": kind}}

    assert told(line(resourcePreEvent=metadata), line(resOutputsEvent=metadata), line(resOpFailedEvent=metadata)) == []


@pytest.mark.parametrize(
    "urn",
    [
        f"{PROVIDERS}mine",
        f"{PROVIDERS}defaults",
        "urn:pulumi:dev::shop::pulumi:pulumi:StackReference::x",
        "urn:pulumi:dev::shop::a:b:C::default",
    ],
)
def test_what_a_program_asks_for_is_a_resource(urn: str) -> None:
    """A provider that the program names, another stack that it reads, whatever is called default."""
    assert len(steps(begins("create", urn), ends("create", urn))) == 2


def test_the_same_twice_is_told_once() -> None:
    """An engine may tell the beginning, and the end, of one operation more than once."""
    twice = [text for text in (begins("update"), ends("update")) for _ in range(2)]

    assert steps(*twice) == [("one", "update", "in_progress"), ("one", "update", "done")]
    assert steps(fails("update"), fails("update"), ends("update")) == [
        ("one", "update", "failed"),
        ("one", "update", "done"),
    ]


def test_the_same_again_is_told_again() -> None:
    """Two old resources of one URN are deleted one after the other; what begins anew has an end to come."""
    again = [begins("delete-replaced"), ends("delete-replaced")] * 2

    assert [state for _, _, state in steps(*again)] == ["in_progress", "done"] * 2


def test_what_a_refresh_finds_is_the_end_of_the_refresh() -> None:
    """`pulumi refresh` ends it with the name of what has changed, `pulumi up --refresh` with its own."""
    found = steps(begins("refresh"), ends("update"), begins("refresh"), ends("refresh"), begins("update"))

    assert found == [
        ("one", "refresh", "in_progress"),
        ("one", "refresh", "done"),
        ("one", "refresh", "in_progress"),
        ("one", "refresh", "done"),
        ("one", "update", "in_progress"),
    ]


def test_an_end_without_a_beginning_began_when_it_ended() -> None:
    """What was not seen has no time."""
    (happening,) = told(ends("create"))

    assert isinstance(happening, ResourceChanged)
    assert (happening.resource.started_at, happening.resource.ended_at) == (NOON, NOON)


def test_whoever_goes_on_knows_when_an_operation_began() -> None:
    """The end has the time of the beginning that somebody else has read, and the beginning is not told again."""
    first = LiveReport(as_it_is)
    told(begins("create"), begins("create", NOTE_URN), ends("create", NOTE_URN), report=first)
    minute = timedelta(minutes=1)
    assert first.in_progress == {(FILE_URN, ResourceOperation.CREATE): NOON}

    second = LiveReport(as_it_is, {key: begun - minute for key, begun in first.in_progress.items()})
    (happening,) = told(begins("create"), ends("create"), report=second)

    assert isinstance(happening, ResourceChanged)
    assert (happening.resource.started_at, happening.resource.ended_at) == (NOON - minute, NOON + SECOND)


def test_warnings_and_errors_are_told() -> None:
    """What is less grave stands on standard output already; a resource's name comes along."""
    found = told(
        diagnostic("debug", "Registering resource [one]\n"),
        diagnostic("info", "a line\n\n"),
        diagnostic("info#err", "Error: a line\n\n"),
        diagnostic("warning", "a warning\nof two lines\n", FILE_URN),
        diagnostic("error", "update failed\n"),
        diagnostic("error", "\n"),
        summary("failed"),
        CANCEL,
    )

    assert found == [
        DiagnosticReported(Severity.WARNING, "a warning\nof two lines", FILE_URN),
        DiagnosticReported(Severity.ERROR, "update failed", None),
    ]


def test_a_message_can_be_shown_anywhere() -> None:
    """No colours, no NULs, no more than a line may have, and that without half a character."""
    (coloured,) = diagnostics(diagnostic("error", "\x1b[31m a\0 \x1b[1mb\x1b[0m\n"))
    (long,) = diagnostics(diagnostic("warning", "é" * MESSAGE_LIMIT))

    assert coloured.message == "a b"
    assert long.message == "é" * (MESSAGE_LIMIT // 2)


def test_no_secret_is_told() -> None:
    """Neither in a message, nor in a name or a type."""
    urn = "urn:pulumi:dev::shop::hunter2-long::hunter2-long"
    found = told(
        diagnostic("error", "x" * (MESSAGE_LIMIT - 5) + "hunter2-long", urn),
        begins("create", urn),
        report=LiveReport(hiding),
    )

    assert len(found) == 2
    assert "hunter2" not in str(found)


def test_names_are_told_within_bounds() -> None:
    """A program may call its resources what it likes."""
    (happening,) = told(begins("create", "urn:pulumi:dev::shop::" + "t" * 3000 + "::" + "n" * 3000))
    (reported,) = diagnostics(diagnostic("error", "x", "u" * 3000))

    assert isinstance(happening, ResourceChanged)
    assert [len(text or "") for text in (happening.resource.urn, happening.resource.type, reported.urn)] == (
        [NAME_LENGTH] * 3
    )


def test_the_stacks_outputs_are_told_as_they_come() -> None:
    """None until there are any; a secret one has no value; what is told last is what they are."""
    report = LiveReport(as_it_is)
    told(*SUCCESS[:-3], report=report)
    assert report.stack_outputs is None

    told(*SUCCESS[-3:], report=report)
    assert report.stack_outputs == (
        StackOutput("count", 3),
        StackOutput("message", "hi"),
        StackOutput("nested", None, secret=True),
        StackOutput("top", None, secret=True),
    )

    told(line(resOutputsEvent=resource(STACK_URN, {"large": "y" * OUTPUTS_LIMIT})), report=report)
    assert report.stack_outputs == ()


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        '{"resourcePreEvent"',
        '{"resourcePreEvent":null}',
        '{"resourcePreEvent":{}}',
        '{"resourcePreEvent":{"metadata":"filetest:index:File"}}',
        '{"resOutputsEvent":{"metadata":{"op":1}}}',
        '{"diagnosticEvent":{"severity":"error","message":null}}',
        '{"laterEvent":{"severity":"warning"}}',
        diagnostic("info", begins("create")),
        '{"resourcePreEvent":{"metadata":{"op":"create","urn":"u","type":"t"},"x":"' + "x" * LINE_LIMIT + '"}}',
    ],
)
def test_garbage_tells_nothing(garbage: str) -> None:
    """Neither a damaged line, nor the shape of a later Pulumi, nor a program's words, nor a line beyond all bounds."""
    report = LiveReport(as_it_is)

    assert told(garbage, report=report) == []
    assert report.stack_outputs is None
