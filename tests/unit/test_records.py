"""Records: the moves of a stack update, ids, times, and the output of the record."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphql_api.domain.records import (
    CANCELLED,
    PHASE_MOVES,
    Cancellation,
    CancellationReason,
    CancellationStage,
    Ending,
    Failure,
    FailureKind,
    MoveRefused,
    Phase,
    StackOutput,
    StackUpdate,
    Status,
    Tail,
    new_id,
    output_json,
    utc_now,
)
from tests.builders import PROGRESS, a_stack_update

NOW = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
FAILURE = Failure(FailureKind.RESOURCE_ERROR, "Pulumi could not deploy it.", retryable=True)
OUTPUTS = (StackOutput("url", "https://example.com"), StackOutput("password", None, secret=True))

REQUESTED = Cancellation(NOW, CancellationReason.ASKED)
KILLED = Cancellation(NOW, CancellationReason.TIMEOUT, CancellationStage.KILLED, lock_left=True)

Move = Callable[[StackUpdate, datetime], StackUpdate]
MOVES: dict[str, tuple[Phase, Move]] = {
    "started": (Phase.PREPARING, lambda update, now: update.started(now)),
    "running": (Phase.RUNNING, lambda update, now: update.running(now)),
    "cancelling": (Phase.CANCELLING, lambda update, now: update.cancelling(now, REQUESTED)),
    "recording": (Phase.RECORDING, lambda update, now: update.recording(now)),
    "succeeded": (Phase.FINISHED, lambda update, now: update.succeeded(now, Ending(0, OUTPUTS, PROGRESS))),
    "failed": (Phase.FINISHED, lambda update, now: update.failed(now, FAILURE, Ending(255, cancellation=KILLED))),
    "cancelled": (Phase.FINISHED, lambda update, now: update.cancelled(now, Ending(255, cancellation=REQUESTED))),
}
#: What changes a record where it is.
CHANGES: dict[str, Move] = {
    "progressed": lambda update, now: update.progressed(now, PROGRESS, iter(OUTPUTS)),
    "extended": lambda update, now: update.extended(now, timedelta(hours=3)),
}
ALL_MOVES = {**{name: move for name, (_, move) in MOVES.items()}, **CHANGES}
#: One step after the other, some of which may be left out; and from anywhere to the end.
ALLOWED = {
    (Phase.QUEUED, Phase.PREPARING),
    (Phase.PREPARING, Phase.RUNNING),
    (Phase.PREPARING, Phase.CANCELLING),
    (Phase.PREPARING, Phase.RECORDING),
    (Phase.RUNNING, Phase.CANCELLING),
    (Phase.RUNNING, Phase.RECORDING),
    (Phase.CANCELLING, Phase.CANCELLING),
    (Phase.CANCELLING, Phase.RECORDING),
    *((phase, Phase.FINISHED) for phase in Phase if phase is not Phase.FINISHED),
}


def in_phase(phase: Phase) -> StackUpdate:
    ended = {"status": Status.SUCCESS, "finished_at": NOW} if phase is Phase.FINISHED else {}
    return a_stack_update(phase=phase, created_at=NOW - timedelta(hours=1), revision=7, **ended)


@pytest.mark.parametrize("after", Phase)
@pytest.mark.parametrize("before", Phase)
def test_the_table_of_moves_has_the_allowed_pairs_and_no_other(before: Phase, after: Phase) -> None:
    """Of every pair of phases it is settled whether the one may follow the other."""
    assert (after in PHASE_MOVES[before]) == ((before, after) in ALLOWED)


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("before", Phase)
def test_a_record_makes_the_moves_of_the_table_only(before: Phase, move: str) -> None:
    """A move that the table does not have is refused; any other gives a record one revision newer."""
    after, make = MOVES[move]
    update = in_phase(before)

    if (before, after) in ALLOWED:
        moved = make(update, NOW)
        assert (moved.phase, moved.revision, moved.updated_at) == (after, 8, NOW)
    else:
        with pytest.raises(MoveRefused, match=rf"in phase {before} can't move to {after}$"):
            make(update, NOW)


@pytest.mark.parametrize("move", ALL_MOVES)
@pytest.mark.parametrize("end", ["succeeded", "failed", "cancelled"])
def test_a_record_that_has_ended_never_changes(end: str, move: str) -> None:
    """The outcome is final: neither a second outcome nor a step back nor any change is possible."""
    ended = ALL_MOVES[end](in_phase(Phase.RUNNING), NOW)

    assert ended.ended
    with pytest.raises(MoveRefused):
        ALL_MOVES[move](ended, NOW)


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.FINISHED])
def test_progress_and_another_deadline_leave_a_record_where_it_is(phase: Phase) -> None:
    """They come at any time before the end, and change nothing but themselves."""
    update = in_phase(phase)

    progressed = update.progressed(NOW, PROGRESS, iter(OUTPUTS))
    extended = progressed.extended(NOW, timedelta(hours=3))

    assert changed_fields(update, progressed) == {"revision", "updated_at", "progress", "stack_outputs"}
    assert (progressed.progress, progressed.stack_outputs) == (PROGRESS, OUTPUTS)
    assert changed_fields(progressed, extended) == {"revision", "timeout"}
    assert extended.timeout == timedelta(hours=3)


def changed_fields(before: StackUpdate, after: StackUpdate) -> set[str]:
    return {field.name for field in fields(StackUpdate) if getattr(before, field.name) != getattr(after, field.name)}


def test_a_move_leaves_the_record_it_was_made_from() -> None:
    """Records are values: a move gives another one."""
    queued = a_stack_update()

    queued.started(NOW)

    assert (queued.phase, queued.revision) == (Phase.QUEUED, 1)
    with pytest.raises(FrozenInstanceError):
        queued.phase = Phase.RUNNING  # type: ignore[misc]


def test_a_deployment_that_succeeds_tells_its_whole_story() -> None:
    """From the queue to the outcome each step keeps what was known and adds what it learnt."""
    queued = a_stack_update(created_at=NOW, timeout=timedelta(minutes=5))
    times = [NOW + timedelta(seconds=second) for second in range(1, 4)]

    started = queued.started(times[0])
    ended = started.running(times[1]).succeeded(times[2], Ending(0, OUTPUTS, PROGRESS))

    assert (queued.status, queued.ended, queued.deadline) == (Status.IN_PROGRESS, False, None)
    assert (started.status, started.ended, started.deadline) == (
        Status.IN_PROGRESS,
        False,
        times[0] + timedelta(minutes=5),
    )
    assert (ended.status, ended.ended, ended.revision) == (Status.SUCCESS, True, 4)
    assert (ended.created_at, ended.started_at, ended.finished_at, ended.updated_at) == (
        NOW,
        times[0],
        times[2],
        times[2],
    )
    assert (ended.exit_code, ended.failure, ended.stack_outputs, ended.progress) == (0, None, OUTPUTS, PROGRESS)


def test_a_deployment_that_fails_says_why() -> None:
    """A failed record holds the failure, and what outputs and exit status there were."""
    failed = a_stack_update().started(NOW).failed(NOW, FAILURE, Ending(255, OUTPUTS, PROGRESS, KILLED))
    refused = a_stack_update().failed(NOW, FAILURE)

    assert (failed.status, failed.failure, failed.exit_code) == (Status.FAILED, FAILURE, 255)
    assert (failed.stack_outputs, failed.progress, failed.cancellation) == (OUTPUTS, PROGRESS, KILLED)
    assert (refused.status, refused.started_at, refused.exit_code) == (Status.FAILED, None, None)
    assert (refused.stack_outputs, refused.cancellation) == ((), None)


def test_a_deployment_that_is_cancelled_says_how_and_has_not_failed() -> None:
    """Each stage of the cancellation is in the record; the outcome is CANCELLED, without a failure."""
    interrupted = replace(REQUESTED, stage=CancellationStage.INTERRUPTED, next_stage_at=NOW + timedelta(minutes=1))

    requested = a_stack_update().started(NOW).running(NOW).cancelling(NOW, REQUESTED)
    later = requested.cancelling(NOW, interrupted)
    ended = later.recording(NOW).cancelled(NOW, Ending(255, OUTPUTS, PROGRESS, interrupted))

    assert (requested.phase, requested.status) == (Phase.CANCELLING, Status.IN_PROGRESS)
    assert (requested.cancellation, later.cancellation) == (REQUESTED, interrupted)
    assert (ended.phase, ended.status, ended.failure) == (Phase.FINISHED, Status.CANCELLED, None)
    assert (ended.exit_code, ended.stack_outputs, ended.cancellation) == (255, OUTPUTS, interrupted)


def test_a_queued_deployment_is_cancelled_at_once() -> None:
    """Nothing was begun, so nothing is told of it."""
    ended = a_stack_update().cancelled(NOW)

    assert (ended.status, ended.started_at, ended.exit_code) == (Status.CANCELLED, None, None)


def test_a_clock_that_is_set_back_does_not_move_a_record_back() -> None:
    """``updated_at`` never falls, whatever the machine's clock does."""
    update = a_stack_update(created_at=NOW)

    assert update.started(NOW - timedelta(hours=1)).updated_at == NOW


@given(st.lists(st.tuples(st.sampled_from(sorted(ALL_MOVES)), st.integers(-3, 10))))
@settings(database=None, deadline=None)
def test_whatever_is_tried_a_record_keeps_its_rules(course: list[tuple[str, int]]) -> None:
    """For any sequence of moves, with a clock that may be set back: each is refused, or makes one revision that the
    rules allow.
    """
    update, now = a_stack_update(created_at=NOW), NOW
    for name, seconds in course:
        now += timedelta(seconds=seconds)
        phase = MOVES[name][0] if name in MOVES else update.phase
        if update.ended or not (name in CHANGES or (update.phase, phase) in ALLOWED):
            with pytest.raises(MoveRefused):
                ALL_MOVES[name](update, now)
        else:
            changed = ALL_MOVES[name](update, now)
            assert changed.phase is phase
            keeps_the_rules(update, changed, now)
            update = changed


def keeps_the_rules(before: StackUpdate, after: StackUpdate, now: datetime) -> None:
    assert after.revision == before.revision + 1
    assert after.updated_at == max(before.updated_at, now)
    lasting = {"id", "cloud_resource_id", "stack_fqdn", "operation", "created_at"}
    assert not changed_fields(before, after) & ({*lasting, "started_at"} if before.started_at else lasting)
    assert after.ended == (after.phase is Phase.FINISHED) == (after.finished_at is not None)
    assert (after.failure is not None) == (after.status is Status.FAILED)
    assert after.started_at or after.phase in (Phase.QUEUED, Phase.FINISHED)
    assert after.cancellation or after.phase is not Phase.CANCELLING


# --- ids and times


def test_ids_are_24_hex_digits_that_sort_by_creation() -> None:
    """Later means greater, within a second and from second to second; none is given twice."""
    ids = [new_id(NOW + timedelta(seconds=second)) for second in range(3) for _ in range(1000)]

    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[0-9a-f]{24}", id_) for id_ in ids)


def test_an_id_begins_with_its_second() -> None:
    """The layout is MongoDB's, so that its tools read the time from it."""
    assert int(new_id(NOW)[:8], 16) == int(NOW.timestamp())


def test_the_time_is_in_utc_and_cut_to_milliseconds() -> None:
    """What is stored and shown is the same time that the record had."""
    before = datetime.now(UTC)
    now = utc_now()

    assert now.utcoffset() == timedelta(0)
    assert now.microsecond % 1000 == 0
    assert before - timedelta(milliseconds=1) < now <= datetime.now(UTC)


# --- the output

KEYS = {"status", "timestamp", "stack_fqdn", "stdout", "stderr", "exit_code"}

ENDINGS = {
    "success": a_stack_update().started(NOW).succeeded(NOW, Ending(0, OUTPUTS)),
    "failure": a_stack_update().started(NOW).failed(NOW, FAILURE, Ending(255)),
    "failure before anything ran": a_stack_update().failed(NOW, FAILURE),
    "failure of a record without a stack": a_stack_update(stack_fqdn=None).failed(NOW, FAILURE),
    "cancellation": a_stack_update().started(NOW).cancelling(NOW, REQUESTED).cancelled(NOW, Ending(255)),
    "cancellation before anything ran": a_stack_update().cancelled(NOW),
}


@pytest.mark.parametrize("ended", ENDINGS.values(), ids=ENDINGS)
def test_the_output_has_the_same_keys_in_every_ending(ended: StackUpdate) -> None:
    """Programs that read the output find each key, whatever the outcome; ``error`` unless it succeeded."""
    output = json.loads(output_json(ended, Tail("out"), Tail("err")))

    assert set(output) - {"error"} == KEYS
    assert ("error" in output) == (ended.status is not Status.SUCCESS)


def test_the_output_of_a_success() -> None:
    """It holds what Pulumi said, under the names and in the forms that the first backend used."""
    output = json.loads(output_json(ENDINGS["success"], Tail("Grüße\n"), Tail()))

    assert output == {
        "status": "success",
        "timestamp": "2026-01-02T03:04:05Z",
        "stack_fqdn": "organization/demo/dev",
        "stdout": "Grüße\n",
        "stderr": "",
        "exit_code": 0,
    }


def test_the_output_of_a_failure_tells_the_error() -> None:
    """The failure's sentence is the error; an exit status that never was is null."""
    failed = json.loads(output_json(ENDINGS["failure"], Tail(), Tail("boom")))
    refused = json.loads(output_json(ENDINGS["failure before anything ran"], Tail(), Tail()))

    assert (failed["status"], failed["error"], failed["exit_code"]) == ("failed", FAILURE.message, 255)
    assert (refused["error"], refused["exit_code"], refused["stdout"]) == (FAILURE.message, None, "")


def test_the_output_of_a_cancellation_tells_that_it_was_one() -> None:
    """The error is no failure's: it says what to do; what Pulumi said until then is there."""
    output = json.loads(output_json(ENDINGS["cancellation"], Tail("Updating"), Tail()))

    assert (output["status"], output["error"], output["exit_code"]) == ("cancelled", CANCELLED, 255)
    assert output["stdout"] == "Updating"


@pytest.mark.parametrize("out", [False, True])
@pytest.mark.parametrize("err", [False, True])
def test_the_output_says_what_was_cut(out: bool, err: bool) -> None:
    """``stdout_truncated`` and ``stderr_truncated`` are there, and true, exactly when there was more."""
    output = json.loads(output_json(ENDINGS["success"], Tail("o", truncated=out), Tail("e", truncated=err)))

    assert output.get("stdout_truncated") == (True if out else None)
    assert output.get("stderr_truncated") == (True if err else None)
    assert set(output) == KEYS | ({"stdout_truncated"} if out else set()) | ({"stderr_truncated"} if err else set())


def test_the_output_keeps_text_readable() -> None:
    """Text of any language stands in the JSON as itself, not as escapes that make it six times as long."""
    assert "日本" in output_json(ENDINGS["success"], Tail("日本"), Tail())


def test_there_is_no_output_before_the_end() -> None:
    """An output of a running deployment is a defect of the caller."""
    with pytest.raises(MoveRefused):
        output_json(a_stack_update(), Tail(), Tail())
