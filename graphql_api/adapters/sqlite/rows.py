"""Records as rows of a SQLite database of ours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from graphql_api.adapters.sqlite.database import Row
from graphql_api.adapters.stored import failure_text, outputs_text, read_failure, read_outputs
from graphql_api.domain.records import (
    Claim,
    CloudResource,
    CloudResourceId,
    Operation,
    Phase,
    StackUpdate,
    StackUpdateId,
    Status,
)

RESOURCE_COLUMNS = "id, kind, name, manifest, created_at, updated_at"
UPDATE_COLUMNS = (
    "id, cloud_resource_id, stack_fqdn, operation, timeout, created_at, updated_at, status, phase, revision, "
    "started_at, finished_at, exit_code, failure, stack_outputs"
)
CLAIM_COLUMNS = "stack, epoch, owner, nonce, update_id, expires_at, ended"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def marks(columns: str) -> str:
    """A placeholder for each column."""
    return ", ".join("?" * len(columns.split(",")))


def milliseconds(time: datetime) -> int:
    """The time as it is stored: what is finer is cut off."""
    return (time - _EPOCH) // _MILLISECOND


def milliseconds_up(time: datetime) -> int:
    """The first time that can be stored and isn't before this one."""
    return -((_EPOCH - time) // _MILLISECOND)


def read_time(since_epoch: int) -> datetime:
    return _EPOCH + since_epoch * _MILLISECOND


def resource_row(resource: CloudResource) -> Row:
    times = (milliseconds(resource.created_at), milliseconds(resource.updated_at))
    return (resource.id, resource.kind, resource.name, resource.manifest, *times)


def read_resource(row: Row) -> CloudResource:
    id_, kind, name, manifest, created_at, updated_at = row
    return CloudResource(CloudResourceId(id_), kind, name, manifest, read_time(created_at), read_time(updated_at))


def update_row(update: StackUpdate) -> Row:
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
        milliseconds(update.started_at) if update.started_at else None,
        milliseconds(update.finished_at) if update.finished_at else None,
        update.exit_code,
        failure_text(update.failure),
        outputs_text(update.stack_outputs),
    )


def same_identity(one: Row, other: Row) -> bool:
    """Whether two rows are of one stack update, perhaps at different revisions."""
    return one[:6] == other[:6]


def read_update(row: Row) -> StackUpdate:
    id_, resource_id, fqdn, operation, timeout, created_at, updated_at, status, phase, revision = row[:10]
    started_at, finished_at, exit_code, failure, outputs = row[10:]
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
        started_at=None if started_at is None else read_time(started_at),
        finished_at=None if finished_at is None else read_time(finished_at),
        exit_code=exit_code,
        failure=read_failure(failure),
        stack_outputs=read_outputs(outputs),
    )


def claim_row(claim: Claim) -> Row:
    expires_at = milliseconds(claim.expires_at)
    return (claim.stack, claim.epoch, claim.owner, claim.nonce, claim.update_id, expires_at, int(claim.ended))


def read_claim(row: Row) -> Claim:
    stack, epoch, owner, nonce, update_id, expires_at, ended = row
    return Claim(stack, epoch, owner, nonce, update_id, read_time(expires_at), bool(ended))
