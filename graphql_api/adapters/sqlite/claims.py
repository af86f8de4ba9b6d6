# ruff: noqa: S608 (only names of columns and placeholders are put together here; every value is a parameter)
"""Claims of stacks in SQLite."""

from __future__ import annotations

import sqlite3
from datetime import datetime

from graphql_api.adapters.sqlite.database import SqliteDatabase, first_row, transaction
from graphql_api.adapters.sqlite.rows import CLAIM_COLUMNS, claim_row, marks, read_claim
from graphql_api.adapters.stored import milliseconds
from graphql_api.domain.records import Claim, StackFqdn

_INSERT = f"INSERT INTO stack_claims ({CLAIM_COLUMNS}) VALUES ({marks(CLAIM_COLUMNS)}) ON CONFLICT DO NOTHING"
_NONCE = "SELECT nonce FROM stack_claims WHERE stack = ? AND epoch = ?"
_CURRENT = f"SELECT {CLAIM_COLUMNS} FROM stack_claims WHERE stack = ? ORDER BY epoch DESC LIMIT 1"
_RENEW = "UPDATE stack_claims SET expires_at = ? WHERE stack = ? AND epoch = ? AND nonce = ?"
_END = "UPDATE stack_claims SET ended = 1 WHERE stack = ? AND epoch = ? AND nonce = ?"
_FORGET = "DELETE FROM stack_claims WHERE stack = ? AND epoch < ?"


class SqliteClaims:
    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def current(self, stack: StackFqdn) -> Claim | None:
        row = await self._database.keyed(_CURRENT, (stack,))
        return read_claim(row) if row else None

    async def claim(self, claim: Claim) -> bool:
        def insert(connection: sqlite3.Connection) -> bool:
            connection.execute(_INSERT, claim_row(claim))
            return first_row(connection, _NONCE, (claim.stack, claim.epoch)) == (claim.nonce,)

        return await self._database.write(insert)

    async def renew(self, claim: Claim, expires_at: datetime) -> None:
        parameters = (milliseconds(expires_at), claim.stack, claim.epoch, claim.nonce)
        await self._database.write(lambda connection: connection.execute(_RENEW, parameters).rowcount)

    async def end(self, claim: Claim) -> None:
        def end(connection: sqlite3.Connection) -> None:
            with transaction(connection):
                if connection.execute(_END, (claim.stack, claim.epoch, claim.nonce)).rowcount:
                    connection.execute(_FORGET, (claim.stack, claim.epoch))

        await self._database.write(end)
