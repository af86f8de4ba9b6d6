# ruff: noqa: S608 (only names of columns and placeholders are put together here; every value is a parameter)
"""Cloud resources in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime, timedelta

from graphql_api.adapters.sqlite.database import Query, Row, SqliteDatabase, first_row, transaction
from graphql_api.adapters.sqlite.pages import List, read_count, read_page
from graphql_api.adapters.sqlite.rows import RESOURCE_COLUMNS, marks, read_resource, resource_row
from graphql_api.adapters.stored import milliseconds, read_time
from graphql_api.domain.errors import CloudResourceExists, CloudResourceNotFound, RevisionConflict
from graphql_api.domain.ports import EVERY_RESOURCE, CloudResourceFilter, DeletedResource, Slice
from graphql_api.domain.records import CloudResource, CloudResourceId

_REMEMBERED = timedelta(days=1)

_INSERT = f"INSERT INTO cloud_resources ({RESOURCE_COLUMNS}) VALUES ({marks(RESOURCE_COLUMNS)}) ON CONFLICT DO NOTHING"
_REPLACE = f"UPDATE OR IGNORE cloud_resources SET ({RESOURCE_COLUMNS}) = ({marks(RESOURCE_COLUMNS)}) WHERE id = ?"
_GET = f"SELECT {RESOURCE_COLUMNS} FROM cloud_resources WHERE id = ?"
_FIND = f"SELECT {RESOURCE_COLUMNS} FROM cloud_resources WHERE kind = ? AND name = ?"
_REMEMBER = (
    f"INSERT OR REPLACE INTO deleted_cloud_resources ({RESOURCE_COLUMNS}, deleted_at) "
    f"SELECT {RESOURCE_COLUMNS}, max(?, updated_at) FROM cloud_resources WHERE id = ?"
)
_FORGET = "DELETE FROM deleted_cloud_resources WHERE deleted_at < ?"
_DELETE = "DELETE FROM cloud_resources WHERE id = ?"
# What was deleted comes first within a millisecond: another may have got its name in the same one. So what an index
# gives in order is sorted once more, and there are twice the limit at most.
_DELETED_SINCE = (
    f"SELECT {RESOURCE_COLUMNS}, deleted_at, deleted_at AS moment, 0 AS kept FROM deleted_cloud_resources "
    "WHERE deleted_at >= ? ORDER BY deleted_at, id LIMIT ?"
)
_KEPT_SINCE = (
    f"SELECT {RESOURCE_COLUMNS}, NULL, updated_at, 1 FROM cloud_resources "
    "WHERE updated_at >= ? ORDER BY updated_at, id LIMIT ?"
)
_CHANGED = f"SELECT * FROM ({_DELETED_SINCE}) UNION ALL SELECT * FROM ({_KEPT_SINCE}) ORDER BY moment, kept, id LIMIT ?"


class SqliteResources:
    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def insert(self, resource: CloudResource) -> None:
        def insert(connection: sqlite3.Connection) -> None:
            if connection.execute(_INSERT, resource_row(resource)).rowcount:
                return
            if _same_name(connection, resource) is None:
                raise RevisionConflict(f"The id {resource.id} belongs to another cloud resource: take a new one.")

        await self._database.write(insert)

    async def replace(self, resource: CloudResource) -> None:
        def replace(connection: sqlite3.Connection) -> None:
            if connection.execute(_REPLACE, (*resource_row(resource), resource.id)).rowcount:
                return
            if first_row(connection, _GET, (resource.id,)):
                _same_name(connection, resource)
            raise CloudResourceNotFound(resource.id)

        await self._database.write(replace)

    async def get(self, id_: CloudResourceId) -> CloudResource | None:
        row = await self._database.keyed(_GET, (id_,))
        return read_resource(row) if row else None

    async def find(self, kind: str, name: str) -> CloudResource | None:
        row = await self._database.keyed(_FIND, (kind, name))
        return read_resource(row) if row else None

    async def delete(self, id_: CloudResourceId, now: datetime) -> bool:
        def delete(connection: sqlite3.Connection) -> bool:
            with transaction(connection):
                connection.execute(_FORGET, (milliseconds(now - _REMEMBERED),))
                connection.execute(_REMEMBER, (milliseconds(now), id_))
                return connection.execute(_DELETE, (id_,)).rowcount > 0

        return await self._database.write(delete)

    async def page(self, slice_: Slice, where: CloudResourceFilter = EVERY_RESOURCE) -> Sequence[CloudResource]:
        rows = await read_page(self._database.rows, resources_list(where), RESOURCE_COLUMNS, slice_)
        return [read_resource(row) for row in rows]

    async def count(self, where: CloudResourceFilter = EVERY_RESOURCE) -> int:
        return await read_count(self._database, resources_list(where))

    async def changed_since(self, moment: datetime, limit: int) -> Sequence[CloudResource | DeletedResource]:
        return [_read_change(row) for row in await self._database.rows(*changes_query(moment, limit))]


def resources_list(where: CloudResourceFilter) -> List:
    wanted = {"kind": where.kind, "name": where.name}
    return List("cloud_resources", [{column: value for column, value in wanted.items() if value is not None}])


def changes_query(moment: datetime, limit: int) -> Query:
    return _CHANGED, (milliseconds(moment), limit) * 2 + (limit,)


def _read_change(row: Row) -> CloudResource | DeletedResource:
    *columns, deleted_at, _, kept = row
    resource = read_resource(tuple(columns))
    return resource if kept else DeletedResource(resource, read_time(deleted_at))


def _same_name(connection: sqlite3.Connection, resource: CloudResource) -> CloudResource | None:
    """The stored record with its kind and name; CloudResourceExists when that is another one."""
    row = first_row(connection, _FIND, (resource.kind, resource.name))
    existing = read_resource(row) if row else None
    if existing and existing.id != resource.id:
        raise CloudResourceExists(existing)
    return existing
