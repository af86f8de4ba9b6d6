"""Keeping manifests through the API."""

from __future__ import annotations

import asyncio

import pytest

from graphql_api.domain.errors import CloudResourceNotFound
from graphql_api.domain.ports import Slice
from tests.api.parts import parts
from tests.service import APPLY, DEPLOY, Service, manifest

CREATE = """
mutation ($manifest: String!) {
  createCloudResource(input: {manifest: $manifest}) {
    __typename
    ... on CreateCloudResourceSuccess { cloudResource { id } }
    ... on CloudResourceExists { message code path cloudResource { id } }
  }
}"""
ONE = """
query ($id: ID!) {
  cloudResource(id: $id) {
    name kind manifest stackFqdn createdAt
    labels { name value }
    problems { message line column }
  }
}"""
UPDATE = """
mutation ($id: ID!, $manifest: String!) {
  updateCloudResource(input: {id: $id, manifest: $manifest}) {
    __typename
    ... on UpdateCloudResourceSuccess { cloudResource { id manifest createdAt updatedAt } }
    ... on CloudResourceIdentityChanged { givenKind givenName cloudResource { kind name manifest } }
    ... on UserError { message code path }
  }
}"""
DELETE = """
mutation ($id: ID!) {
  deleteCloudResource(input: {id: $id}) {
    __typename
    ... on DeleteCloudResourceSuccess { remainingStackUpdates cloudResource { id name manifest } }
    ... on CloudResourceBusy { stackUpdate { id status } }
    ... on UserError { message code path }
  }
}"""
UPDATES = "{ stackUpdates { nodes { id cloudResourceId cloudResource { id } actions { canDeployAgain } } } }"
LIST = """
query ($first: Int, $after: String) {
  cloudResources(first: $first, after: $after) {
    totalCount
    nodes { name }
    edges { cursor node { name } }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
  }
}"""


async def test_a_created_manifest_is_kept_as_it_was_given(service: Service) -> None:
    """What was created can be read again, letter for letter, with what its labels say."""
    text = manifest(name="kept") + "# a comment\n"
    created = await service.execute(CREATE, manifest=text)

    kept = (await service.execute(ONE, id=created["createCloudResource"]["cloudResource"]["id"]))["cloudResource"]

    assert kept["manifest"] == text
    assert kept["stackFqdn"] == "organization/tests/kept"
    assert kept["labels"] == [{"name": "pulumi.project-planton.org/stack.fqdn", "value": "organization/tests/kept"}]
    assert kept["problems"] == []
    assert kept["createdAt"].endswith("Z")


async def test_creating_the_same_kind_and_name_again_is_refused(service: Service) -> None:
    """A second create of one kind and name answers with the one that is kept; another kind of the name is new."""
    first = await service.execute(CREATE, manifest=manifest("Bucket", "data"))
    again = await service.execute(CREATE, manifest=manifest("Bucket", "data"))
    other = await service.execute(CREATE, manifest=manifest("Topic", "data"))

    refusal = again["createCloudResource"]
    assert refusal["__typename"] == "CloudResourceExists"
    assert refusal["code"] == "CLOUD_RESOURCE_EXISTS"
    assert refusal["cloudResource"] == first["createCloudResource"]["cloudResource"]
    assert other["createCloudResource"]["__typename"] == "CreateCloudResourceSuccess"


async def test_apply_creates_then_updates_then_changes_nothing(service: Service) -> None:
    """Applying keeps one record for a kind and name, and says whether it is new."""
    answers = [
        (await service.execute(APPLY, manifest=text))["applyCloudResource"]
        for text in (manifest(spec="{a: 1}"), manifest(spec="{a: 2}"), manifest(spec="{a: 2}"))
    ]

    assert [answer["created"] for answer in answers] == [True, False, False]
    assert len({answer["cloudResource"]["id"] for answer in answers}) == 1
    assert answers[-1]["cloudResource"]["manifest"] == manifest(spec="{a: 2}")


async def test_a_manifest_without_stack_labels_is_kept_and_says_what_it_lacks(service: Service) -> None:
    """A manifest can be kept before it can be deployed; its problems name the label lines to write."""
    id_ = await service.apply("kind: Thing\nmetadata:\n  name: later\n")

    kept = (await service.execute(ONE, id=id_))["cloudResource"]

    assert kept["stackFqdn"] is None
    assert 'pulumi.project-planton.org/stack.fqdn: "' in kept["problems"][0]["message"]
    assert kept["problems"][0]["line"] == 3


async def test_an_unknown_id_is_null(service: Service) -> None:
    """Asking for what is not there is no error."""
    assert (await service.execute(ONE, id="0" * 24))["cloudResource"] is None


@pytest.mark.parametrize("id_", ["", "x" * 24, "0" * 23, "0" * 25, "A" * 24, "\u0000", "0" * 24 + "\n", "../etc"])
async def test_a_malformed_id_is_an_error_with_a_code(service: Service, id_: str) -> None:
    """A malformed id says what an id looks like, under BAD_USER_INPUT."""
    answer = await service.post({"query": ONE, "variables": {"id": id_}})

    assert [(error["code"], error["argument"]) for error in answer.errors] == [("BAD_USER_INPUT", "id")]
    assert "24 hex digits" in answer.errors[0]["message"]


async def test_pages_follow_each_other_newest_first_while_more_are_added(service: Service) -> None:
    """Following endCursor gives every record once, in order, whatever is added in front meanwhile."""
    for number in range(5):
        await service.apply(manifest(name=f"n{number}"))
    page = (await service.execute(LIST, first=2))["cloudResources"]
    names = [node["name"] for node in page["nodes"]]
    assert page["pageInfo"]["hasPreviousPage"] is False
    assert page["totalCount"] == 5
    while page["pageInfo"]["hasNextPage"]:
        await service.apply(manifest(name=f"new-{len(names)}"))
        page = (await service.execute(LIST, first=2, after=page["pageInfo"]["endCursor"]))["cloudResources"]
        names += [node["name"] for node in page["nodes"]]
        assert page["pageInfo"]["hasPreviousPage"] is True
        assert page["edges"][-1]["cursor"] == page["pageInfo"]["endCursor"]

    assert names == ["n4", "n3", "n2", "n1", "n0"]


@pytest.mark.parametrize("first", [0, -1, 101, -(2**31), 2**31 - 1])
async def test_a_page_size_out_of_range_is_an_error_with_a_code(service: Service, first: int) -> None:
    """first has to be from 1 to 100."""
    answer = await service.post({"query": LIST, "variables": {"first": first}})

    assert [(error["code"], error["argument"]) for error in answer.errors] == [("BAD_USER_INPUT", "first")]
    assert "from 1 to 100" in answer.errors[0]["message"]


@pytest.mark.parametrize("cursor", ["", "x", "====", "MTIz", "é", "\ud800", "OTk5OTk5OTk5OTk5OTk5OTk5OTk6YQ=="])
async def test_a_bad_cursor_is_an_error_with_a_code(service: Service, cursor: str) -> None:
    """Only cursors that the API gave out are taken."""
    answer = await service.post({"query": LIST, "variables": {"after": cursor}})

    assert [(error["code"], error["argument"]) for error in answer.errors] == [("BAD_USER_INPUT", "after")]


async def test_an_update_replaces_the_manifest(service: Service) -> None:
    """The cloud resource keeps its id and age, and its time of change grows; the same text again changes nothing."""
    id_ = await service.apply(manifest())
    text = manifest(spec="{a: 1}")

    changed = (await service.execute(UPDATE, id=id_, manifest=text))["updateCloudResource"]
    again = (await service.execute(UPDATE, id=id_, manifest=text))["updateCloudResource"]

    assert changed["__typename"] == "UpdateCloudResourceSuccess"
    assert (changed["cloudResource"]["id"], changed["cloudResource"]["manifest"]) == (id_, text)
    assert changed["cloudResource"]["updatedAt"] > changed["cloudResource"]["createdAt"]
    assert again == changed


@pytest.mark.parametrize(("kind", "name"), [("Thing", "two"), ("Other", "one"), ("thing", "one")])
async def test_an_update_may_not_change_kind_or_name(service: Service, kind: str, name: str) -> None:
    """CloudResourceIdentityChanged names both identities, and nothing is changed."""
    id_ = await service.apply(manifest())

    answer = (await service.execute(UPDATE, id=id_, manifest=manifest(kind, name)))["updateCloudResource"]

    assert (answer["__typename"], answer["code"], answer["path"]) == (
        "CloudResourceIdentityChanged",
        "CLOUD_RESOURCE_IDENTITY_CHANGED",
        ["manifest"],
    )
    assert (answer["givenKind"], answer["givenName"]) == (kind, name)
    assert answer["cloudResource"] == {"kind": "Thing", "name": "one", "manifest": manifest()}
    assert all(f"of kind {it[0]} and named {it[1]}" in answer["message"] for it in [("Thing", "one"), (kind, name)])


async def test_an_update_that_can_not_be_made_says_why(service: Service) -> None:
    """An unknown id and a bad manifest are typed answers, a malformed id is an error."""
    id_ = await service.apply(manifest())

    unknown = (await service.execute(UPDATE, id="0" * 24, manifest=manifest()))["updateCloudResource"]
    bad = (await service.execute(UPDATE, id=id_, manifest="- a"))["updateCloudResource"]
    malformed = await service.post({"query": UPDATE, "variables": {"id": "x", "manifest": manifest()}})

    assert (unknown["code"], unknown["path"]) == ("CLOUD_RESOURCE_NOT_FOUND", ["id"])
    assert (bad["code"], bad["path"]) == ("INVALID_MANIFEST", ["manifest"])
    assert [(error["code"], error["argument"]) for error in malformed.errors] == [("BAD_USER_INPUT", "id")]


async def test_a_deleted_cloud_resource_leaves_its_stack_updates(service: Service) -> None:
    """The record goes, its name is free, and its history stays, with nothing to deploy again."""
    service.module("Thing")
    update = await service.deploy(manifest())
    await service.outcome(update)
    id_ = await service.apply(manifest())
    [before] = (await service.execute(UPDATES))["stackUpdates"]["nodes"]

    deleted = (await service.execute(DELETE, id=id_))["deleteCloudResource"]
    [after] = (await service.execute(UPDATES))["stackUpdates"]["nodes"]

    assert deleted == {
        "__typename": "DeleteCloudResourceSuccess",
        "remainingStackUpdates": 1,
        "cloudResource": {"id": id_, "name": "one", "manifest": manifest()},
    }
    assert before == {
        "id": update,
        "cloudResourceId": id_,
        "cloudResource": {"id": id_},
        "actions": {"canDeployAgain": True},
    }
    assert after == {**before, "cloudResource": None, "actions": {"canDeployAgain": False}}
    assert (await service.execute(ONE, id=id_))["cloudResource"] is None
    assert (await service.execute(DELETE, id=id_))["deleteCloudResource"]["code"] == "CLOUD_RESOURCE_NOT_FOUND"
    assert (await service.execute(DEPLOY, id=id_))["deployCloudResource"]["code"] == "CLOUD_RESOURCE_NOT_FOUND"
    assert await service.apply(manifest()) != id_


async def test_a_cloud_resource_that_is_being_deployed_is_not_deleted(service: Service) -> None:
    """CloudResourceBusy names the deployment; once that has ended the record can be deleted."""
    service.module("Thing", sleep=1)
    update = await service.deploy(manifest())
    id_ = await service.apply(manifest())

    busy = (await service.execute(DELETE, id=id_))["deleteCloudResource"]
    await service.outcome(update)
    deleted = (await service.execute(DELETE, id=id_))["deleteCloudResource"]

    assert (busy["__typename"], busy["code"], busy["path"]) == ("CloudResourceBusy", "CLOUD_RESOURCE_BUSY", ["id"])
    assert busy["stackUpdate"] == {"id": update, "status": "IN_PROGRESS"}
    assert update in busy["message"]
    assert deleted["__typename"] == "DeleteCloudResourceSuccess"


async def test_a_deletion_between_a_deployments_look_and_its_step_ends_it() -> None:
    """A deployment whose cloud resource is deleted while the module is looked at is refused, and stores nothing."""
    async with parts() as made:
        resource = await made.services.resources.create(manifest())

        async def deleted() -> None:
            await made.services.resources.delete(resource.id)

        made.during_preflight = deleted

        with pytest.raises(CloudResourceNotFound):
            await made.services.updates.deploy(resource.id, None)

        assert await made.history.page(Slice(1)) == []


async def test_a_manifest_applied_to_what_is_being_deleted_becomes_a_new_one() -> None:
    """However apply and delete meet, apply ends with the manifest kept."""
    async with parts() as made:
        resources = made.services.resources
        for number in range(20):
            old = await resources.create(manifest())
            (kept, _), _ = await asyncio.gather(
                resources.apply(manifest(spec=f"{{n: {number}}}")), resources.delete(old.id)
            )
            left = await resources.get(kept.id)
            if left is None:  # it was applied first and deleted second
                assert kept.id == old.id
            else:
                assert kept.id != old.id
                await resources.delete(kept.id)
