"""Keeping manifests through the API."""

from __future__ import annotations

import pytest

from tests.service import APPLY, Service, manifest

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
