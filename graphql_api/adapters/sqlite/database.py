"""The stores over SQLite, in one file or in memory.

One thread writes and one reads, each with a connection of its own, so a long read never holds up a write. A few rows
that an index finds are read where they are asked for, with a third connection: to go to a thread and back takes longer
than to read them. A database in memory belongs to its connection: there, one serves all.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from graphql_api.adapters.sqlite.schema import MIGRATIONS, Migrations
from graphql_api.domain.errors import StoreRefused, StoreUnavailable

T = TypeVar("T")
Row = tuple[Any, ...]
Query = tuple[str, Row]

#: How many rows of a few hundred bytes are a few. To read more takes longer than the way to a thread and back.
FEW = 32

_NEEDED_SQLITE = (3, 38)  # STRICT tables, and JSON functions in every build
_SWITCH_ATTEMPTS = 100
_APPLICATION_ID = 0x73746B63  # in the file's header: "stkc"

_UNAVAILABLE = {
    sqlite3.SQLITE_BUSY: "another program keeps it locked; try again",
    sqlite3.SQLITE_LOCKED: "another call keeps it locked; try again",
    sqlite3.SQLITE_NOMEM: "there is no memory left",
    sqlite3.SQLITE_IOERR: "the disk reported an error, or it is full: free some space, or see the system's log",
    sqlite3.SQLITE_FULL: "the disk is full; free some space",
    sqlite3.SQLITE_CANTOPEN: "the file can't be opened; check that it and its directory are there and this user's",
}
_REFUSED = {
    sqlite3.SQLITE_NOTADB: "the file is no SQLite database; name another one in STACKCAST_DATABASE_URL",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; put a backup in its place, or move it away to begin anew",
    sqlite3.SQLITE_READONLY: "it can't be written; give this user the right to write the file and its directory",
    sqlite3.SQLITE_PERM: "access is denied; give this user the right to write the file and its directory",
}


@asynccontextmanager
async def open_sqlite(
    path: Path | None, limit: timedelta, migrations: Migrations = MIGRATIONS
) -> AsyncIterator[SqliteDatabase]:
    """Open the database file, made if it is missing, and migrate it; None opens a database in memory.

    ``limit`` is how long a call waits for those before it and for another program's write. Raises StoreRefused or
    StoreUnavailable.
    """
    database = SqliteDatabase(path, limit, migrations)
    try:
        await database.open()
        yield database
    finally:
        database.close()


class SqliteDatabase:
    """The database that the stores share."""

    def __init__(self, path: Path | None, limit: timedelta, migrations: Migrations) -> None:
        self._path = path
        self._limit = limit
        self._migrations = migrations
        self._writer = _Lane("sqlite-writer")
        self._reader = _Lane("sqlite-reader") if path else self._writer
        self._glance: sqlite3.Connection | None = None

    async def open(self) -> None:
        _check_sqlite()
        if self._path:
            await asyncio.to_thread(_make_file, self._path)
        with self._translated():
            await self._writer.connect(self._path, self._limit)
            await self._writer.run(lambda connection: _prepare(connection, self._path, self._migrations))
            if self._reader is not self._writer:
                await self._reader.connect(self._path, self._limit)
                self._glance = sqlite3.connect(str(self._path), timeout=0, isolation_level=None)

    def close(self) -> None:
        if self._glance:
            self._glance.close()
            self._glance = None
        self._reader.close()
        if self._reader is not self._writer:
            self._writer.close()

    async def read(self, question: Callable[[sqlite3.Connection], T]) -> T:
        return await self._ask(self._reader, question)

    async def row(self, sql: str, parameters: Sequence[str | int] = ()) -> Row | None:
        """The first row of the answer."""
        return await self.read(lambda connection: first_row(connection, sql, parameters))

    async def keyed(self, sql: str, parameters: Sequence[str | int]) -> Row | None:
        """The one row that has a key."""
        found = await self.few(sql, parameters)
        return found[0] if found else None

    async def few(self, sql: str, parameters: Sequence[str | int]) -> list[Row]:
        """At most FEW small rows, each found by an index: nothing else goes on until they are read."""
        if self._glance:
            # Where the file can't be read at this moment, the reader waits, or finds out why.
            with suppress(sqlite3.Error):
                return self._glance.execute(sql, parameters).fetchall()
        return await self.rows(sql, parameters)

    async def rows(self, sql: str, parameters: Sequence[str | int] = ()) -> list[Row]:
        return await self.read(lambda connection: connection.execute(sql, parameters).fetchall())

    async def number(self, sql: str, parameters: Sequence[str | int] = ()) -> int:
        """The one number that the answer is."""
        return await self.read(lambda connection: int(connection.execute(sql, parameters).fetchone()[0]))

    async def write(self, change: Callable[[sqlite3.Connection], T]) -> T:
        return await self._ask(self._writer, change)

    async def ping(self) -> None:
        """Raises StoreUnavailable when the database can't be read now."""
        await self.read(lambda connection: _pragma(connection, "user_version"))

    async def _ask(self, lane: _Lane, task: Callable[[sqlite3.Connection], T]) -> T:
        with self._translated():
            # SQLite's own limit does not count the time in which a call waits for those before it.
            async with asyncio.timeout(self._limit.total_seconds()):
                return await lane.run(task)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        name = f"The database {self._path or 'in memory'} can't be used: "
        try:
            yield
        except TimeoutError as error:
            raise StoreUnavailable(f"{name}it is busy; try again.") from error
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the higher bits tell variants apart
            if code in _UNAVAILABLE:
                raise StoreUnavailable(f"{name}{_UNAVAILABLE[code]}.") from error
            if code in _REFUSED:
                raise StoreRefused(f"{name}{_REFUSED[code]}.") from error
            raise


class _Lane:
    """A connection and the one thread that uses it."""

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._connection: sqlite3.Connection | None = None

    async def connect(self, path: Path | None, limit: timedelta) -> None:
        def connect() -> None:
            file = str(path) if path else ":memory:"
            self._connection = sqlite3.connect(file, timeout=limit.total_seconds(), isolation_level=None)
            self._connection.execute("PRAGMA synchronous = FULL")

        await asyncio.get_running_loop().run_in_executor(self._thread, connect)

    async def run(self, task: Callable[[sqlite3.Connection], T]) -> T:
        def run() -> T:
            if self._connection is None:
                raise RuntimeError("the database is used before it is open or after it is closed")
            return task(self._connection)

        return await asyncio.get_running_loop().run_in_executor(self._thread, run)

    def close(self) -> None:
        """Waits in place for what was begun: a close that gives way could be cancelled and leave the file open."""
        self._thread.submit(self._disconnect)
        self._thread.shutdown()

    def _disconnect(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None


def _check_sqlite() -> None:
    if sqlite3.sqlite_version_info < _NEEDED_SQLITE:
        raise StoreRefused(
            f"This Python carries SQLite {sqlite3.sqlite_version}, and {'.'.join(map(str, _NEEDED_SQLITE))} or newer "
            "is needed: use another Python (`uv python install`), or MongoDB."
        )


def _make_file(path: Path) -> None:
    """SQLite would make it readable for all. It gives its -wal and -shm files the mode of the database file."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        pass  # and never opened here: closing it would drop the locks that SQLite holds in this process
    except OSError as error:
        raise StoreRefused(
            f"The database file {path} can't be made ({error.strerror}): name another one in STACKCAST_DATABASE_URL, "
            "or give this user the right to write there."
        ) from error


def _prepare(connection: sqlite3.Connection, path: Path | None, migrations: Migrations) -> None:
    _check_owner(connection, path, len(migrations))
    _switch_to_wal(connection)
    for version, statements in enumerate(migrations, start=1):
        with transaction(connection):
            if _pragma(connection, "user_version") < version:  # asked inside: another process may have been faster
                for statement in (*statements, f"PRAGMA user_version = {version}"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    if path:
        _restrict(path)


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Of two that switch a new database at once SQLite refuses one at once, without the patience that it was given."""
    for attempt in range(_SWITCH_ATTEMPTS):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or attempt == _SWITCH_ATTEMPTS - 1:
                raise
            time.sleep(0.02)
        else:
            return


def _restrict(path: Path) -> None:
    """Only now, when the file has proved to be ours."""
    for file in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        try:
            file.chmod(0o600)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise StoreRefused(
                f"The database file {file} can't be kept from other users ({error.strerror}): make this user its owner."
            ) from error


def _check_owner(connection: sqlite3.Connection, path: Path | None, newest: int) -> None:
    version = _pragma(connection, "user_version")
    tables = first_row(connection, "SELECT 1 FROM sqlite_schema LIMIT 1")
    if tables and _pragma(connection, "application_id") != _APPLICATION_ID:
        raise StoreRefused(f"The database {path} is another program's: name another file in STACKCAST_DATABASE_URL.")
    if version > newest:
        raise StoreRefused(
            f"The database {path} was written by a newer stackcast (it has version {version}, this one knows those "
            f"up to {newest}): install the newer stackcast, or name another file in STACKCAST_DATABASE_URL."
        )


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of the block is written, or none of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if connection.in_transaction:  # a full disk ends it by itself
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def first_row(connection: sqlite3.Connection, sql: str, parameters: Sequence[str | int] = ()) -> Row | None:
    """None when the answer has no row."""
    row: Row | None = connection.execute(sql, parameters).fetchone()
    return row


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
