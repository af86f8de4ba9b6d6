"""How stack updates are shown, and that nothing in them reaches a terminal unseen."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from graphql_api.terminal import clean, json_line, note, plain, showing, table

NOW = datetime(2026, 1, 1, 12, 1, 5, tzinfo=UTC)


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def change(**fields: Any) -> dict[str, Any]:
    """A stack update that runs, as the server pushes it."""
    return {
        "id": "6b061977c81259f0ca000001",
        "status": "IN_PROGRESS",
        "phase": "RUNNING",
        "stackFqdn": "organization/tests/one",
        "createdAt": "2026-01-01T12:00:00.000Z",
        "updatedAt": "2026-01-01T12:00:01.000Z",
        "finishedAt": None,
        "failure": None,
        "cloudResource": {"kind": "Thing", "name": "one"},
        "stackOutputs": [],
        **fields,
    }


def lines(record: dict[str, Any]) -> list[str]:
    said: list[str] = []
    plain(said.append)(record)
    return said


def live(*changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    """What a terminal gets."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm-256color", **variables}.items():
        monkeypatch.setenv(name, value)
    out = Terminal()
    with showing(out, now=lambda: NOW) as show:
        for one in changes:
            show(one)
    return out.getvalue()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text", "plain text"),
        ("Grüße, 世界 🙂", "Grüße, 世界 🙂"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("a\rb\nc\td", "a\\rb\\nc\\td"),
        ("\x9b31m\x7f", "\\x9b31m\\x7f"),
        ("user\u202egpj.exe", "user\\u202egpj.exe"),
        ("\u2028\ud800", "\\u2028\\ud800"),
    ],
)
def test_what_could_drive_a_terminal_is_shown_as_its_escape(text: str, shown: str) -> None:
    """Controls, formats, line ends and half characters are neutralised; writing of all languages stays."""
    assert clean(text) == shown


def test_json_is_plain_ascii_that_means_the_same() -> None:
    """A line of JSON holds no control character and reads back as what it was."""
    value = {"a": "\x1b[2J\x7f\x9b\u202e\n世界"}
    line = json_line(value)

    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line) == value


def test_a_push_is_a_line() -> None:
    """While it runs, a stack update is its time, status and phase."""
    assert lines(change()) == ["2026-01-01T12:00:01.000Z  IN_PROGRESS  running"]


def test_an_outcome_brings_its_outputs_and_its_failure() -> None:
    """Outputs are JSON, secret ones are not shown, and of a long failure each line is one."""
    failure = {"kind": "PROGRAM_ERROR", "message": "It failed:\n\tbad \x1b[31mthing\r\nand more\n"}
    outputs = [
        {"name": "url\x07", "value": "a\x1bb\n", "secret": False},
        {"name": "key", "value": None, "secret": True},
        {"name": "n", "value": [1, {"ä": None}], "secret": False},
    ]
    shown = lines(change(status="FAILED", phase="FINISHED", failure=failure, stackOutputs=outputs))

    assert shown[1:] == [
        "  PROGRAM_ERROR: It failed:",
        "            bad \\x1b[31mthing",
        "    and more",
        '  url\\x07 = "a\\u001bb\\n"',
        "  key = [secret]",
        '  n = [1, {"ä": null}]',
    ]


def test_on_a_terminal_the_picture_changes_in_place_and_the_last_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cursor is hidden and comes back; in the end the outcome stands there once, with the time that it took."""
    ended = change(status="SUCCESS", phase="FINISHED", finishedAt="2026-01-01T13:02:03.000Z")
    printed = live(change(), ended, monkeypatch=monkeypatch)

    assert "1 min 05 s" in printed
    assert printed.index("\x1b[?25l") < printed.rindex("\x1b[?25h")
    last = printed.rpartition("\x1b[2K")[2]
    assert "SUCCESS" in last
    assert "1 h 02 min" in last
    assert "Thing/one  organization/tests/one  6b061977c81259f0ca000001" in last
    assert "IN_PROGRESS" not in last


def test_the_elapsed_time_never_runs_backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a server's clock ahead of ours, the time is what the server's own stamps say."""
    ahead = change(createdAt="2026-01-01T13:00:00.000Z", updatedAt="2026-01-01T13:00:07.000Z")

    assert "  7 s" in live(ahead, monkeypatch=monkeypatch)


def test_no_escape_of_a_server_reaches_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the picture, whatever field they came in, control characters are text."""
    evil = "\x1b]0;owned\x07\x1b[2J\x9b2J[bold]"
    failure = {"kind": "PROGRAM_ERROR", "message": evil}
    resource = {"kind": evil, "name": evil}
    outputs = [{"name": evil, "value": evil, "secret": False}]
    fields = {"id": evil, "stackFqdn": evil, "phase": evil, "cloudResource": resource, "stackOutputs": outputs}
    printed = live(change(status=evil, failure=failure, **fields), monkeypatch=monkeypatch, COLUMNS="500")

    assert "\x1b]" not in printed
    assert "\x1b[2J" not in printed
    assert "\x07" not in printed
    assert "\x9b" not in printed
    assert "[bold]" in printed


@pytest.mark.parametrize(("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_no_color_means_no_color(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], coloured: bool) -> None:
    """NO_COLOR takes the colours away, and leaves the live picture."""
    printed = live(change(), monkeypatch=monkeypatch, **variables)

    assert ("36m" in printed) is coloured
    assert "\x1b[?25l" in printed


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """TERM=dumb can't move its cursor: no escape at all is sent."""
    assert live(change(), monkeypatch=monkeypatch, TERM="dumb") == "2026-01-01T12:00:01.000Z  IN_PROGRESS  running\n"


def test_a_file_stays_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """FORCE_COLOR makes no terminal of what is none, and lines begin with the indent."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    out = io.StringIO()
    with showing(out, indent="> ") as show:
        show(change())

    assert out.getvalue() == "> 2026-01-01T12:00:01.000Z  IN_PROGRESS  running\n"


def test_a_table_is_aligned_by_what_is_seen() -> None:
    """Columns are as wide as their widest cell on screen, and end without blanks."""
    out = io.StringIO()
    table(out, ("ID", "NAME", "X"), [("1", "世界", "a"), ("22", "b\n", "")])

    assert out.getvalue() == "ID  NAME  X\n1   世界  a\n22  b\\n\n"


def test_lines_to_write_can_be_pasted(capsys: pytest.CaptureFixture[str]) -> None:
    """The lines of a sentence stay lines with their indent, and nothing else in it reaches the terminal as it is."""
    note("Write:\nmetadata:\n\tlabels: \x1b[31m{}\r\n")

    assert capsys.readouterr().err == "Write:\nmetadata:\n        labels: \\x1b[31m{}\n"
