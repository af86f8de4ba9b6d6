# ruff: noqa: S608 (only names of columns and placeholders are put together here; every value is a parameter)
"""Requests to the owners of stack updates in SQLite."""

from __future__ import annotations

from collections.abc import Sequence

from graphql_api.adapters.sqlite.database import SqliteDatabase
from graphql_api.adapters.sqlite.rows import REQUEST_COLUMNS, marks, read_request, request_row
from graphql_api.domain.ports import Request

_MAKE = (
    f"INSERT INTO stack_update_requests ({REQUEST_COLUMNS}) VALUES ({marks(REQUEST_COLUMNS)}) ON CONFLICT DO NOTHING"
)
_OPEN = f"SELECT {REQUEST_COLUMNS} FROM stack_update_requests ORDER BY made_at, id LIMIT ?"
_SETTLE = "DELETE FROM stack_update_requests WHERE id = ?"


class SqliteRequests:
    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def make(self, request: Request) -> None:
        row = request_row(request)
        await self._database.write(lambda connection: connection.execute(_MAKE, row).rowcount)

    async def open(self, limit: int) -> Sequence[Request]:
        return [read_request(row) for row in await self._database.rows(_OPEN, (limit,))]

    async def settle(self, id_: str) -> None:
        await self._database.write(lambda connection: connection.execute(_SETTLE, (id_,)).rowcount)
