"""How SQLite finds what it is asked for, by its own account: no question grows dearer with the number of records."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from graphql_api.adapters import open_backends
from graphql_api.adapters.sqlite import events, history, resources, retention, updates
from graphql_api.adapters.sqlite.database import Query
from graphql_api.adapters.sqlite.pages import count_query, page_query
from graphql_api.adapters.sqlite.rows import RESOURCE_COLUMNS, UPDATE_COLUMNS
from graphql_api.domain.events import EventKind
from graphql_api.domain.ports import CloudResourceFilter, Cursor, Slice, StackUpdateFilter
from graphql_api.domain.records import CloudResourceId, Operation, StackFqdn, StackUpdateId, Status
from tests.builders import NOON, SECOND, STACK

RESOURCE = CloudResourceId("0123456789abcdef01234567")
PLACE = Cursor(NOON, RESOURCE)
SLICES = [
    Slice(10, after, before, from_end)
    for after, before, from_end in itertools.product((None, PLACE), (None, PLACE), (False, True))
]
FILTERS = [
    StackUpdateFilter(resource, statuses, operations, stack, *times)
    for resource, statuses, operations, stack, times in itertools.product(
        (None, RESOURCE),
        (None, frozenset({Status.FAILED}), frozenset({Status.FAILED, Status.SUCCESS}), frozenset(Status)),
        (None, frozenset({Operation.UPDATE})),
        (None, STACK),
        ((None, None), (NOON, NOON + SECOND)),
    )
]


@pytest.fixture
async def database(tmp_path: Path) -> Path:
    file = tmp_path / "stackcast.db"
    async with open_backends(f"sqlite:///{file}"):
        return file


@pytest.fixture
def raw(database: Path) -> Iterator[sqlite3.Connection]:
    """A connection of the test's own to an empty database."""
    with closing(sqlite3.connect(database)) as connection:
        yield connection


def plan(connection: sqlite3.Connection, query: Query) -> list[str]:
    sql, parameters = query
    steps = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)]
    return [step for step in steps if step not in ("LEFT", "RIGHT") and not step.startswith(("MERGE", "SCALAR"))]


def test_every_page_of_stack_updates_is_found_in_an_index(raw: sqlite3.Connection) -> None:
    """For every combination of filters, from either end, at any depth: one search of an index for each combination of
    a status and an operation, between two places of the list's order; nothing else is read, and nothing sorted.
    """
    for where, slice_ in itertools.product(FILTERS, SLICES):
        list_ = history.updates_list(where)

        steps = plan(raw, page_query(list_, UPDATE_COLUMNS, slice_))

        assert len(steps) == len(list_.searches), (where, steps)
        for step in steps:
            assert step.startswith("SEARCH stack_updates USING INDEX stack_updates_by_"), (where, steps)
            columns = "".join(f"{column}=? AND " for column in list_.searches[0])
            assert step.endswith(f" ({columns}(created_at,id)>(?,?) AND (created_at,id)<(?,?))"), (where, steps)


def test_a_single_value_of_each_filter_is_few_searches(raw: sqlite3.Connection) -> None:
    """A status and an operation together are one search; one of them alone is as many as the other has values."""
    one = StackUpdateFilter(RESOURCE, frozenset({Status.FAILED}), frozenset({Operation.UPDATE}), STACK)

    assert len(history.updates_list(one).searches) == 1
    assert len(history.updates_list(StackUpdateFilter(RESOURCE)).searches) == 1
    assert len(history.updates_list(StackUpdateFilter(stack_fqdn=STACK)).searches) == 1
    by_status = StackUpdateFilter(statuses=frozenset({Status.FAILED}))
    assert len(history.updates_list(by_status).searches) == len(Operation)


def test_every_count_of_stack_updates_reads_an_index_only(raw: sqlite3.Connection) -> None:
    """A count under a filter searches an index that has all it needs, and never the records."""
    for where in FILTERS:
        if where == StackUpdateFilter():
            continue
        steps = plan(raw, count_query(history.updates_list(where)))

        assert all(
            step.startswith("SEARCH stack_updates USING COVERING INDEX") for step in steps if "CONST" not in step
        )


def test_every_page_of_cloud_resources_is_found_in_an_index(raw: sqlite3.Connection) -> None:
    """The same holds for cloud resources, by kind and by name."""
    for kind, name, slice_ in itertools.product((None, "Demo"), (None, "demo"), SLICES):
        list_ = resources.resources_list(CloudResourceFilter(kind, name))

        (step,) = plan(raw, page_query(list_, RESOURCE_COLUMNS, slice_))

        if kind and name:  # of which there is one at most
            assert step == "SEARCH cloud_resources USING INDEX cloud_resources_by_name (kind=? AND name=?)"
        else:
            assert step.startswith("SEARCH cloud_resources USING INDEX cloud_resources_")
            assert step.endswith("(created_at,id)>(?,?) AND (created_at,id)<(?,?))")


def test_the_newest_update_of_each_cloud_resource_is_one_search(raw: sqlite3.Connection) -> None:
    """One question for all: a search for each newest id, and one for its record."""
    steps = plan(raw, history.latest_query([RESOURCE]))

    assert [step for step in steps if "CORRELATED" not in step] == [
        "SCAN wanted VIRTUAL TABLE INDEX 1:",
        "SEARCH stack_updates USING INDEX sqlite_autoindex_stack_updates_1 (id=?)",
        "SEARCH newest USING COVERING INDEX stack_updates_by_resource (cloud_resource_id=?)",
    ]


def test_changes_are_read_in_the_order_of_an_index(raw: sqlite3.Connection) -> None:
    """However many records there are, only the first of those that changed are read. Of cloud resources, the first
    that changed and the first that were deleted are sorted together.
    """
    assert plan(raw, history.changes_query(NOON, 10)) == [
        "SEARCH stack_updates USING INDEX stack_updates_by_change (updated_at>?)"
    ]
    of_resources = plan(raw, resources.changes_query(NOON, 10))
    assert [step for step in of_resources if step.startswith("SEARCH")] == [
        "SEARCH deleted_cloud_resources USING INDEX deleted_cloud_resources_by_time (deleted_at>?)",
        "SEARCH cloud_resources USING INDEX cloud_resources_by_change (updated_at>?)",
    ]
    assert all(step.startswith("SCAN (subquery") for step in of_resources if "SCAN" in step)


def test_the_queue_is_read_from_its_own_index(raw: sqlite3.Connection) -> None:
    """What has ended costs nothing when the next queued update is looked for."""
    steps = plan(raw, updates.next_query([StackFqdn("organization/demo/dev")]))

    assert "SCAN stack_updates USING INDEX stack_updates_queued" in steps
    assert not [step for step in steps if "TEMP B-TREE" in step]


def test_what_has_expired_is_found_in_an_index(raw: sqlite3.Connection) -> None:
    """From one cloud resource to the next is one search; of each only those that are kept for being among the newest,
    and those that have expired, are looked at.
    """
    to_the_next = plan(raw, retention.deployed_query(RESOURCE, 10))
    assert [step for step in to_the_next if "stack_updates" in step] == 2 * [
        "SEARCH stack_updates USING COVERING INDEX stack_updates_by_resource (cloud_resource_id>?)"
    ]
    assert plan(raw, retention.newest_query(RESOURCE, 20)) == [
        "SEARCH stack_updates USING INDEX stack_updates_by_resource (cloud_resource_id=?)"
    ]
    (step,) = plan(raw, retention.expired_query(RESOURCE, NOON, (0, RESOURCE), 10))
    assert step.startswith("SEARCH stack_updates USING INDEX stack_updates_by_resource (cloud_resource_id=? AND (cre")


def test_forgetting_searches_indexes(raw: sqlite3.Connection) -> None:
    """No step of it reads what belongs to other stack updates."""
    for statement in (*retention.BEGINNING, retention.STATUS):
        assert all(step.startswith("SEARCH") for step in plan(raw, (statement, (RESOURCE,)))), statement
    steps = plan(raw, (retention.FORGET_CHUNKS, (RESOURCE, 32)))
    assert all(step.startswith(("SEARCH", "LIST SUBQUERY")) for step in steps), steps


UPDATE = StackUpdateId(RESOURCE)


@pytest.mark.parametrize("kinds", [None, frozenset({EventKind.STATUS_CHANGED})])
def test_the_chunk_of_a_seq_is_found_in_an_index(raw: sqlite3.Connection, kinds: frozenset[EventKind] | None) -> None:
    """However long a log is, a read begins where it is to begin, in the order of the index, and nothing is sorted."""
    assert plan(raw, events.chunks_query(UPDATE, 7, 9, kinds)) == [
        "SEARCH stack_update_events USING INDEX stack_update_events_by_seq (update_id=? AND last_seq>? AND last_seq<?)"
    ]


def test_the_ends_of_a_log_are_found_in_an_index(raw: sqlite3.Connection) -> None:
    """Neither its span nor its last chunk costs more the longer it is."""
    steps = [*plan(raw, events.span_query(UPDATE)), *plan(raw, events.last_query(UPDATE))]

    assert [step for step in steps if "CONSTANT" not in step] == [
        "SEARCH stack_update_events USING INDEX stack_update_events_by_seq (update_id=?)",
        "SEARCH stack_update_events USING COVERING INDEX stack_update_events_by_seq (update_id=?)",
        "SEARCH stack_update_events USING INDEX sqlite_autoindex_stack_update_events_1 (update_id=?)",
    ]
