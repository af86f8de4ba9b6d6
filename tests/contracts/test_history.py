"""The contract of UpdateHistory, over every store."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta

import pytest

from graphql_api.domain.ports import Cursor, Slice, StackUpdateFilter, UpdateHistory, UpdateStore
from graphql_api.domain.records import CloudResourceId, Operation, StackFqdn, StackUpdate, Status
from tests.builders import (
    MANIFEST,
    MILLISECOND,
    NOON,
    SECOND,
    STACK,
    a_cloud_resource,
    a_stack_update,
    failed,
    kept,
    started,
    to_success,
)

RESOURCE, OTHER_RESOURCE = CloudResourceId("a" * 24), CloudResourceId("b" * 24)
OTHER_STACK = StackFqdn("organization/demo/DEV")


def place(update: StackUpdate) -> Cursor:
    return Cursor(update.created_at, update.id)


@pytest.fixture
async def many(updates: UpdateStore) -> list[StackUpdate]:
    """Of two cloud resources on two stacks in three statuses, three in each millisecond; newest first."""
    made = []
    for number in range(24):
        update = a_stack_update(
            created_at=NOON + number // 3 * MILLISECOND,
            cloud_resource_id=(RESOURCE, OTHER_RESOURCE)[number % 2],
            stack_fqdn=(STACK, OTHER_STACK)[number // 2 % 2],
        )
        revisions = ([update], [update, failed(update)], to_success(update))[number // 4 % 3]
        await kept(updates, *revisions)
        made.append(revisions[-1])
    return sorted(made, key=lambda update: (update.created_at, update.id), reverse=True)


def allows(where: StackUpdateFilter, update: StackUpdate) -> bool:
    return (
        where.cloud_resource_id in (None, update.cloud_resource_id)
        and where.stack_fqdn in (None, update.stack_fqdn)
        and (where.statuses is None or update.status in where.statuses)
        and (where.operations is None or update.operation in where.operations)
        and (where.created_after is None or update.created_at > where.created_after)
        and (where.created_before is None or update.created_at < where.created_before)
    )


COMBINATIONS = [
    StackUpdateFilter(resource, statuses, operations, stack, *times)
    for resource, statuses, operations, stack, times in itertools.product(
        (None, RESOURCE),
        (None, frozenset({Status.FAILED}), frozenset({Status.IN_PROGRESS, Status.SUCCESS})),
        (None, frozenset({Operation.UPDATE})),
        (None, STACK),
        ((None, None), (NOON + MILLISECOND, NOON + 6 * MILLISECOND)),
    )
]
SOME = [
    StackUpdateFilter(),
    StackUpdateFilter(cloud_resource_id=RESOURCE),
    StackUpdateFilter(statuses=frozenset({Status.FAILED})),
    StackUpdateFilter(statuses=frozenset(Status)),
    StackUpdateFilter(statuses=frozenset({Status.CANCELLED})),
    StackUpdateFilter(RESOURCE, frozenset({Status.IN_PROGRESS, Status.SUCCESS}), None, STACK),
    StackUpdateFilter(stack_fqdn=STACK, created_before=NOON + 6 * MILLISECOND),
]


def another(where: StackUpdateFilter, offset: timedelta) -> StackUpdate:
    """A newly queued update that the filter allows unless it is restricted in time."""
    resource, stack = where.cloud_resource_id or RESOURCE, where.stack_fqdn or STACK
    return a_stack_update(created_at=NOON + offset, cloud_resource_id=resource, stack_fqdn=stack)


@pytest.mark.parametrize("where", SOME, ids=str)
@pytest.mark.parametrize("limit", [1, 5, 100])
async def test_walking_forwards_shows_every_update_once(
    updates: UpdateStore, history: UpdateHistory, many: list[StackUpdate], where: StackUpdateFilter, limit: int
) -> None:
    """Newest first, ties by id, while newer ones are added that the filter allows."""
    walked: list[StackUpdate] = []
    after = None

    while page := await history.page(Slice(limit, after=after), where):
        assert len(page) <= limit
        walked.extend(page)
        after = place(page[-1])
        await updates.insert(another(where, timedelta(hours=1)), MANIFEST)

    assert walked == [update for update in many if allows(where, update)]


@pytest.mark.parametrize("where", SOME, ids=str)
@pytest.mark.parametrize("limit", [1, 5, 100])
async def test_walking_backwards_shows_every_update_once(
    updates: UpdateStore, history: UpdateHistory, many: list[StackUpdate], where: StackUpdateFilter, limit: int
) -> None:
    """From the oldest on, each page in the list's order, while older ones are added that the filter allows."""
    walked: list[StackUpdate] = []
    before = None

    while page := await history.page(Slice(limit, before=before, from_end=True), where):
        assert len(page) <= limit
        walked[:0] = page
        before = place(page[0])
        await updates.insert(another(where, -timedelta(hours=1)), MANIFEST)

    assert walked == [update for update in many if allows(where, update)]


async def test_every_combination_of_filters(history: UpdateHistory, many: list[StackUpdate]) -> None:
    """The first page, one from within, the last page and the count are those that all the filters allow."""
    for where in COMBINATIONS:
        allowed = [update for update in many if allows(where, update)]

        assert await history.count(where) == len(allowed), where
        assert await history.page(Slice(100), where) == allowed, where
        assert await history.page(Slice(3, from_end=True), where) == allowed[-3:], where
        within = Slice(3, after=place(many[3]), before=place(many[20]))
        assert await history.page(within, where) == [one for one in many[4:20] if allows(where, one)][:3], where


async def test_a_slice_between_two_cursors(history: UpdateHistory, many: list[StackUpdate]) -> None:
    """Both cursors are excluded, and the slice is read from the end that was asked for."""
    after, before = place(many[2]), place(many[9])

    assert await history.page(Slice(100, after, before)) == many[3:9]
    assert await history.page(Slice(2, after, before)) == many[3:5]
    assert await history.page(Slice(2, after, before, from_end=True)) == many[7:9]
    assert await history.page(Slice(2, before, after)) == []


@pytest.mark.parametrize(
    "none", [StackUpdateFilter(statuses=frozenset()), StackUpdateFilter(operations=frozenset())], ids=str
)
async def test_an_empty_set_allows_no_update(
    history: UpdateHistory, many: list[StackUpdate], none: StackUpdateFilter
) -> None:
    """Unlike None, which does not restrict."""
    assert await history.page(Slice(10), none) == []
    assert await history.count(none) == 0
    assert await history.count() == len(many)


async def test_a_cursor_need_not_be_of_a_record(history: UpdateHistory, many: list[StackUpdate]) -> None:
    """A place in the list stays one, whatever is or was there."""
    between = Cursor(many[12].created_at, "f" * 24)
    older = [update for update in many if update.created_at <= between.created_at]

    assert await history.page(Slice(100, after=between)) == older
    assert await history.page(Slice(100, before=between)) == many[: -len(older)]
    assert await history.page(Slice(100, after=Cursor(NOON - SECOND, "f" * 24))) == []


async def test_times_of_a_filter_exclude_the_moment_itself(history: UpdateHistory, many: list[StackUpdate]) -> None:
    """Also when they are finer than what is stored."""
    half = timedelta(microseconds=500)
    cases = [
        (StackUpdateFilter(created_after=NOON), {1, 2, 3, 4, 5, 6, 7}),
        (StackUpdateFilter(created_after=NOON - half), {0, 1, 2, 3, 4, 5, 6, 7}),
        (StackUpdateFilter(created_after=NOON + half), {1, 2, 3, 4, 5, 6, 7}),
        (StackUpdateFilter(created_before=NOON + MILLISECOND), {0}),
        (StackUpdateFilter(created_before=NOON + MILLISECOND + half), {0, 1}),
        (StackUpdateFilter(created_before=NOON + MILLISECOND - half), {0}),
        (StackUpdateFilter(created_after=NOON, created_before=NOON + MILLISECOND), set()),
    ]
    for where, times in cases:
        expected = [update for update in many if (update.created_at - NOON) // MILLISECOND in times]
        assert await history.page(Slice(100), where) == expected, where
        assert await history.count(where) == len(expected), where


async def test_the_newest_update_of_each_cloud_resource(history: UpdateHistory, many: list[StackUpdate]) -> None:
    """Ties go by id; what has none, or is unknown, is not in the answer, and asking twice for one is asking once."""
    newest = {id_: next(one for one in many if one.cloud_resource_id == id_) for id_ in (RESOURCE, OTHER_RESOURCE)}

    unknown = CloudResourceId("unknown")
    assert await history.latest([RESOURCE, OTHER_RESOURCE, RESOURCE, a_cloud_resource().id, unknown]) == newest
    assert await history.latest([RESOURCE]) == {RESOURCE: newest[RESOURCE]}
    assert await history.latest([]) == {}


async def test_the_newest_updates_of_a_hundred_cloud_resources(updates: UpdateStore, history: UpdateHistory) -> None:
    """As many as a page may hold."""
    newest = {}
    for number in range(100):
        id_ = CloudResourceId(f"{number:024x}")
        for offset in range(2):
            newest[id_] = a_stack_update(cloud_resource_id=id_, created_at=NOON + offset * MILLISECOND)
            await updates.insert(newest[id_], MANIFEST)

    assert await history.latest(newest) == newest


async def test_what_changed_comes_by_the_time_of_its_change(updates: UpdateStore, history: UpdateHistory) -> None:
    """At or after the moment, each as it is now, ties by id."""
    first, second, third = (a_stack_update(created_at=NOON + number * MILLISECOND) for number in range(3))
    twin = replace(a_stack_update(created_at=NOON), created_at=third.created_at, updated_at=third.updated_at)
    await kept(updates, third)
    await kept(updates, twin)
    await kept(updates, second)
    await kept(updates, first, started(first))

    changes = [second, third, twin, started(first)]
    assert await history.changed_since(NOON, 10) == changes
    assert await history.changed_since(NOON, 2) == changes[:2]
    assert await history.changed_since(third.updated_at, 10) == changes[1:]
    assert await history.changed_since(third.updated_at + MILLISECOND, 10) == changes[3:]
    assert await history.changed_since(NOON + 2 * SECOND, 10) == []
