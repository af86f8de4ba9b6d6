"""The contract of ResourceStore, over every store."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from graphql_api.domain.errors import CloudResourceExists, CloudResourceNotFound, RevisionConflict
from graphql_api.domain.ports import ResourceStore, Slice
from graphql_api.domain.records import CloudResource, CloudResourceId
from tests.builders import NOON, a_cloud_resource


async def test_a_cloud_resource_comes_back_as_it_went_in(resources: ResourceStore) -> None:
    """What was inserted is found by its id and by its kind and name, to the last millisecond and character."""
    resource = a_cloud_resource(kind="Ünïcode", name="名前", manifest="a: 'ß\t€ 🙂'\r\n", created_at=NOON)

    await resources.insert(resource)

    assert await resources.get(resource.id) == resource
    assert await resources.find("Ünïcode", "名前") == resource


@pytest.mark.parametrize("id_", ["0123456789abcdef01234567", "", "unknown", "é" * 24])
async def test_an_unknown_cloud_resource_is_none(resources: ResourceStore, id_: str) -> None:
    """Asking for what is not there answers None, also when it can't be an id."""
    assert await resources.get(CloudResourceId(id_)) is None
    assert await resources.find("Demo", id_) is None


async def test_names_and_kinds_are_told_apart_to_the_letter(resources: ResourceStore) -> None:
    """Another kind, another name and another spelling are other cloud resources."""
    for kind, name in (("Demo", "a"), ("Demo", "A"), ("demo", "a"), ("Demo", "a "), ("a", "Demo")):
        await resources.insert(a_cloud_resource(kind=kind, name=name))

    assert await resources.count() == 5
    assert (await found(resources, "demo", "a")).kind == "demo"


async def test_inserting_a_cloud_resource_again_does_nothing(resources: ResourceStore) -> None:
    """The same insert may be made again, also when the record has changed since."""
    resource = a_cloud_resource()
    changed = replace(resource, manifest="kind: Demo")
    await resources.insert(resource)
    await resources.insert(resource)
    await resources.replace(changed)

    await resources.insert(resource)

    assert await resources.get(resource.id) == changed
    assert await resources.count() == 1


async def test_a_taken_kind_and_name_is_refused_with_the_one_that_has_it(resources: ResourceStore) -> None:
    """(kind, name) is unique, and the refusal shows who has it."""
    first = a_cloud_resource(name="twice")
    await resources.insert(first)

    with pytest.raises(CloudResourceExists) as refusal:
        await resources.insert(a_cloud_resource(name="twice"))

    assert refusal.value.cloud_resource == first
    assert await resources.count() == 1


async def test_an_id_of_another_cloud_resource_is_never_taken_over(resources: ResourceStore) -> None:
    """An insert under a used id with another name changes nothing and says so."""
    first = a_cloud_resource(name="first")
    await resources.insert(first)

    with pytest.raises(RevisionConflict, match=first.id):
        await resources.insert(replace(first, name="second"))

    assert await resources.page(Slice(10)) == [first]


async def test_of_concurrent_inserts_of_one_name_one_wins(resources: ResourceStore) -> None:
    """Of twenty creations under one kind and name at once, one is kept and nineteen are told which."""
    rivals = [a_cloud_resource(name="wanted") for _ in range(20)]

    answers = await asyncio.gather(*map(resources.insert, rivals), return_exceptions=True)

    kept = await found(resources, "Demo", "wanted")
    refusals = [answer for answer in answers if isinstance(answer, CloudResourceExists)]
    assert len(refusals) == 19
    assert {refusal.cloud_resource.id for refusal in refusals} == {kept.id}


async def test_a_replaced_cloud_resource_is_the_new_one(resources: ResourceStore) -> None:
    """A replacement takes the whole place of the record, and may be made again."""
    resource = a_cloud_resource(created_at=NOON)
    changed = replace(resource, manifest="kind: Demo", updated_at=NOON + timedelta(milliseconds=1))
    await resources.insert(resource)

    await resources.replace(changed)
    await resources.replace(changed)

    assert await resources.get(resource.id) == changed


async def test_replacing_an_unknown_cloud_resource_is_refused(resources: ResourceStore) -> None:
    """A replacement never adds a record, whether or not its kind and name are taken."""
    kept = a_cloud_resource()
    await resources.insert(kept)

    for unknown in (a_cloud_resource(), a_cloud_resource(name=kept.name)):
        with pytest.raises(CloudResourceNotFound, match=unknown.id):
            await resources.replace(unknown)

    assert await resources.page(Slice(10)) == [kept]


async def test_a_replacement_takes_no_name_of_another(resources: ResourceStore) -> None:
    """(kind, name) stays unique when a record changes: the one that has it is shown, and nothing has changed."""
    first, second = a_cloud_resource(name="first"), a_cloud_resource(name="second")
    await resources.insert(first)
    await resources.insert(second)

    with pytest.raises(CloudResourceExists) as refusal:
        await resources.replace(replace(second, name="first"))

    assert refusal.value.cloud_resource == first
    assert await resources.get(second.id) == second


async def found(resources: ResourceStore, kind: str, name: str) -> CloudResource:
    resource = await resources.find(kind, name)
    assert resource
    return resource
