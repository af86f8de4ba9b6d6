"""The engine's event log: what is read from it, and that no log is too long or too broken.

The lines have the shape of those that Pulumi 3.259.0 writes, cut to the members that matter or might mislead.
"""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from graphql_api.domain.records import StackOutput
from runners.engine import ERROR_LENGTH, ERRORS_KEPT, LINE_LIMIT, OUTPUTS_LIMIT, EngineReport, read_report

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
