# ruff: noqa: S608 (only names of columns and placeholders are put together here; every value is a parameter)
"""Idempotency keys in SQLite."""

from __future__ import annotations

import sqlite3
from datetime import datetime

from graphql_api.adapters.sqlite.database import Row, SqliteDatabase, transaction
from graphql_api.adapters.sqlite.rows import KEY_COLUMNS, key_row, marks, milliseconds_up, read_key
from graphql_api.domain.ports import IdempotencyKey

_FORGET = "DELETE FROM idempotency_keys WHERE created_at < ?"
_KEEP = f"INSERT INTO idempotency_keys ({KEY_COLUMNS}) VALUES ({marks(KEY_COLUMNS)}) ON CONFLICT DO NOTHING"
_GET = f"SELECT {KEY_COLUMNS} FROM idempotency_keys WHERE caller = ? AND key = ?"
_FIND = f"{_GET} AND created_at >= ?"


class SqliteKeys:
    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def find(self, caller: str, key: str, since: datetime) -> IdempotencyKey | None:
        row = await self._database.keyed(_FIND, (caller, key, milliseconds_up(since)))
        return read_key(row) if row else None

    async def keep(self, key: IdempotencyKey, since: datetime) -> IdempotencyKey:
        def keep(connection: sqlite3.Connection) -> Row:
            with transaction(connection):
                connection.execute(_FORGET, (milliseconds_up(since),))
                connection.execute(_KEEP, key_row(key))
                kept: Row = connection.execute(_GET, (key.caller, key.key)).fetchone()
                return kept

        return read_key(await self._database.write(keep))
