# ruff: noqa: S608 (only names of columns and placeholders are put together here; every value is a parameter)
"""Logs of stack updates in SQLite."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from graphql_api.adapters.log_pages import LogPageBuilder
from graphql_api.adapters.sqlite.database import Query, SqliteDatabase, first_row
from graphql_api.adapters.sqlite.rows import CHUNK_COLUMNS, chunk_row, marks, read_chunk
from graphql_api.adapters.stored_events import mask_of
from graphql_api.domain.events import EventKind
from graphql_api.domain.ports import Chunk, LogPage, Span
from graphql_api.domain.records import StackUpdateId

_APPEND = f"INSERT INTO stack_update_events ({CHUNK_COLUMNS}) VALUES ({marks(CHUNK_COLUMNS)}) ON CONFLICT DO NOTHING"
_NONCE = "SELECT nonce FROM stack_update_events WHERE update_id = ? AND number = ?"
_LAST = f"SELECT {CHUNK_COLUMNS} FROM stack_update_events WHERE update_id = ? ORDER BY number DESC LIMIT 1"
_FIRST_SEQ = "SELECT first_seq FROM stack_update_events WHERE update_id = ? ORDER BY last_seq LIMIT 1"
_LAST_SEQ = "SELECT last_seq FROM stack_update_events WHERE update_id = ? ORDER BY last_seq DESC LIMIT 1"
_READ = (
    "SELECT first_seq, events FROM stack_update_events "
    "WHERE update_id = ? AND last_seq > ? AND last_seq <= ? AND kinds & ? ORDER BY last_seq"
)


class SqliteEvents:
    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def append(self, chunk: Chunk) -> bool:
        def append(connection: sqlite3.Connection) -> bool:
            if connection.execute(_APPEND, chunk_row(chunk)).rowcount:
                return True
            return first_row(connection, _NONCE, (chunk.update_id, chunk.number)) == (chunk.nonce,)

        return await self._database.write(append)

    async def last(self, update_id: StackUpdateId) -> Chunk | None:
        row = await self._database.keyed(*last_query(update_id))
        return read_chunk(row) if row else None

    async def span(self, update_id: StackUpdateId) -> Span | None:
        row = await self._database.keyed(*span_query(update_id))
        return Span(*row) if row and row[0] is not None else None

    async def read(
        self, update_id: StackUpdateId, after: int, limit: int, kinds: frozenset[EventKind] | None = None
    ) -> LogPage:
        def read(connection: sqlite3.Connection) -> LogPage:
            builder = LogPageBuilder(after, limit, kinds)
            # Asked first: what is appended meanwhile is left to the next page, and so is its has_more.
            end = first_row(connection, _LAST_SEQ, (update_id,)) or (0,)
            with closing(connection.execute(*chunks_query(update_id, after, end[0], kinds))) as rows:
                for first_seq, text in rows:
                    if not builder.add(first_seq, text):
                        break
            return builder.page(end[0])

        return await self._database.read(read)


def last_query(update_id: StackUpdateId) -> Query:
    return _LAST, (update_id,)


def span_query(update_id: StackUpdateId) -> Query:
    return f"SELECT ({_FIRST_SEQ}), ({_LAST_SEQ})", (update_id, update_id)


def chunks_query(update_id: StackUpdateId, after: int, last_seq: int, kinds: frozenset[EventKind] | None) -> Query:
    """The index says which kinds a chunk holds: of the others nothing is read."""
    return _READ, (update_id, after, last_seq, mask_of(EventKind if kinds is None else kinds))
