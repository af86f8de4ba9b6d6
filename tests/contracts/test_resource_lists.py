"""The contract of ResourceStore's lists and of its deletions, over every store."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from graphql_api.domain.ports import CloudResourceFilter, Cursor, DeletedResource, ResourceStore, Slice
from graphql_api.domain.records import CloudResource, CloudResourceId
from tests.builders import MILLISECOND, NOON, SECOND, a_cloud_resource

DAY = timedelta(days=1)


def place(resource: CloudResource) -> Cursor:
    return Cursor(resource.created_at, resource.id)


def newest_first(resources: list[CloudResource]) -> list[CloudResource]:
    return sorted(resources, key=lambda resource: (resource.created_at, resource.id), reverse=True)


@pytest.fixture
async def thirteen(resources: ResourceStore) -> list[CloudResource]:
    """Of two kinds, each name in both, four in each millisecond; newest first."""
    kept = [
        a_cloud_resource(
            kind=("Demo", "Other")[number % 2],
            name=f"demo-{number // 2}",
            created_at=NOON + number // 4 * MILLISECOND,
        )
        for number in range(13)
    ]
    for resource in kept:
        await resources.insert(resource)
    return newest_first(kept)


FILTERS = [
    CloudResourceFilter(),
    CloudResourceFilter(kind="Demo"),
    CloudResourceFilter(name="demo-2"),
    CloudResourceFilter(kind="Other", name="demo-2"),
    CloudResourceFilter(kind="demo"),
    CloudResourceFilter(kind=""),
]


def allowed(resources: list[CloudResource], where: CloudResourceFilter) -> list[CloudResource]:
    return [one for one in resources if where.kind in (None, one.kind) and where.name in (None, one.name)]


@pytest.mark.parametrize("where", FILTERS, ids=str)
@pytest.mark.parametrize("limit", [1, 3, 100])
async def test_walking_forwards_shows_every_record_once(
    resources: ResourceStore, thirteen: list[CloudResource], where: CloudResourceFilter, limit: int
) -> None:
    """Newest first, those of one millisecond by their ids, whatever is added in front meanwhile."""
    walked: list[CloudResource] = []
    after = None
    assert await resources.count(where) == len(allowed(thirteen, where))

    while page := await resources.page(Slice(limit, after=after), where):
        assert len(page) <= limit
        walked.extend(page)
        after = place(page[-1])
        await resources.insert(a_cloud_resource(kind=where.kind or "Demo", created_at=NOON + SECOND))

    assert walked == allowed(thirteen, where)


@pytest.mark.parametrize("where", FILTERS, ids=str)
@pytest.mark.parametrize("limit", [1, 3, 100])
async def test_walking_backwards_shows_every_record_once(
    resources: ResourceStore, thirteen: list[CloudResource], where: CloudResourceFilter, limit: int
) -> None:
    """From the oldest on; each page comes in the list's order."""
    walked: list[CloudResource] = []
    before = None

    while page := await resources.page(Slice(limit, before=before, from_end=True), where):
        assert len(page) <= limit
        walked[:0] = page
        before = place(page[0])
        await resources.insert(a_cloud_resource(kind=where.kind or "Demo", created_at=NOON - SECOND))

    assert walked == allowed(thirteen, where)


async def test_a_slice_between_two_cursors(resources: ResourceStore, thirteen: list[CloudResource]) -> None:
    """Both cursors are excluded, and the slice is read from the end that was asked for."""
    after, before = place(thirteen[2]), place(thirteen[9])

    assert await resources.page(Slice(100, after, before)) == thirteen[3:9]
    assert await resources.page(Slice(2, after, before)) == thirteen[3:5]
    assert await resources.page(Slice(2, after, before, from_end=True)) == thirteen[7:9]
    assert await resources.page(Slice(2, before, after)) == []


async def test_a_deleted_cloud_resource_is_gone(resources: ResourceStore, thirteen: list[CloudResource]) -> None:
    """Neither its id nor its name nor a list finds it; the others stay."""
    gone = thirteen[5]

    assert await resources.delete(gone.id, NOON)

    assert await resources.get(gone.id) is None
    assert await resources.find(gone.kind, gone.name) is None
    assert await resources.page(Slice(100)) == [*thirteen[:5], *thirteen[6:]]
    assert await resources.count() == 12


@pytest.mark.parametrize("id_", ["0123456789abcdef01234567", "", "unknown"])
async def test_deleting_what_is_not_there(resources: ResourceStore, id_: str) -> None:
    """It is told apart from a deletion, and nothing is remembered of it."""
    assert not await resources.delete(CloudResourceId(id_), NOON)

    assert await resources.changed_since(NOON - DAY, 10) == []


async def test_deleting_again_is_deleting_nothing(resources: ResourceStore) -> None:
    """The second of two deletions finds nothing, and the first one's time stays."""
    resource = a_cloud_resource(created_at=NOON)
    await resources.insert(resource)

    assert await resources.delete(resource.id, NOON + SECOND)
    assert not await resources.delete(resource.id, NOON + 2 * SECOND)

    assert await resources.changed_since(NOON, 10) == [DeletedResource(resource, NOON + SECOND)]


async def test_of_concurrent_deletions_one_at_least_is_told_so(resources: ResourceStore) -> None:
    """Ten at once leave nothing behind, and at least one knows that it deleted."""
    resource = a_cloud_resource(created_at=NOON)
    await resources.insert(resource)

    answers = await asyncio.gather(*(resources.delete(resource.id, NOON + SECOND) for _ in range(10)))

    assert any(answers)
    assert await resources.get(resource.id) is None
    assert await resources.changed_since(NOON, 10) == [DeletedResource(resource, NOON + SECOND)]


async def test_the_name_of_a_deleted_cloud_resource_is_free(resources: ResourceStore) -> None:
    """Another may have its kind and name, also as an existing one's new name."""
    first, second = a_cloud_resource(name="first"), a_cloud_resource(name="second")
    for resource in (first, second):
        await resources.insert(resource)
        await resources.delete(resource.id, NOON)

    again = a_cloud_resource(name="first")
    await resources.insert(again)
    await resources.replace(replace(again, name="second"))

    assert await resources.find("Demo", "first") is None
    assert await resources.find("Demo", "second") == replace(again, name="second")


async def test_changes_come_in_the_order_in_which_they_happened(resources: ResourceStore) -> None:
    """Creations, replacements and deletions, each once, as it is now or was last."""
    created, replaced, deleted = (a_cloud_resource(created_at=NOON + number * SECOND) for number in range(3))
    for resource in (created, replaced, deleted):
        await resources.insert(resource)
    await resources.delete(deleted.id, NOON + 5 * SECOND)
    newer = replace(replaced, manifest="kind: Demo", updated_at=NOON + 6 * SECOND)
    await resources.replace(newer)

    everything = [created, DeletedResource(deleted, NOON + 5 * SECOND), newer]
    assert await resources.changed_since(NOON, 10) == everything
    assert await resources.changed_since(NOON, 2) == everything[:2]
    assert await resources.changed_since(NOON + 5 * SECOND, 10) == everything[1:]
    assert await resources.changed_since(NOON + 5 * SECOND + MILLISECOND, 10) == everything[2:]
    assert await resources.changed_since(NOON + 7 * SECOND, 10) == []


async def test_a_deletion_comes_before_who_took_the_name(resources: ResourceStore) -> None:
    """Within one millisecond the deletion is first: the other order can't have happened."""
    first = a_cloud_resource(name="same", created_at=NOON)
    second = replace(a_cloud_resource(created_at=NOON), name="same", created_at=NOON + SECOND, updated_at=NOON + SECOND)
    await resources.insert(first)
    await resources.delete(first.id, NOON + SECOND)
    await resources.insert(second)

    assert await resources.changed_since(NOON, 10) == [DeletedResource(first, NOON + SECOND), second]


async def test_a_deletion_is_never_before_the_last_change(resources: ResourceStore) -> None:
    """When the clock was set back, the deletion still comes after what it ended."""
    resource = a_cloud_resource(created_at=NOON)
    await resources.insert(resource)

    await resources.delete(resource.id, NOON - SECOND)

    assert await resources.changed_since(NOON - DAY, 10) == [DeletedResource(resource, NOON)]


async def test_walking_the_changes_shows_them_all(resources: ResourceStore) -> None:
    """Asking again from the last one's moment loses nothing, when many have one moment too."""
    kept = [a_cloud_resource(created_at=NOON + number // 3 * MILLISECOND) for number in range(12)]
    for resource in kept:
        await resources.insert(resource)
    for resource in kept[::2]:
        await resources.delete(resource.id, resource.updated_at + SECOND)

    seen: dict[str, CloudResource | DeletedResource] = {}
    moment = NOON
    while len(changes := await resources.changed_since(moment, 4)) == 4:
        seen.update({str(change): change for change in changes})
        last = changes[-1]
        moment = last.deleted_at if isinstance(last, DeletedResource) else last.updated_at
    seen.update({str(change): change for change in changes})

    deleted = [DeletedResource(resource, resource.updated_at + SECOND) for resource in kept[::2]]
    assert list(seen.values()) == [*kept[1::2], *deleted]


async def test_deletions_are_forgotten_after_a_day(resources: ResourceStore) -> None:
    """Whenever one is added, those that are older than a day go."""
    old, recent, last = (a_cloud_resource(created_at=NOON) for _ in range(3))
    for resource, moment in ((old, NOON), (recent, NOON + SECOND), (last, NOON + DAY + MILLISECOND)):
        await resources.insert(resource)
        await resources.delete(resource.id, moment)

    assert await resources.changed_since(NOON - DAY, 10) == [
        DeletedResource(recent, NOON + SECOND),
        DeletedResource(last, NOON + DAY + MILLISECOND),
    ]
