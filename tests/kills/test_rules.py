"""The rules can be broken: what a defect would leave behind is found, and what is right is not."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.builders import NOON
from tests.kills import programs
from tests.kills.plans import Plan
from tests.kills.rules import Deployment, Ended, Kill, Program, broken
from tests.kills.scene import Victim
from tests.kills.watcher import Watcher

STACK = "organization/tests/one"


def events(*whats: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**what, "seq": seq, "at": NOON.isoformat()} for seq, what in enumerate(whats, start=1)]


def status(status: str, phase: str) -> dict[str, Any]:
    return {"__typename": "StatusChanged", "status": status, "phase": phase}


def line(number: int) -> dict[str, Any]:
    return {"__typename": "LogLine", "stream": "STDOUT", "text": f"line {number}", "truncated": False}


RUNNING, DONE = status("IN_PROGRESS", "RUNNING"), status("SUCCESS", "FINISHED")
EVENTS = events(RUNNING, line(0), line(1), DONE)
RECORD = {"status": "SUCCESS", "phase": "FINISHED", "exitCode": 0, "failure": None}
LOST = {"status": "FAILED", "phase": "FINISHED", "exitCode": None, "failure": {"kind": "WORKER_LOST", "message": ""}}


def a_watcher(seen: list[dict[str, Any]]) -> Watcher:
    watcher = Watcher(lambda: pytest.fail("it asks for no service"), "1")
    watcher.events, watcher.finished = seen, True
    return watcher


def an_ended(seen: list[dict[str, Any]] = EVENTS, record: dict[str, Any] = RECORD, *kills: Kill) -> Ended:
    """A deployment as one that ended well, unless it is told otherwise; everybody has seen the same of it."""
    deployment = Deployment("1", "one", STACK, Plan("any", lines=2), [a_watcher(seen)], list(kills))
    download = [{"type": event["__typename"], "more": 1, **event} for event in seen]
    return Ended(deployment, Program(1, NOON.timestamp()), record, seen, download)


def test_what_is_right_breaks_no_rule() -> None:
    """Also where the service was killed, which changes nothing."""
    assert broken(an_ended()) == []
    assert broken(an_ended(EVENTS, RECORD, Kill(Victim.SERVICE, 0))) == []


def with_another_watcher(ended: Ended, seen: list[dict[str, Any]]) -> Ended:
    return replace(ended, deployment=replace(ended.deployment, watchers=[a_watcher(seen)]))


WRONG: dict[str, Callable[[], Ended]] = {
    "a seq is missing": lambda: an_ended([EVENTS[0], *EVENTS[2:]]),
    "a seq stands twice": lambda: an_ended([*EVENTS[:2], *EVENTS[1:]]),
    "something follows the end": lambda: an_ended(events(RUNNING, line(0), line(1), DONE, line(2))),
    "it ended twice": lambda: an_ended(events(RUNNING, line(0), line(1), DONE, DONE)),
    "a line stands twice": lambda: an_ended(events(RUNNING, line(0), line(0), line(1), DONE)),
    "a line is missing": lambda: an_ended(events(RUNNING, line(1), DONE)),
    "the last lines are missing": lambda: an_ended(events(RUNNING, line(0), DONE)),
    "the record says something else than the log": lambda: an_ended(EVENTS, LOST),
    "it was lost though nothing but the service was killed": lambda: an_ended(
        events(RUNNING, line(0), line(1), status("FAILED", "FINISHED")), LOST, Kill(Victim.SERVICE, 0)
    ),
    "a watcher saw less": lambda: with_another_watcher(an_ended(), EVENTS[:-1]),
    "a watcher saw something else": lambda: with_another_watcher(an_ended(), [*EVENTS[:-1], {**EVENTS[-1], "at": ""}]),
    "the download has less": lambda: replace(an_ended(), download=an_ended().download[:-1]),
    "the program ran twice": lambda: replace(an_ended(), program=Program(2, NOON.timestamp())),
    "it succeeded and its program never ran": lambda: replace(an_ended(), program=Program(0, None)),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_found(wrong: str) -> None:
    """A rule that can't be broken protects nothing."""
    assert broken(WRONG[wrong]())


@pytest.mark.parametrize(
    ("victims", "kind", "fits"),
    [
        ((Victim.PULUMI,), "INTERRUPTED", True),
        ((Victim.PULUMI,), "WORKER_LOST", False),
        ((Victim.PULUMI, Victim.SERVICE), "WORKER_LOST", True),
        ((Victim.SERVICE,), "INTERRUPTED", False),
    ],
)
def test_an_outcome_must_fit_what_was_killed(victims: tuple[Victim, ...], kind: str, fits: bool) -> None:
    """Nobody is lost whose service lived, and nobody interrupted whose Pulumi did."""
    record = {**LOST, "failure": {"kind": kind, "message": ""}}
    seen = events(RUNNING, line(0), status("FAILED", "FINISHED"))

    ended = replace(an_ended(seen, record, *(Kill(victim, 0) for victim in victims)), program=Program(1, None))

    assert (broken(ended) == []) is fits


def test_who_is_not_alone_on_a_stack_complains(tmp_path: Path) -> None:
    """The second of two complains; one alone does not, nor one on another stack, nor after one that was killed."""
    (tmp_path / "alone-organization-tests-one").write_text(f"{os.getpid()} 1")  # this pid, of an earlier process
    with programs.alone(tmp_path, STACK), programs.alone(tmp_path, "organization/tests/two"):
        before = programs.complaints(tmp_path).exists()
        with programs.alone(tmp_path, STACK):
            (complaint,) = programs.complaints(tmp_path).read_text().splitlines()
    left = sorted(path.name for path in tmp_path.iterdir())

    assert not before
    assert complaint.endswith(f"on {STACK}")
    assert left == ["not-alone"]
