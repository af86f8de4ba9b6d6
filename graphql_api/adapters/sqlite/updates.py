# ruff: noqa: S608 (only names of columns and placeholders are put together here; every value is a parameter)
"""Stack updates in SQLite, one by one."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection

from graphql_api.adapters.sqlite.database import Query, SqliteDatabase, first_row
from graphql_api.adapters.sqlite.rows import UPDATE_COLUMNS, marks, read_update_row, same_identity
from graphql_api.adapters.stored import update_values
from graphql_api.domain.errors import RevisionConflict
from graphql_api.domain.records import StackFqdn, StackUpdate, StackUpdateId

_INSERT = (
    f"INSERT INTO stack_updates ({UPDATE_COLUMNS}, manifest) VALUES ({marks(UPDATE_COLUMNS)}, ?) ON CONFLICT DO NOTHING"
)
_SAVE = (
    f"UPDATE stack_updates SET ({UPDATE_COLUMNS}, output) = ({marks(UPDATE_COLUMNS)}, coalesce(?, output)) "
    "WHERE id = ? AND revision = ? AND status = 'in_progress'"
)
_GET = f"SELECT {UPDATE_COLUMNS} FROM stack_updates WHERE id = ?"
_MANIFEST = "SELECT manifest FROM stack_updates WHERE id = ?"
_OUTPUT = "SELECT output FROM stack_updates WHERE id = ?"
_NEXT = (
    f"SELECT {UPDATE_COLUMNS} FROM stack_updates WHERE phase = 'queued' "
    "AND stack_fqdn NOT IN (SELECT value FROM json_each(?)) ORDER BY created_at, id LIMIT 1"
)


class SqliteUpdates:
    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def insert(self, update: StackUpdate, manifest: str) -> None:
        def insert(connection: sqlite3.Connection) -> None:
            row = update_values(update)
            if connection.execute(_INSERT, (*row, manifest)).rowcount:
                return
            stored = first_row(connection, _GET, (update.id,))
            if stored is None or not same_identity(stored, row):
                raise RevisionConflict(f"The id {update.id} belongs to another stack update: take a new one.")

        await self._database.write(insert)

    async def save(self, update: StackUpdate, output: str | None = None) -> None:
        def save(connection: sqlite3.Connection) -> None:
            row = update_values(update)
            if connection.execute(_SAVE, (*row, output, update.id, update.revision - 1)).rowcount:
                return
            if first_row(connection, _GET, (update.id,)) != row:
                raise RevisionConflict(f"The stack update {update.id} has changed since it was read: read it again.")

        await self._database.write(save)

    async def get(self, id_: StackUpdateId) -> StackUpdate | None:
        row = await self._database.keyed(_GET, (id_,))
        return read_update_row(row) if row else None

    async def manifest(self, id_: StackUpdateId) -> str | None:
        row = await self._database.keyed(_MANIFEST, (id_,))
        return row[0] if row else None

    async def output(self, id_: StackUpdateId) -> str | None:
        row = await self._database.row(_OUTPUT, (id_,))
        return row[0] if row else None

    async def next_queued(self, busy: Collection[StackFqdn] = ()) -> StackUpdate | None:
        row = await self._database.row(*next_query(busy))
        return read_update_row(row) if row else None


def next_query(busy: Collection[StackFqdn]) -> Query:
    return _NEXT, (json.dumps(list(busy)),)
