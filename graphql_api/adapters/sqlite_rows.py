# ruff: noqa: S608 (only names of columns and placeholders are put together here; every value is a parameter)
"""What a SQLite database of ours looks like: tables, the queries on them, and records as rows.

Times are milliseconds since 1970, so that they are held as exactly as everywhere else.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from graphql_api.adapters.stored import failure_text, outputs_text, read_failure, read_outputs
from graphql_api.domain.ports import Cursor, StackUpdateFilter
from graphql_api.domain.records import (
    Claim,
    CloudResource,
    CloudResourceId,
    Phase,
    StackFqdn,
    StackUpdate,
    StackUpdateId,
    Status,
)

Row = tuple[Any, ...]
Query = tuple[str, Row]
Migrations = Sequence[Sequence[str]]

#: Entry n brings a database from version n to n + 1, in one transaction. Never change an entry; add one.
MIGRATIONS: Migrations = (
    (
        """CREATE TABLE cloud_resources (
            id TEXT PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, manifest TEXT NOT NULL,
            created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL
        ) STRICT""",
        "CREATE UNIQUE INDEX cloud_resources_by_name ON cloud_resources (kind, name)",
        "CREATE INDEX cloud_resources_by_age ON cloud_resources (created_at, id)",
        # The large columns come last: a read of those before them doesn't touch their pages.
        """CREATE TABLE stack_updates (
            id TEXT PRIMARY KEY, cloud_resource_id TEXT NOT NULL, stack_fqdn TEXT, timeout INTEGER NOT NULL,
            created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, status TEXT NOT NULL, phase TEXT NOT NULL,
            revision INTEGER NOT NULL, started_at INTEGER, finished_at INTEGER, exit_code INTEGER, failure TEXT,
            stack_outputs TEXT NOT NULL, manifest TEXT NOT NULL, output TEXT
        ) STRICT""",
        "CREATE INDEX stack_updates_by_age ON stack_updates (created_at, id)",
        "CREATE INDEX stack_updates_by_resource ON stack_updates (cloud_resource_id, created_at, id)",
        "CREATE INDEX stack_updates_by_status ON stack_updates (status, created_at, id)",
        "CREATE INDEX stack_updates_by_both ON stack_updates (cloud_resource_id, status, created_at, id)",
        "CREATE INDEX stack_updates_queued ON stack_updates (created_at, id, stack_fqdn) WHERE phase = 'queued'",
        """CREATE TABLE stack_claims (
            stack TEXT NOT NULL, epoch INTEGER NOT NULL, owner TEXT NOT NULL, nonce TEXT NOT NULL,
            update_id TEXT NOT NULL, expires_at INTEGER NOT NULL, ended INTEGER NOT NULL, PRIMARY KEY (stack, epoch)
        ) STRICT, WITHOUT ROWID""",
    ),
)

_RESOURCE = "id, kind, name, manifest, created_at, updated_at"
_UPDATE = (
    "id, cloud_resource_id, stack_fqdn, timeout, created_at, updated_at, status, phase, revision, started_at, "
    "finished_at, exit_code, failure, stack_outputs"
)
_CLAIM = "stack, epoch, owner, nonce, update_id, expires_at, ended"


def _marks(count: int) -> str:
    return ", ".join("?" * count)


INSERT_RESOURCE = f"INSERT INTO cloud_resources ({_RESOURCE}) VALUES ({_marks(6)}) ON CONFLICT DO NOTHING"
REPLACE_RESOURCE = f"UPDATE OR IGNORE cloud_resources SET ({_RESOURCE}) = ({_marks(6)}) WHERE id = ?"
GET_RESOURCE = f"SELECT {_RESOURCE} FROM cloud_resources WHERE id = ?"
FIND_RESOURCE = f"SELECT {_RESOURCE} FROM cloud_resources WHERE kind = ? AND name = ?"
COUNT_RESOURCES = "SELECT count(*) FROM cloud_resources"

INSERT_UPDATE = f"INSERT INTO stack_updates ({_UPDATE}, manifest) VALUES ({_marks(15)}) ON CONFLICT DO NOTHING"
SAVE_UPDATE = (
    f"UPDATE stack_updates SET ({_UPDATE}, output) = ({_marks(14)}, coalesce(?, output)) "
    "WHERE id = ? AND revision = ? AND status = 'in_progress'"
)
GET_UPDATE = f"SELECT {_UPDATE} FROM stack_updates WHERE id = ?"
GET_MANIFEST = "SELECT manifest FROM stack_updates WHERE id = ?"
GET_OUTPUT = "SELECT output FROM stack_updates WHERE id = ?"

INSERT_CLAIM = f"INSERT INTO stack_claims ({_CLAIM}) VALUES ({_marks(7)}) ON CONFLICT DO NOTHING"
GET_NONCE = "SELECT nonce FROM stack_claims WHERE stack = ? AND epoch = ?"
CURRENT_CLAIM = f"SELECT {_CLAIM} FROM stack_claims WHERE stack = ? ORDER BY epoch DESC LIMIT 1"
RENEW_CLAIM = "UPDATE stack_claims SET expires_at = ? WHERE stack = ? AND epoch = ? AND nonce = ?"
END_CLAIM = "UPDATE stack_claims SET ended = 1 WHERE stack = ? AND epoch = ? AND nonce = ?"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_TOP = (2**62, "")  # a place before the newest record: the first page is the same index search as the others


def resources_page(first: int, after: Cursor | None) -> Query:
    sql = f"SELECT {_RESOURCE} FROM cloud_resources WHERE (created_at, id) < (?, ?)"
    return f"{sql} ORDER BY created_at DESC, id DESC LIMIT ?", (*_place(after), first)


def updates_page(first: int, after: Cursor | None, where: StackUpdateFilter) -> Query:
    """At least one status must be asked for, or all. Several are one index search each, merged."""
    sql, parameters = f"SELECT {_UPDATE} FROM stack_updates WHERE (created_at, id) < (?, ?)", _place(after)
    if where.cloud_resource_id is not None:
        sql, parameters = f"{sql} AND cloud_resource_id = ?", (*parameters, where.cloud_resource_id)
    if where.statuses is not None:
        searches = [(*parameters, status.value) for status in where.statuses]
        sql = " UNION ALL ".join([f"{sql} AND status = ?"] * len(searches))
        parameters = tuple(value for search in searches for value in search)
    return f"{sql} ORDER BY created_at DESC, id DESC LIMIT ?", (*parameters, first)


def updates_count(where: StackUpdateFilter) -> Query:
    sql, parameters = "SELECT count(*) FROM stack_updates WHERE true", Row()
    if where.cloud_resource_id is not None:
        sql, parameters = f"{sql} AND cloud_resource_id = ?", (*parameters, where.cloud_resource_id)
    if where.statuses is not None:
        sql = f"{sql} AND status IN ({_marks(len(where.statuses))})"
        parameters = (*parameters, *(status.value for status in where.statuses))
    return sql, parameters


def next_queued(busy: Collection[StackFqdn]) -> Query:
    sql = (
        f"SELECT {_UPDATE} FROM stack_updates WHERE phase = 'queued' "
        "AND stack_fqdn NOT IN (SELECT value FROM json_each(?)) ORDER BY created_at, id LIMIT 1"
    )
    return sql, (json.dumps(list(busy)),)


def resource_row(resource: CloudResource) -> Row:
    times = (milliseconds(resource.created_at), milliseconds(resource.updated_at))
    return (resource.id, resource.kind, resource.name, resource.manifest, *times)


def read_resource(row: Row) -> CloudResource:
    id_, kind, name, manifest, created_at, updated_at = row
    return CloudResource(CloudResourceId(id_), kind, name, manifest, _time(created_at), _time(updated_at))


def update_row(update: StackUpdate) -> Row:
    return (
        update.id,
        update.cloud_resource_id,
        update.stack_fqdn,
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
    return one[:5] == other[:5]


def read_update(row: Row) -> StackUpdate:
    id_, resource_id, fqdn, timeout, created_at, updated_at, status, phase, revision = row[:9]
    started_at, finished_at, exit_code, failure, outputs = row[9:]
    return StackUpdate(
        id=StackUpdateId(id_),
        cloud_resource_id=CloudResourceId(resource_id),
        stack_fqdn=fqdn,
        timeout=timeout * _MILLISECOND,
        created_at=_time(created_at),
        updated_at=_time(updated_at),
        status=Status(status),
        phase=Phase(phase),
        revision=revision,
        started_at=None if started_at is None else _time(started_at),
        finished_at=None if finished_at is None else _time(finished_at),
        exit_code=exit_code,
        failure=read_failure(failure),
        stack_outputs=read_outputs(outputs),
    )


def claim_row(claim: Claim) -> Row:
    expires_at = milliseconds(claim.expires_at)
    return (claim.stack, claim.epoch, claim.owner, claim.nonce, claim.update_id, expires_at, int(claim.ended))


def read_claim(row: Row) -> Claim:
    stack, epoch, owner, nonce, update_id, expires_at, ended = row
    return Claim(stack, epoch, owner, nonce, update_id, _time(expires_at), bool(ended))


def milliseconds(time: datetime) -> int:
    return (time - _EPOCH) // _MILLISECOND


def _time(since_epoch: int) -> datetime:
    return _EPOCH + since_epoch * _MILLISECOND


def _place(after: Cursor | None) -> Row:
    return (milliseconds(after.created_at), after.id) if after else _TOP
