"""How a stack update is stored: as values that any database has a type for, the rest of it as JSON text.

Stack outputs are text in MongoDB too: their names may hold dots, their numbers may have more than 64 bits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from graphql_api.domain.progress import NO_PROGRESS, Progress, ProgressCount, ResourceOperation, ResourceState
from graphql_api.domain.records import (
    Cancellation,
    CancellationReason,
    CancellationStage,
    CloudResourceId,
    Diagnostic,
    Failure,
    FailureKind,
    Operation,
    Phase,
    StackOutput,
    StackUpdate,
    StackUpdateId,
    Status,
)

#: The names of what ``update_values`` gives.
UPDATE_FIELDS = (
    "id",
    "cloud_resource_id",
    "stack_fqdn",
    "operation",
    "timeout",
    "created_at",
    "updated_at",
    "status",
    "phase",
    "revision",
    "started_at",
    "finished_at",
    "exit_code",
    "failure",
    "stack_outputs",
    "progress",
    "cancellation",
    "requested_by",
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
#: Half a character, which JSON can escape and UTF-8 can't hold.
_SURROGATE = re.compile("[\ud800-\udfff]")


def milliseconds(time: datetime) -> int:
    """The time as it is stored: what is finer is cut off."""
    return (time - _EPOCH) // _MILLISECOND


def read_time(since_epoch: int) -> datetime:
    return _EPOCH + since_epoch * _MILLISECOND


def optional_milliseconds(time: datetime | None) -> int | None:
    return None if time is None else milliseconds(time)


def read_optional_time(since_epoch: int | None) -> datetime | None:
    return None if since_epoch is None else read_time(since_epoch)


def update_values(update: StackUpdate) -> tuple[Any, ...]:
    """Text and whole numbers only."""
    return (
        update.id,
        update.cloud_resource_id,
        update.stack_fqdn,
        update.operation.value,
        update.timeout // _MILLISECOND,
        milliseconds(update.created_at),
        milliseconds(update.updated_at),
        update.status.value,
        update.phase.value,
        update.revision,
        optional_milliseconds(update.started_at),
        optional_milliseconds(update.finished_at),
        update.exit_code,
        failure_text(update.failure),
        outputs_text(update.stack_outputs),
        progress_text(update.progress),
        cancellation_text(update.cancellation),
        update.requested_by,
    )


def read_update(values: Sequence[Any]) -> StackUpdate:
    """Raises ValueError or KeyError when the values are none of ours."""
    id_, resource_id, fqdn, operation, timeout, created_at, updated_at, status, phase, revision = values[:10]
    started_at, finished_at, exit_code, failure, outputs, progress, cancellation, requested_by = values[10:]
    return StackUpdate(
        id=StackUpdateId(id_),
        cloud_resource_id=CloudResourceId(resource_id),
        stack_fqdn=fqdn,
        timeout=timeout * _MILLISECOND,
        created_at=read_time(created_at),
        updated_at=read_time(updated_at),
        operation=Operation(operation),
        status=Status(status),
        phase=Phase(phase),
        revision=revision,
        started_at=read_optional_time(started_at),
        finished_at=read_optional_time(finished_at),
        exit_code=exit_code,
        failure=read_failure(failure),
        stack_outputs=read_outputs(outputs),
        progress=read_progress(progress),
        cancellation=read_cancellation(cancellation),
        requested_by=requested_by,
    )


def failure_text(failure: Failure | None) -> str | None:
    if failure is None:
        return None
    diagnostics = [{"message": diagnostic.message, "urn": diagnostic.urn} for diagnostic in failure.diagnostics]
    stored = {"kind": failure.kind.value, "message": failure.message, "retryable": failure.retryable}
    return json_text({**stored, "diagnostics": diagnostics} if diagnostics else stored)


def read_failure(text: str | None) -> Failure | None:
    """Raises ValueError or KeyError when the text is none of ours."""
    if text is None:
        return None
    stored = json.loads(text)
    diagnostics = (Diagnostic(one["message"], one["urn"]) for one in stored.get("diagnostics", ()))
    return Failure(FailureKind(stored["kind"]), stored["message"], stored["retryable"], tuple(diagnostics))


def outputs_text(outputs: Iterable[StackOutput]) -> str:
    return json_text([{"name": output.name, "value": output.value, "secret": output.secret} for output in outputs])


def read_outputs(text: str | None) -> tuple[StackOutput, ...]:
    """Raises ValueError or KeyError when the text is none of ours."""
    return tuple(StackOutput(stored["name"], stored["value"], stored["secret"]) for stored in json.loads(text or "[]"))


def progress_text(progress: Progress) -> str | None:
    """None, as in records from before there was any, for no progress."""
    if progress == NO_PROGRESS:
        return None
    counts = [[entry.operation.value, entry.state.value, entry.count] for entry in progress.counts]
    return json_text({"counts": counts, "total": progress.total})


def read_progress(text: str | None) -> Progress:
    """Raises ValueError or KeyError when the text is none of ours."""
    if text is None:
        return NO_PROGRESS
    stored = json.loads(text)
    counts = (
        ProgressCount(ResourceOperation(operation), ResourceState(state), count)
        for operation, state, count in stored["counts"]
    )
    return Progress(tuple(counts), stored["total"])


def cancellation_text(cancellation: Cancellation | None) -> str | None:
    return None if cancellation is None else json_text(cancellation_values(cancellation))


def read_cancellation(text: str | None) -> Cancellation | None:
    """Raises ValueError when the text is none of ours."""
    return None if text is None else cancellation_of(*json.loads(text))


def cancellation_values(cancellation: Cancellation) -> tuple[Any, ...]:
    """What ``cancellation_of`` makes one of."""
    return (
        milliseconds(cancellation.requested_at),
        cancellation.reason.value,
        cancellation.stage.value,
        optional_milliseconds(cancellation.next_stage_at),
        cancellation.lock_left,
        # Without a name as it was stored before there were any, so that what is saved again is the same.
        *(() if cancellation.requested_by is None else (cancellation.requested_by,)),
    )


def cancellation_of(
    requested_at: int,
    reason: str,
    stage: str,
    next_stage_at: int | None,
    lock_left: bool,
    requested_by: str | None = None,
) -> Cancellation:
    return Cancellation(
        read_time(requested_at),
        CancellationReason(reason),
        CancellationStage(stage),
        read_optional_time(next_stage_at),
        lock_left,
        requested_by,
    )


def json_text(stored: object, separators: tuple[str, str] = (", ", ": ")) -> str:
    """As text that every database takes."""
    # Not all escaped: a letter that is not ASCII would take six bytes.
    text = json.dumps(stored, ensure_ascii=False, separators=separators)
    # Half a character is as rare as looking for one is slow.
    return text if _is_utf_8(text) else _SURROGATE.sub(lambda half: f"\\u{ord(half[0]):04x}", text)


def _is_utf_8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
