# ruff: noqa: S608 (only names of columns and placeholders are put together here; every value is a parameter)
"""Stack updates in SQLite, in lists."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from graphql_api.adapters.sqlite.database import FEW, Query, SqliteDatabase
from graphql_api.adapters.sqlite.pages import List, read_count, read_page
from graphql_api.adapters.sqlite.rows import UPDATE_COLUMNS, read_update_row
from graphql_api.adapters.stored import milliseconds
from graphql_api.domain.ports import EVERY_UPDATE, Slice, StackUpdateFilter
from graphql_api.domain.records import CloudResourceId, Operation, StackUpdate, Status

_COLUMNS_OF_UPDATE = ", ".join(f"stack_updates.{column}" for column in UPDATE_COLUMNS.split(", "))
_LATEST = (
    f"SELECT {_COLUMNS_OF_UPDATE} FROM json_each(?) AS wanted CROSS JOIN stack_updates ON stack_updates.id = "
    "(SELECT newest.id FROM stack_updates AS newest WHERE newest.cloud_resource_id = wanted.value "
    "ORDER BY newest.created_at DESC, newest.id DESC LIMIT 1)"
)
_CHANGED = f"SELECT {UPDATE_COLUMNS} FROM stack_updates WHERE updated_at >= ? ORDER BY updated_at, id LIMIT ?"


class SqliteHistory:
    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def page(self, slice_: Slice, where: StackUpdateFilter = EVERY_UPDATE) -> Sequence[StackUpdate]:
        read = self._database.few if slice_.limit <= FEW else self._database.rows
        rows = await read_page(read, updates_list(where), UPDATE_COLUMNS, slice_)
        return [read_update_row(row) for row in rows]

    async def count(self, where: StackUpdateFilter = EVERY_UPDATE) -> int:
        return await read_count(self._database, updates_list(where))

    async def latest(self, resources: Collection[CloudResourceId]) -> Mapping[CloudResourceId, StackUpdate]:
        found = [read_update_row(row) for row in await self._database.rows(*latest_query(resources))]
        return {update.cloud_resource_id: update for update in found}

    async def changed_since(self, moment: datetime, limit: int) -> Sequence[StackUpdate]:
        return [read_update_row(row) for row in await self._database.rows(*changes_query(moment, limit))]


def updates_list(where: StackUpdateFilter) -> List:
    """Where an operation or a status is asked for, or both ends of the longest index, it takes all its columns."""
    wanted = {"cloud_resource_id": where.cloud_resource_id, "stack_fqdn": where.stack_fqdn}
    equal: dict[str, str] = {column: value for column, value in wanted.items() if value is not None}
    searches = [equal]
    if where.operations is not None or where.statuses is not None or len(equal) == len(wanted):
        searches = [
            {**equal, "operation": operation.value, "status": status.value}
            for operation in (Operation if where.operations is None else where.operations)
            for status in (Status if where.statuses is None else where.statuses)
        ]
    return List("stack_updates", searches, where.created_after, where.created_before)


def latest_query(resources: Collection[CloudResourceId]) -> Query:
    return _LATEST, (json.dumps(list(set(resources))),)


def changes_query(moment: datetime, limit: int) -> Query:
    return _CHANGED, (milliseconds(moment), limit)
