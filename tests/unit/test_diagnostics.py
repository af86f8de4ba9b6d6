"""What of Pulumi's own errors stands beside a failure: from the event log to the record."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

from graphql_api.domain.records import Diagnostic, Failure, Tail
from runners.engine import ERROR_LENGTH, ERRORS_KEPT, read_report
from runners.outcome import Words
from runners.runs import CommandEnd, Reason, Stage

NOTE = "urn:pulumi:dev::shop::pulumi:index:Stash::note"
STACK = "urn:pulumi:dev::shop::pulumi:pulumi:Stack::shop-dev"
QUOTA = ("error", "quota exceeded for key-12345\n", NOTE)


def failure(log: Path, *said: tuple[str, str, str | None], reason: Reason | None = None) -> Failure:
    """The failure of a run whose diagnostics, each a severity, a message and a resource, were these."""
    events = [
        {"diagnosticEvent": {"severity": severity, "message": message, **({"urn": urn} if urn else {})}}
        for severity, message, urn in said
    ]
    log.write_text("".join(json.dumps(event, separators=(",", ":")) + "\n" for event in events))
    end = CommandEnd(log, 1, reason, Stage.INTERRUPTED if reason else Stage.NONE, None, None)
    outcome = Words(end, read_report(log), Tail(), Tail()).outcome(timedelta(seconds=60))
    found = outcome.without(frozenset({"key-12345"})).failure
    assert found
    return found


def test_errors_keep_their_words_and_their_resources(tmp_path: Path) -> None:
    """Errors in the order in which they were reported, without secrets, and without what says only that it failed."""
    found = failure(
        tmp_path / "events",
        QUOTA,
        ("warning", "a warning", NOTE),
        ("info", "a remark", NOTE),
        ("error", "no such bucket", None),
        ("error", "update failed", STACK),
    )

    assert found.diagnostics == (
        Diagnostic("quota exceeded for [secret]", NOTE),
        Diagnostic("no such bucket", None),
    )
    assert all(diagnostic.message in found.message for diagnostic in found.diagnostics)


def test_a_programs_last_words_are_its_errors(tmp_path: Path) -> None:
    """Some language hosts report no error; then what the program said is all there is."""
    found = failure(
        tmp_path / "events", ("info#err", "Error: nothing is named x", STACK), ("error", "update failed", None)
    )

    assert found.diagnostics == (Diagnostic("Error: nothing is named x", STACK),)


def test_many_and_long_errors_are_kept_within_bounds(tmp_path: Path) -> None:
    """The first ten, each up to 2,000 characters: a record stays small whatever a provider says."""
    many = [("error", f"{number} " + "x" * 5000, NOTE) for number in range(20)]

    found = failure(tmp_path / "events", *many)

    assert [diagnostic.message.split()[0] for diagnostic in found.diagnostics] == list(map(str, range(ERRORS_KEPT)))
    assert {len(diagnostic.message) for diagnostic in found.diagnostics} == {ERROR_LENGTH}
    assert (ERRORS_KEPT, ERROR_LENGTH) == (10, 2000)


def test_a_run_that_was_stopped_keeps_what_it_had_reported(tmp_path: Path) -> None:
    """Whatever the reason of the failure: what Pulumi had found wrong by then may be why it took so long."""
    found = failure(tmp_path / "events", QUOTA, ("error", "update canceled", None), reason=Reason.DEADLINE)

    assert found.diagnostics == (Diagnostic("quota exceeded for [secret]", NOTE),)
