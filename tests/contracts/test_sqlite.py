"""What is SQLite's own: the file, its versions, its plans and its errors."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from graphql_api.adapters import open_backends
from graphql_api.adapters.sqlite.database import FEW, open_sqlite
from graphql_api.adapters.sqlite.history import SqliteHistory
from graphql_api.adapters.sqlite.rows import REMEMBERED_LENGTH
from graphql_api.adapters.sqlite.schema import MIGRATIONS
from graphql_api.adapters.sqlite.updates import SqliteUpdates
from graphql_api.domain.errors import RevisionConflict, StoreRefused, StoreUnavailable
from graphql_api.domain.events import EventKind, StatusChanged
from graphql_api.domain.ports import CancelRequest, LogPage, Slice, StackUpdateFilter
from graphql_api.domain.progress import NO_PROGRESS
from graphql_api.domain.records import CancellationReason, Operation, Phase, StackOutput, StackUpdateId, Status
from tests.builders import (
    CANCELLATION,
    MANIFEST,
    STACK,
    a_chunk,
    a_cloud_resource,
    a_stack_update,
    failed,
    following,
)

LIMIT = timedelta(seconds=5)
SHORT = timedelta(milliseconds=200)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "stackcast.db"


@pytest.fixture
async def database(file: Path) -> Path:
    """The file of a closed database that holds one cloud resource and one stack update."""
    async with open_backends(f"sqlite:///{file}") as backends:
        await backends.resources.insert(a_cloud_resource())
        await backends.updates.insert(a_stack_update(), MANIFEST)
    return file


@pytest.fixture
def raw(database: Path) -> Iterator[sqlite3.Connection]:
    """A connection of the test's own to that database."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        yield connection


def modes(directory: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in (directory, *directory.iterdir())}


def open_to_others(file: Path) -> None:
    file.chmod(0o644)


def content(file: Path) -> bytes:
    return file.read_bytes()


def write(file: Path, content: bytes) -> None:
    file.write_bytes(content)


async def test_of_concurrent_saves_from_one_revision_one_wins(file: Path) -> None:
    """Here a conditional save is atomic: of twenty from one revision, one goes through."""
    async with open_sqlite(file, LIMIT) as database:
        updates, update = SqliteUpdates(database), a_stack_update()
        await updates.insert(update, MANIFEST)
        rivals = [replace(update, revision=2, exit_code=number) for number in range(20)]

        answers = await asyncio.gather(*map(updates.save, rivals), return_exceptions=True)

        assert [type(answer) for answer in answers].count(RevisionConflict) == 19
        assert await updates.get(update.id) == rivals[answers.index(None)]


async def test_only_its_owner_may_read_the_database(file: Path) -> None:
    """The file and those beside it are 0600 in a directory of 0700: manifests and outputs may hold secrets."""
    async with open_backends(f"sqlite:///{file}") as backends:
        await backends.resources.insert(a_cloud_resource())

        files = {"stackcast.db": 0o600, "stackcast.db-wal": 0o600, "stackcast.db-shm": 0o600}
        assert modes(file.parent) == {"data": 0o700, **files}


async def test_an_open_database_is_closed_to_others(database: Path) -> None:
    """A database that others could read is no longer readable for them once it was opened."""
    open_to_others(database)

    async with open_backends(f"sqlite:///{database}"):
        files = {"stackcast.db": 0o600, "stackcast.db-wal": 0o600, "stackcast.db-shm": 0o600}
        assert modes(database.parent) == {"data": 0o700, **files}


async def test_what_is_written_survives_a_power_cut(raw: sqlite3.Connection, database: Path) -> None:
    """The journal is a write-ahead log, so that reading goes on beside writing."""
    assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    async with open_sqlite(database, LIMIT) as opened:
        synchronous = await opened.write(lambda connection: connection.execute("PRAGMA synchronous").fetchone()[0])

    assert synchronous == 2  # FULL: each commit reaches the disk


async def test_an_older_version_is_migrated(file: Path) -> None:
    """Only the steps that are missing are made, and what was kept stays."""
    first, second = ("CREATE TABLE a (x)",), ("ALTER TABLE a ADD y DEFAULT 7", "CREATE INDEX a_y ON a (y)")
    async with open_sqlite(file, LIMIT, [first]) as database:
        await database.write(lambda connection: connection.execute("INSERT INTO a VALUES (1)"))

    for _ in range(2):
        async with open_sqlite(file, LIMIT, [first, second]) as database:
            assert await database.rows("SELECT x, y FROM a") == [(1, 7)]
            assert await database.number("PRAGMA user_version") == 2


async def test_the_first_version_is_migrated_with_its_records(file: Path) -> None:
    """What the first version kept is read, filtered and saved as what it was: updates of their stacks."""
    id_ = "0123456789abcdef01234567"
    row = (id_, "a" * 24, STACK, 600_000, 1, 2, "in_progress", "preparing", 2, 2, None, None, None, "[]", "kind: Demo")
    async with open_sqlite(file, LIMIT, MIGRATIONS[:1]) as database:
        insert = f"INSERT INTO stack_updates VALUES ({', '.join('?' * len(row))}, NULL)"  # noqa: S608
        await database.write(lambda connection: connection.execute(insert, row).rowcount)

    async with open_backends(f"sqlite:///{file}") as backends:
        update = await backends.updates.get(StackUpdateId(id_))
        assert update
        assert (update.operation, update.revision, update.stack_fqdn) == (Operation.UPDATE, 2, STACK)
        assert await backends.updates.manifest(update.id) == "kind: Demo"
        where = StackUpdateFilter(operations=frozenset({Operation.UPDATE}), stack_fqdn=STACK)
        assert await backends.history.page(Slice(10), where) == [update]
        await backends.updates.save(failed(update), "{}")
        assert await backends.history.changed_since(update.updated_at, 10) == [failed(update)]


async def test_the_second_version_is_migrated_with_its_records(file: Path) -> None:
    """What the version before logs kept has no progress, no cancellation and no log, and can be cancelled."""
    id_ = StackUpdateId("0123456789abcdef01234567")
    record = (id_, "a" * 24, STACK, "update", 600_000, 1, 2, "in_progress", "preparing", 2, 2, None, None, None, "[]")
    row = (*record, "kind: Demo", "{}")
    async with open_sqlite(file, LIMIT, MIGRATIONS[:2]) as database:
        insert = f"INSERT INTO stack_updates VALUES ({', '.join('?' * len(row))})"  # noqa: S608
        await database.write(lambda connection: connection.execute(insert, row).rowcount)

    async with open_backends(f"sqlite:///{file}") as backends:
        update = await backends.updates.get(id_)
        assert update
        assert (update.progress, update.cancellation) == (NO_PROGRESS, None)
        assert (await backends.updates.manifest(id_), await backends.updates.output(id_)) == ("kind: Demo", "{}")
        assert await backends.events.span(id_) is None
        assert await backends.requests.open(10) == []
        cancelling = update.cancelling(update.updated_at, CANCELLATION)
        await backends.updates.save(cancelling)
        assert await backends.updates.get(id_) == cancelling
        assert await backends.history.page(Slice(10), StackUpdateFilter(stack_fqdn=STACK)) == [cancelling]


async def test_the_fourth_version_is_migrated_with_its_records(file: Path) -> None:
    """What the version before callers had names kept has none, keeps all else, and goes on."""
    id_ = StackUpdateId("0123456789abcdef01234567")
    record = (id_, "a" * 24, STACK, "update", 600_000, 1, 2, "in_progress", "cancelling", 3, 2, None, None, None, "[]")
    progress, cancellation = '{"counts": [], "total": 7}', '[5, "asked", "interrupted", null, true]'
    row = (*record, progress, cancellation, "kind: Demo", None)
    asked = ("f" * 24, id_, 5, '{"cancel": {"reason": "asked", "force": true}}')
    async with open_sqlite(file, LIMIT, MIGRATIONS[:4]) as database:
        insert = f"INSERT INTO stack_updates VALUES ({', '.join('?' * len(row))})"  # noqa: S608
        await database.write(lambda connection: connection.execute(insert, row).rowcount)
        ask = "INSERT INTO stack_update_requests VALUES (?, ?, ?, ?)"
        await database.write(lambda connection: connection.execute(ask, asked).rowcount)

    async with open_backends(f"sqlite:///{file}") as backends:
        update = await backends.updates.get(id_)
        assert update
        assert update.cancellation
        assert (update.requested_by, update.cancellation.requested_by) == (None, None)
        assert (update.progress.total, update.cancellation.lock_left) == (7, True)
        assert await backends.updates.manifest(id_) == "kind: Demo"
        [request] = await backends.requests.open(10)
        assert request.what == CancelRequest(CancellationReason.ASKED, force=True)
        ended = update.cancelled(update.updated_at)
        await backends.updates.save(ended, "{}")
        assert await backends.history.page(Slice(10), StackUpdateFilter(stack_fqdn=STACK)) == [ended]
        assert await backends.updates.output(id_) == "{}"


async def test_chunks_without_what_is_asked_for_are_not_read(database: Path, raw: sqlite3.Connection) -> None:
    """Whoever asks for a few kinds of a long log waits for those only: the rest is not even looked at."""
    first = a_chunk()
    status = following(first, StatusChanged(Status.IN_PROGRESS, Phase.RUNNING))
    async with open_backends(f"sqlite:///{database}") as backends:
        for chunk in (first, status, following(status)):
            await backends.events.append(chunk)
        raw.execute("UPDATE stack_update_events SET events = 'unreadable' WHERE number <> 2")

        page = await backends.events.read(first.update_id, 0, 10, frozenset({EventKind.STATUS_CHANGED}))

    assert page == LogPage(list(status.events), 3, has_more=False)


async def test_a_migration_that_breaks_off_leaves_the_older_version(file: Path) -> None:
    """A step is made as a whole or not at all: the database can be opened again as it was."""
    first, broken = ("CREATE TABLE a (x)",), ("CREATE TABLE b (y)", "CREATE TABLE a (x)")
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        async with open_sqlite(file, LIMIT, [first, broken]):
            pass

    async with open_sqlite(file, LIMIT, [first]) as database:
        assert await database.rows("SELECT name FROM sqlite_schema") == [("a",)]


async def test_two_that_open_a_new_database_at_once_both_can(file: Path) -> None:
    """Migrating is left to whoever is first."""

    async def insert() -> None:
        async with open_backends(f"sqlite:///{file}") as backends:
            await backends.resources.insert(a_cloud_resource())

    await asyncio.gather(*(insert() for _ in range(4)))

    async with open_backends(f"sqlite:///{file}") as backends:
        assert await backends.resources.count() == 4


async def test_a_newer_version_is_refused(raw: sqlite3.Connection, database: Path) -> None:
    """A database of a newer stackcast is not touched; the sentence says what to install."""
    raw.execute("PRAGMA user_version = 99")

    with pytest.raises(StoreRefused, match=r"version 99.*install the newer stackcast"):
        async with open_backends(f"sqlite:///{database}"):
            pass


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A database of another program, readable for all."""
    path = tmp_path / "theirs.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    path.chmod(0o644)
    return path


async def test_another_programs_database_is_refused(foreign: Path) -> None:
    """Nothing is added to a database that is not ours, and its mode stays."""
    before = content(foreign)

    with pytest.raises(StoreRefused, match="another program's: name another file"):
        async with open_backends(f"sqlite:///{foreign}"):
            pass

    assert content(foreign) == before
    assert modes(foreign.parent)["theirs.db"] == 0o644


@pytest.mark.parametrize("text", [b"hello\n", b"x" * 10_000])
async def test_a_text_file_is_refused(tmp_path: Path, text: bytes) -> None:
    """A file that is no database is refused with a sentence, and stays as it is."""
    file = tmp_path / "notes.txt"
    write(file, text)

    with pytest.raises(StoreRefused, match="no SQLite database; name another one in STACKCAST_DATABASE_URL"):
        async with open_backends(f"sqlite:///{file}"):
            pass

    assert content(file) == text


async def test_a_path_that_can_not_be_a_file_is_refused(tmp_path: Path) -> None:
    """A directory, and a path below a file, are refused with a sentence."""
    write(tmp_path / "file", b"")

    for path in (tmp_path, tmp_path / "file" / "stackcast.db"):
        with pytest.raises((StoreRefused, StoreUnavailable), match=r"STACKCAST_DATABASE_URL|can't be opened"):
            async with open_backends(f"sqlite:///{path}"):
                pass


async def test_a_damaged_database_is_refused(database: Path) -> None:
    """Pages that were overwritten are told to the operator, with the two ways out."""
    intact = content(database)
    write(database, intact[:4096] + b"\xff" * (len(intact) - 4096))

    with pytest.raises(StoreRefused, match="damaged; put a backup in its place"):
        async with open_backends(f"sqlite:///{database}") as backends:
            await backends.history.page(Slice(10))


async def test_a_locked_database_is_unavailable_within_the_limit(raw: sqlite3.Connection, database: Path) -> None:
    """While another program writes, a write is refused after the limit, reading goes on, and later all is well."""
    async with open_backends(f"sqlite:///{database}", SHORT) as backends:
        raw.execute("BEGIN IMMEDIATE")
        async with asyncio.timeout(5):
            waiting = [backends.resources.insert(a_cloud_resource()) for _ in range(50)]
            answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(answer) for answer in answers} == {StoreUnavailable}
        assert "try again" in str(answers[0])
        assert await backends.resources.count() == 1

        raw.execute("ROLLBACK")
        later = a_cloud_resource()
        await backends.resources.insert(later)
        assert await backends.resources.get(later.id) == later


async def test_a_short_page_does_not_wait_for_a_long_read(database: Path) -> None:
    """A few rows are read at once, whatever the reader has to do; many are read in their turn."""
    begun, over = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def read_for_long(_: sqlite3.Connection) -> None:
        loop.call_soon_threadsafe(begun.set)
        over.wait()

    async with open_sqlite(database, LIMIT) as opened, asyncio.TaskGroup() as tasks:
        history = SqliteHistory(opened)
        try:
            tasks.create_task(opened.read(read_for_long))
            await begun.wait()
            short = await history.page(Slice(FEW))
            long = tasks.create_task(history.page(Slice(FEW + 1)))
            await asyncio.sleep(0)
            assert not long.done()
        finally:
            over.set()

    assert len(short) == 1
    assert long.result() == short


async def test_what_a_row_says_is_found_out_once(database: Path) -> None:
    """Until it changes: then the record is the new one. What is long is not kept in memory."""
    async with open_sqlite(database, LIMIT) as opened:
        updates, update = SqliteUpdates(opened), a_stack_update()
        await updates.insert(update, MANIFEST)
        begun = update.started(update.created_at)
        long = begun.progressed(begun.updated_at, NO_PROGRESS, [StackOutput("long", "x" * REMEMBERED_LENGTH)])
        read = []
        for version in (update, begun, long):
            if version.revision > 1:
                await updates.save(version)
            read.append((await updates.get(update.id), await updates.get(update.id)))

    assert read == [(update, update), (begun, begun), (long, long)]
    assert [first is second for first, second in read] == [True, True, False]


async def test_a_full_disk_is_unavailable(database: Path) -> None:
    """When there is no room the call is refused with a sentence, and the record is as it was."""
    async with open_sqlite(database, LIMIT) as opened:
        updates, update = SqliteUpdates(opened), a_stack_update()
        await updates.insert(update, MANIFEST)
        pages = await opened.number("PRAGMA page_count")
        await opened.write(lambda connection: connection.execute(f"PRAGMA max_page_count = {pages}").fetchone())

        with pytest.raises(StoreUnavailable, match="the disk is full; free some space"):
            await updates.save(update.started(update.created_at), "x" * 1_000_000)

        assert await updates.get(update.id) == update
