"""How stack updates are shown, and that nothing in them reaches a terminal unseen."""

from __future__ import annotations

import io
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from graphql_api.cli.client import Batch
from graphql_api.cli.display import plain, show_log, showing
from graphql_api.cli.terminal import Line, clean, json_line, note, table
from graphql_api.cli.wording import cancelled_words, event_lines, extended_words, progress_words, queue_words

NOW = datetime(2026, 1, 1, 12, 1, 5, tzinfo=UTC)
AT = "2026-01-01T12:00:02.000Z"
ID = "6b061977c81259f0ca000001"
EVIL = "\x1b]0;owned\x07\x1b[2J\x9b2J\u202e[bold]"


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def change(**fields: Any) -> dict[str, Any]:
    """A stack update that runs, as the server pushes it."""
    return {
        "id": ID,
        "status": "IN_PROGRESS",
        "phase": "RUNNING",
        "stackFqdn": "organization/tests/one",
        "createdAt": "2026-01-01T12:00:00.000Z",
        "startedAt": "2026-01-01T12:00:00.500Z",
        "updatedAt": "2026-01-01T12:00:01.000Z",
        "finishedAt": None,
        "timeoutSeconds": 600,
        "deadline": "2026-01-01T12:10:00.500Z",
        "failure": None,
        "cloudResource": {"kind": "Thing", "name": "one"},
        "stackOutputs": [],
        "progress": progress(),
        "queue": None,
        "cancellation": None,
        **fields,
    }


def progress(total: int | None = None, **counts: int) -> dict[str, Any]:
    return {"total": total, "inProgress": 0, "done": 0, "failed": 0, "interrupted": 0, **counts}


def cancellation(stage: str, **fields: Any) -> dict[str, Any]:
    """One that was asked for, whose next stage begins 24 seconds from now."""
    return {
        "requestedAt": AT,
        "requestedBy": None,
        "reason": "ASKED",
        "stage": stage,
        "nextStageAt": "2026-01-01T12:01:29.000Z",
        "lockLeft": False,
        **fields,
    }


def event(name: str, **fields: Any) -> dict[str, Any]:
    return {"__typename": name, "seq": 1, "at": AT, **fields}


def line(text: str, *, truncated: bool = False) -> dict[str, Any]:
    return event("LogLine", stream="STDOUT", text=text, truncated=truncated)


def status(status: str, phase: str) -> dict[str, Any]:
    return event("StatusChanged", status=status, phase=phase)


def resource(name: str, state: str = "IN_PROGRESS", operation: str = "CREATE") -> dict[str, Any]:
    """An event of a resource that was begun a minute before now."""
    ended = None if state == "IN_PROGRESS" else "2026-01-01T12:00:08.000Z"
    told = {"id": f"{name}#{operation}", "urn": f"urn::{name}", "name": name, "type": "test:Thing", "state": state}
    times = {"startedAt": "2026-01-01T12:00:05.000Z", "endedAt": ended}
    return event("ResourceChanged", resource={**told, **times, "operation": operation})


def batch(*events: dict[str, Any]) -> Batch:
    return Batch(events, len(events), caught_up=True, finished=False)


def lines(*news: dict[str, Any] | Batch, log: bool = True) -> list[str]:
    """What is said away from a terminal."""
    said: list[Line] = []
    show = plain(said.extend, log=log)
    for one in news:
        show(one)
    return [line.text for line in said]


def live(*news: dict[str, Any] | Batch | None, monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    """What a terminal gets."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm-256color", **variables}.items():
        monkeypatch.setenv(name, value)
    out = Terminal()
    with showing(out, now=lambda: NOW) as show:
        for one in news:
            show(one)
    return out.getvalue()


def last_picture(printed: str) -> list[str]:
    """The lines of the last picture, without their styles."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", printed.rpartition("\x1b[2K")[2])
    return [line.rstrip() for line in plain.partition("\x1b[?25h")[0].splitlines()]


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
    """Where no log comes, a stack update is its time, status and phase, once for each of them."""
    pushes = [change(), change(updatedAt=AT, progress=progress(done=1))]

    assert lines(*pushes, log=False) == ["2026-01-01T12:00:01.000Z  IN_PROGRESS  running"]


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
    failure = {"kind": "PROGRAM_ERROR", "message": EVIL}
    thing = {"kind": EVIL, "name": EVIL}
    outputs = [{"name": EVIL, "value": EVIL, "secret": False}]
    queue = {"position": 2, "reason": "STACK_BUSY", "blockedBy": {"id": EVIL}}
    ending = cancellation(EVIL, reason=EVIL)
    fields = {"id": EVIL, "stackFqdn": EVIL, "phase": EVIL, "cloudResource": thing, "stackOutputs": outputs}
    evil = change(status=EVIL, failure=failure, queue=queue, cancellation=ending, **fields)
    printed = live(batch(*evil_events()), evil, monkeypatch=monkeypatch, COLUMNS="500")

    assert drives(printed) == []
    assert "[bold]" in printed


def evil_events() -> list[dict[str, Any]]:
    """Events with escapes in everything that is text."""
    ending = cancellation(EVIL, reason=EVIL, nextStageAt=EVIL)
    thing = resource(EVIL)["resource"] | {"type": EVIL, "operation": EVIL}
    events = [
        line(EVIL),
        status(EVIL, EVIL),
        event("ResourceChanged", resource=thing),
        event("DiagnosticReported", severity=EVIL, message=f"{EVIL}\n{EVIL}", urn=EVIL),
        event("CancellationChanged", cancellation=ending),
        event("CancellationChanged", cancellation=cancellation("INTERRUPTED", nextStageAt=EVIL)),
        event("DeadlineApproaching", deadline=EVIL),
        event("DeadlineChanged", deadline=EVIL),
        event(EVIL),
    ]
    return [{**one, "at": EVIL} for one in events]


def drives(printed: str) -> list[str]:
    """What in it would have driven the terminal."""
    return [part for part in ("\x1b]", "\x1b[2J", "\x07", "\x9b", "\u202e") if part in printed]


def test_no_escape_of_a_log_reaches_a_file_or_a_program() -> None:
    """In lines and in JSON the control characters of a log are text as well."""
    for as_json in (False, True):
        out = io.StringIO()
        show_log(out, batch(*evil_events()), as_json=as_json)

        assert drives(out.getvalue()) == []
        assert out.getvalue().count("owned") >= len(evil_events())


@pytest.mark.parametrize(("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_no_color_means_no_color(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], coloured: bool) -> None:
    """NO_COLOR takes the colours away, and leaves the live picture."""
    printed = live(change(), monkeypatch=monkeypatch, **variables)

    assert ("36m" in printed) is coloured
    assert "\x1b[?25l" in printed


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """TERM=dumb can't move its cursor: no escape at all is sent."""
    queued = change(phase="QUEUED")

    assert live(queued, monkeypatch=monkeypatch, TERM="dumb") == "2026-01-01T12:00:01.000Z  IN_PROGRESS  queued\n"


def test_a_file_stays_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """FORCE_COLOR makes no terminal of what is none, and lines begin with the indent."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    out = io.StringIO()
    with showing(out, log=False, indent="> ") as show:
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


# --- the log


@pytest.mark.parametrize(
    ("happened", "said"),
    [
        (line("a\tb  \x1b[31m"), ["a       b  \\x1b[31m"]),
        (line("", truncated=True), [" [cut]"]),
        (status("IN_PROGRESS", "RUNNING"), [f"{AT}  IN_PROGRESS  running"]),
        (resource("web"), [f"{AT}  create web (test:Thing): in progress"]),
        (resource("web", "DONE", "DELETE_REPLACED"), [f"{AT}  delete replaced web (test:Thing): done in 3 s"]),
        (resource("web", "FAILED", "SAME"), [f"{AT}  same web (test:Thing): failed"]),
        (resource("web", "DONE", "SAME"), []),
        (
            event("DiagnosticReported", severity="ERROR", message="It is bad:\n\tvery\n", urn=None),
            [f"{AT}  error: It is bad:", f"{AT}            very"],
        ),
        (
            event("CancellationChanged", cancellation=cancellation("INTERRUPTED")),
            [
                (
                    f"{AT}  ending, since somebody asked for it: Pulumi finishes the resources in hand, and is told to "
                    "stop at once at 2026-01-01T12:01:29.000Z"
                )
            ],
        ),
        (
            event("CancellationChanged", cancellation=cancellation("KILLED", reason="TIMEOUT", nextStageAt=None)),
            [f"{AT}  ending, since it has run for as long as it may: Pulumi is killed"],
        ),
        (event("DeadlineApproaching", deadline=AT), [f"{AT}  it is ended at {AT} unless it gets more time"]),
        (event("DeadlineChanged", deadline=AT), [f"{AT}  it may run until {AT}"]),
        (
            event("LogOmissionStarted", limit=1e9),
            [f"{AT}  lines are left out from here on: the log has 1000000000 bytes"],
        ),
        (
            event("LogOmitted", lines=3.0, bytes=5e9),
            [f"{AT}  3 lines of 5000000000 bytes together were left out; the last lines follow"],
        ),
        (event("OwnerChanged", epoch=2), [f"{AT}  the service was started anew and goes on with it"]),
        (event("MadeUpLater"), [f"{AT}  MadeUpLater"]),
    ],
)
def test_every_event_is_a_line(happened: dict[str, Any], said: list[str]) -> None:
    """Pulumi's lines stand as they are; all else begins with its time, whichever line of it."""
    assert [line.text for line in event_lines([happened])] == said


def test_the_log_as_json_is_the_events() -> None:
    """One object for each event, those included that have no line."""
    out = io.StringIO()
    events = [line("a"), resource("web", "DONE", "SAME")]
    show_log(out, batch(*events), as_json=True)

    assert [json.loads(text) for text in out.getvalue().splitlines()] == events


def test_lines_tell_the_log_and_what_it_does_not() -> None:
    """The wait in the queue comes from the pushes, the rest from the log, the outcome last; nothing is said twice."""
    waits = {"position": 2, "reason": "STACK_BUSY", "blockedBy": {"id": ID}}
    ended = change(status="SUCCESS", phase="FINISHED", finishedAt=AT, updatedAt=AT, stackOutputs=[])
    said = lines(
        change(phase="QUEUED", queue=waits),
        change(phase="QUEUED", queue=waits, revision=2),
        change(phase="PREPARING"),
        batch(status("IN_PROGRESS", "QUEUED"), status("IN_PROGRESS", "RUNNING")),
        change(phase="QUEUED"),
        batch(line("Updating"), status("SUCCESS", "FINISHED")),
        ended,
    )

    assert said == [
        f"2026-01-01T12:00:01.000Z  IN_PROGRESS  queued  number 2 in the queue, after stack update {ID} of its stack",
        f"{AT}  IN_PROGRESS  running",
        "Updating",
        f"{AT}  SUCCESS  finished",
    ]


def test_lines_of_a_log_that_began_before_tell_its_wait() -> None:
    """Where no push came while it was queued, the log says that it was."""
    assert lines(change(), batch(status("IN_PROGRESS", "QUEUED"))) == [f"{AT}  IN_PROGRESS  queued"]


def test_a_cancelled_deployment_says_why() -> None:
    """It has no failure: what ended it is said, and that a lock is left."""
    killed = cancellation("KILLED", reason="SUPERSEDED", lockLeft=True)
    said = lines(change(status="CANCELLED", phase="FINISHED", cancellation=killed))

    assert said[1:] == [
        "  It was ended, since a newer deployment takes its place.",
        "  Pulumi's lock on the stack is left; the next deployment of the stack removes it.",
    ]


def test_a_cancelled_deployment_names_who_asked() -> None:
    """Where the token had a name; a name of anything else is shown as text."""
    by_ann = cancellation("KILLED", requestedBy="ann\x1b")
    said = lines(change(status="CANCELLED", phase="FINISHED", cancellation=by_ann))

    assert said[1:] == ["  It was ended, since ann\\x1b asked for it."]


# --- the picture while it runs


def test_the_picture_shows_what_is_in_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts, the resources in hand by name, operation and time, and no more of them than fit."""
    events = batch(*(resource(f"r{number}") for number in range(7)), resource("r0", "DONE"))
    made = change(progress=progress(total=12, inProgress=6, done=1))
    picture = last_picture(live(made, events, monkeypatch=monkeypatch))

    assert picture[2:] == [
        "  1 of 12 done, 6 in progress",
        *(f"    create r{number} (test:Thing)  1 min 00 s" for number in range(1, 6)),
        "    and 1 more",
    ]


def test_the_picture_shows_the_wait_in_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number, and what it waits for."""
    queue = {"position": 3, "reason": "PLACES_TAKEN", "blockedBy": None}
    picture = last_picture(live(change(phase="QUEUED", queue=queue), monkeypatch=monkeypatch))

    assert picture[0] == "IN_PROGRESS  queued  1 min 05 s"
    assert picture[2:] == ["  number 3 in the queue, all places at work are taken"]


def test_the_picture_counts_down_to_the_next_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is being ended: why, how far that has come, and how long until it goes on."""
    ending = change(phase="CANCELLING", cancellation=cancellation("TERMINATED"))
    picture = last_picture(live(ending, monkeypatch=monkeypatch, COLUMNS="200"))

    assert picture[2:] == ["  ending, since somebody asked for it: Pulumi stops at once, and is killed in 24 s"]


def test_the_picture_warns_of_a_deadline_until_it_is_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the log says that the deadline comes near, the time left is shown; after it was moved no longer."""
    near = change(deadline="2026-01-01T12:01:25.000Z")
    warned = live(near, batch(event("DeadlineApproaching", deadline=AT)), monkeypatch=monkeypatch)
    moved = batch(event("DeadlineApproaching", deadline=AT), event("DeadlineChanged", deadline=AT))
    extended = live(near, moved, monkeypatch=monkeypatch)

    assert last_picture(warned)[2:] == ["  it is ended in 20 s unless `stackcast extend` gives it more time"]
    assert last_picture(extended)[2:] == []


def test_lines_scroll_by_above_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Pulumi printed stands there once, in its order, and no status, which the picture shows; no line is cut."""
    long = "x" * 500
    events = batch(line("first"), status("IN_PROGRESS", "RECORDING"), line(long))
    printed = live(change(), events, None, batch(line("last")), monkeypatch=monkeypatch)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", printed)

    assert [text.count(f"{one}\n") for one in ("first", long, "last")] == [1, 1, 1]
    assert text.index("first\n") < text.index(long) < text.index("last\n") < text.rindex("IN_PROGRESS")
    assert "recording" not in text


def test_a_flood_of_lines_is_drawn_four_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many batches come, there is a picture in a quarter of a second at most, and no line is missing."""
    monkeypatch.setenv("TERM", "xterm-256color")
    time = 0.0
    out = Terminal()
    with showing(out, now=lambda: NOW, clock=lambda: time) as show:
        for number in range(1000):
            time = number / 1000
            show(change())
            show(batch(line(f"line {number};"), line("more")))

    assert out.getvalue().count("IN_PROGRESS") <= 6
    assert [f"line {number};" in out.getvalue() for number in range(1000)] == [True] * 1000


# --- what is asked for


@pytest.mark.parametrize(
    ("update", "words"),
    [
        ({"status": "CANCELLED", "startedAt": None}, "is cancelled; Pulumi had not begun with it."),
        ({"status": "CANCELLED"}, "is cancelled."),
        ({"status": "SUCCESS"}, "has ended with SUCCESS before it could be cancelled."),
        ({}, "is to be ended, which the service has not taken up yet; WATCH shows when it does."),
        (
            {"cancellation": cancellation("INTERRUPTED")},
            (
                "is being ended: Pulumi finishes the resources in hand, and is told to stop at once in 24 s; FORCE "
                "takes the next step at once, and WATCH shows how it goes on."
            ),
        ),
        (
            {"cancellation": cancellation("REQUESTED", nextStageAt=None)},
            (
                "is being ended: Pulumi is about to be told to finish the resources in hand; FORCE takes the next step "
                "at once, and WATCH shows how it goes on."
            ),
        ),
        (
            {"cancellation": cancellation("KILLED", reason="SHUTDOWN", nextStageAt=None)},
            "is being ended, since the service shuts down: Pulumi is killed; WATCH shows how it goes on.",
        ),
    ],
)
def test_a_cancellation_is_answered_with_what_comes_of_it(update: dict[str, Any], words: str) -> None:
    """One sentence: that it is over, or what happens now, when that goes on, and how not to wait for it."""
    assert cancelled_words(change(**update), NOW, "WATCH", "FORCE") == f"The stack update {ID} {words}"


@pytest.mark.parametrize(
    ("update", "words"),
    [
        ({}, "may run for 600 s, until 2026-01-01T12:10:00.500Z."),
        ({"deadline": None}, "may run for 600 s."),
        (
            {"timeoutSeconds": 500, "deadline": None},
            "may run for 500 s; not for 600 s, which the server does not give or has not taken up yet.",
        ),
        ({"status": "FAILED"}, "has ended with FAILED before it got more time."),
    ],
)
def test_more_time_is_answered_with_how_much_there_is(update: dict[str, Any], words: str) -> None:
    """One sentence: how long it may run now, and whether that is what was asked for."""
    assert extended_words(change(**update), timedelta(seconds=600)) == f"The stack update {ID} {words}"


def test_what_there_is_nothing_to_say_of_is_not_said() -> None:
    """No resources yet, no wait, and a start that is near are no words."""
    starting = {"position": 1, "reason": "STARTING", "blockedBy": None}

    assert [progress_words(progress(total=3)), queue_words(None), queue_words(starting)] == ["", "", ""]
