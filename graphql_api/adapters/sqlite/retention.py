"""Forgetting stack updates in SQLite: each step is one short transaction, and the writer serves others in between."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime

from graphql_api.adapters.sqlite.database import Query, SqliteDatabase, first_row, transaction
from graphql_api.adapters.sqlite.rows import milliseconds_up
from graphql_api.domain.records import CloudResourceId, StackUpdateId, Status

# From one cloud resource to the next, without a look at the stack updates in between.
_DEPLOYED = """
WITH RECURSIVE found (id) AS (
    SELECT min(cloud_resource_id) FROM stack_updates WHERE cloud_resource_id > ?
    UNION ALL
    SELECT (SELECT min(cloud_resource_id) FROM stack_updates WHERE cloud_resource_id > found.id)
    FROM found WHERE found.id IS NOT NULL
)
SELECT id FROM found WHERE id IS NOT NULL LIMIT ?"""
_ENDED = "FROM stack_updates WHERE cloud_resource_id = ? AND status <> 'in_progress'"
_NEWEST = f"SELECT created_at, id {_ENDED} ORDER BY created_at DESC, id DESC LIMIT 1 OFFSET ?"
_EXPIRED = f"SELECT id {_ENDED} AND updated_at < ? AND (created_at, id) <= (?, ?) ORDER BY created_at, id LIMIT ?"
STATUS = "SELECT status FROM stack_updates WHERE id = ?"
BEGINNING = (
    "INSERT INTO half_forgotten_stack_updates (id) VALUES (?) ON CONFLICT DO NOTHING",
    "DELETE FROM idempotency_keys WHERE update_id = ?",
    "DELETE FROM stack_update_requests WHERE update_id = ?",
    "DELETE FROM stack_updates WHERE id = ?",
)
FORGET_CHUNKS = (
    "DELETE FROM stack_update_events WHERE rowid IN "
    "(SELECT rowid FROM stack_update_events WHERE update_id = ? ORDER BY number LIMIT ?)"
)
_FINISH = "DELETE FROM half_forgotten_stack_updates WHERE id = ?"
_HALF = "SELECT id FROM half_forgotten_stack_updates ORDER BY id LIMIT ?"
_CHUNKS = 32  # of a log in one step


class SqliteRetention:
    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def deployed(self, after: CloudResourceId | None, limit: int) -> Sequence[CloudResourceId]:
        return [CloudResourceId(id_) for (id_,) in await self._database.rows(*deployed_query(after, limit))]

    async def expired(
        self, resource: CloudResourceId, before: datetime, keep: int, limit: int
    ) -> Sequence[StackUpdateId]:
        newest = await self._database.row(*newest_query(resource, keep))
        if newest is None:
            return []
        found = await self._database.rows(*expired_query(resource, before, newest, limit))
        return [StackUpdateId(id_) for (id_,) in found]

    async def forget(self, id_: StackUpdateId) -> bool:
        def forget(connection: sqlite3.Connection) -> bool:
            with transaction(connection):
                if first_row(connection, STATUS, (id_,)) != (Status.IN_PROGRESS.value,):
                    for statement in BEGINNING:
                        connection.execute(statement, (id_,))
                    if connection.execute(FORGET_CHUNKS, (id_, _CHUNKS)).rowcount == _CHUNKS:
                        return False
                connection.execute(_FINISH, (id_,))
                return True

        return await self._database.write(forget)

    async def half_forgotten(self, limit: int) -> Sequence[StackUpdateId]:
        return [StackUpdateId(id_) for (id_,) in await self._database.rows(_HALF, (limit,))]


def deployed_query(after: CloudResourceId | None, limit: int) -> Query:
    return _DEPLOYED, (after or "", limit)


def newest_query(resource: CloudResourceId, keep: int) -> Query:
    """The newest one that is not kept for being among the newest."""
    return _NEWEST, (resource, keep)


def expired_query(resource: CloudResourceId, before: datetime, newest: tuple[int, str], limit: int) -> Query:
    """Among this one and those older. None was accepted after it ended: that bounds the search in the index."""
    moment = milliseconds_up(before)
    return _EXPIRED, (resource, moment, *min(newest, (moment, "")), limit)
