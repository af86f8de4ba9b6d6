"""What is SQLite's own: the file, its versions, its plans and its errors."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from graphql_api.adapters import open_backends, sqlite_rows
from graphql_api.adapters.sqlite import SqliteUpdates, open_sqlite
from graphql_api.domain.errors import RevisionConflict, StoreRefused, StoreUnavailable
from graphql_api.domain.ports import Cursor, StackUpdateFilter
from graphql_api.domain.records import CloudResourceId, StackFqdn, Status, utc_now
from tests.builders import MANIFEST, a_cloud_resource, a_stack_update

LIMIT = timedelta(seconds=5)
SHORT = timedelta(milliseconds=200)
RESOURCE = CloudResourceId("0123456789abcdef01234567")


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


def plan(connection: sqlite3.Connection, query: sqlite_rows.Query) -> list[str]:
    sql, parameters = query
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)]


ALL_FILTERS = [
    StackUpdateFilter(cloud_resource_id, statuses)
    for cloud_resource_id in (None, RESOURCE)
    for statuses in (None, frozenset({Status.FAILED}), frozenset({Status.FAILED, Status.SUCCESS}), frozenset(Status))
]


@pytest.mark.parametrize("after", [None, Cursor(utc_now(), RESOURCE)], ids=["top", "deep"])
@pytest.mark.parametrize("where", ALL_FILTERS, ids=str)
def test_every_page_is_an_index_search(raw: sqlite3.Connection, where: StackUpdateFilter, after: Cursor | None) -> None:
    """A page costs the same at any depth: its place is found in an index that has the page's order."""
    steps = plan(raw, sqlite_rows.updates_page(10, after, where))

    searches = [step for step in steps if step.startswith("SEARCH stack_updates USING INDEX")]
    assert len(searches) == len(where.statuses or {None})
    assert all("created_at" in search for search in searches)
    assert not [step for step in steps if "SCAN" in step or "TEMP B-TREE" in step]


@pytest.mark.parametrize("after", [None, Cursor(utc_now(), RESOURCE)], ids=["top", "deep"])
def test_every_page_of_cloud_resources_is_an_index_search(raw: sqlite3.Connection, after: Cursor | None) -> None:
    """The same holds for cloud resources."""
    assert plan(raw, sqlite_rows.resources_page(10, after)) == [
        "SEARCH cloud_resources USING INDEX cloud_resources_by_age ((created_at,id)<(?,?))"
    ]


def test_the_queue_is_read_from_its_own_index(raw: sqlite3.Connection) -> None:
    """What has ended costs nothing when the next queued update is looked for."""
    steps = plan(raw, sqlite_rows.next_queued([StackFqdn("organization/demo/dev")]))

    assert "SCAN stack_updates USING INDEX stack_updates_queued" in steps
    assert not [step for step in steps if "TEMP B-TREE" in step]


@pytest.mark.parametrize("where", [filter_ for filter_ in ALL_FILTERS if filter_ != StackUpdateFilter()], ids=str)
def test_counting_reads_an_index_only(raw: sqlite3.Connection, where: StackUpdateFilter) -> None:
    """A count under a filter searches an index and never the records."""
    (step,) = plan(raw, sqlite_rows.updates_count(where))

    assert step.startswith("SEARCH stack_updates USING COVERING INDEX")


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
            await backends.updates.page(10)


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
