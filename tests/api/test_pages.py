"""Lists: both ways through them, filters, and times."""

from __future__ import annotations

from typing import Any

import pytest

from tests.service import Service, manifest

LIST = """
query ($first: Int, $after: String, $last: Int, $before: String, $filter: CloudResourceFilter) {
  cloudResources(first: $first, after: $after, last: $last, before: $before, filter: $filter) {
    totalCount
    nodes { name }
    edges { cursor }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
  }
}"""
UPDATES = """
query ($filter: StackUpdateFilter) {
  stackUpdates(filter: $filter) { totalCount nodes { id createdAt } }
}"""


async def page(service: Service, **arguments: Any) -> tuple[list[str], dict[str, Any]]:
    found = (await service.execute(LIST, **arguments))["cloudResources"]
    return [node["name"] for node in found["nodes"]], found["pageInfo"]


async def test_pages_lead_back_to_the_beginning_while_records_are_added(service: Service) -> None:
    """From the end, before each startCursor, every record comes once, and at last those that came meanwhile."""
    for number in range(5):
        await service.apply(manifest(name=f"n{number}"))
    names, info = await page(service, last=2)
    seen = names
    assert (info["hasNextPage"], info["hasPreviousPage"]) == (False, True)
    for number in range(5, 8):
        await service.apply(manifest(name=f"n{number}"))
        names, info = await page(service, last=2, before=info["startCursor"])
        seen = names + seen
        assert info["hasNextPage"] is True

    assert seen == [f"n{number}" for number in range(7, -1, -1)]
    assert info["hasPreviousPage"] is False


async def test_a_page_says_truly_whether_something_lies_on_either_side(service: Service) -> None:
    """In both directions, at both ends, and on empty pages; also when what a cursor stood for is gone."""
    ids = [await service.apply(manifest(name=f"n{number}")) for number in range(4)]
    cursors = [edge["cursor"] for edge in (await service.execute(LIST))["cloudResources"]["edges"]]

    async def seen(**arguments: Any) -> tuple[list[str], bool, bool]:
        names, info = await page(service, **arguments)
        return names, info["hasPreviousPage"], info["hasNextPage"]

    assert await seen() == (["n3", "n2", "n1", "n0"], False, False)
    assert await seen(first=2) == (["n3", "n2"], False, True)
    assert await seen(last=2) == (["n1", "n0"], True, False)
    assert await seen(first=1, after=cursors[1]) == (["n1"], True, True)
    assert await seen(last=1, before=cursors[1]) == (["n3"], False, True)
    assert await seen(first=9, after=cursors[0], before=cursors[3]) == (["n2", "n1"], True, True)
    assert await seen(last=1, after=cursors[0], before=cursors[3]) == (["n1"], True, True)
    assert await seen(first=1, after=cursors[3]) == ([], True, False)
    assert await seen(last=1, before=cursors[0]) == ([], False, True)
    assert await seen(first=1, after=cursors[0], before=cursors[1]) == ([], True, True)

    await service.execute("mutation ($id: ID!) { deleteCloudResource(input: {id: $id}) { __typename } }", id=ids[3])
    assert await seen(first=1, after=cursors[0]) == (["n2"], False, True)
    assert await seen(last=1, before=cursors[0]) == ([], False, True)


async def test_first_and_last_can_not_be_asked_for_together(service: Service) -> None:
    """The refusal has a code and says what to do; null is as good as leaving one out."""
    answer = await service.post({"query": LIST, "variables": {"first": 1, "last": 1}})
    names, _ = await page(service, first=None, last=1)

    assert [error["code"] for error in answer.errors] == ["BAD_USER_INPUT"]
    assert "leave one of them out" in answer.errors[0]["message"]
    assert names == []


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [({"last": 0}, "last"), ({"last": 101}, "last"), ({"last": 1, "before": "x"}, "before")],
)
async def test_bad_arguments_of_a_page_from_the_end_are_errors(
    service: Service, arguments: dict[str, Any], argument: str
) -> None:
    """What holds of first and after holds of last and before."""
    answer = await service.post({"query": LIST, "variables": arguments})

    assert [(error["code"], error["argument"]) for error in answer.errors] == [("BAD_USER_INPUT", argument)]


async def test_cloud_resources_are_filtered_by_kind_and_name(service: Service) -> None:
    """Exactly those are listed and counted; what is left out or null does not restrict."""
    for kind, name in [("Thing", "a"), ("Thing", "b"), ("Other", "a")]:
        await service.apply(manifest(kind, name))

    async def listed(filter_: dict[str, Any] | None) -> tuple[list[str], int]:
        found = (await service.execute(LIST, filter=filter_))["cloudResources"]
        return [node["name"] for node in found["nodes"]], found["totalCount"]

    assert await listed(None) == (["a", "b", "a"], 3)
    assert await listed({"kind": None}) == (["a", "b", "a"], 3)
    assert await listed({"kind": "Thing"}) == (["b", "a"], 2)
    assert await listed({"name": "a"}) == (["a", "a"], 2)
    assert await listed({"kind": "Other", "name": "a"}) == (["a"], 1)
    assert await listed({"kind": "thing"}) == ([], 0)
    assert await listed({"name": "a\0"}) == ([], 0)


@pytest.mark.parametrize("name", ["kind", "name"])
async def test_a_filter_that_is_no_text_is_an_error_with_a_code(service: Service, name: str) -> None:
    """Half of a surrogate pair can't be compared with anything."""
    answer = await service.post({"query": LIST, "variables": {"filter": {name: "\ud800"}}})

    assert [(error["code"], error["argument"]) for error in answer.errors] == [("BAD_USER_INPUT", name)]


async def test_stack_updates_are_filtered_by_stack_operation_and_time(service: Service) -> None:
    """Created after and before exclude the moment itself; every offset is understood."""
    service.module("Thing")
    ids = []
    for name in ("a", "b"):
        ids.append(await service.deploy(manifest(name=name)))
        await service.outcome(ids[-1])
    times = [node["createdAt"] for node in (await service.execute(UPDATES))["stackUpdates"]["nodes"]][::-1]
    east = times[0].replace("Z", "+00:00")

    async def listed(**filter_: Any) -> list[str]:
        found = (await service.execute(UPDATES, filter=filter_))["stackUpdates"]
        assert found["totalCount"] == len(found["nodes"])
        return [node["id"] for node in found["nodes"]]

    assert await listed(stackFqdn="organization/tests/a") == [ids[0]]
    assert await listed(stackFqdn="organization/tests") == []
    assert await listed(operations=["UPDATE"]) == ids[::-1]
    assert await listed(operations=[]) == []
    assert await listed(createdAfter=east) == [ids[1]]
    assert await listed(createdBefore=times[1].lower()) == [ids[0]]
    assert await listed(createdAfter=times[1]) == []
    assert await listed(createdAfter="0001-01-01T00:00:00Z", createdBefore="9999-12-31T23:59:59.999Z") == ids[::-1]
    assert await listed(createdAfter="1969-12-31T23:59:59.9999-23:59", stackFqdn=None) == ids[::-1]


BAD_TIMES = {
    "no time": "2026-01-01",
    "no offset": "2026-01-01T00:00:00",
    "no seconds": "2026-01-01T00:00Z",
    "a week": "2026-W01-1T00:00:00Z",
    "basic form": "20260101T000000Z",
    "a space": "2026-01-01 00:00:00Z",
    "words": "yesterday",
    "empty": "",
    "a newline": "2026-01-01T00:00:00Z\n",
    "no such day": "2026-02-30T00:00:00Z",
    "no such hour": "2026-01-01T25:00:00Z",
    "no such offset": "2026-01-01T00:00:00+24:00",
    "before the first year": "0001-01-01T00:00:00+00:01",
    "after the last year": "9999-12-31T23:59:59-00:01",
    "year nought": "0000-01-01T00:00:00Z",
    "digits of another script": "٢٠٢٦-01-01T00:00:00Z",
    "a number": 1767225600,
    "true": True,
    "a list": ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"],
}


@pytest.mark.parametrize("time", BAD_TIMES.values(), ids=BAD_TIMES)
async def test_what_is_no_time_is_refused(service: Service, time: object) -> None:
    """Only RFC 3339 with an offset is taken, in variables and in the document; a sentence shows the form."""
    answer = await service.post({"query": UPDATES, "variables": {"filter": {"createdAfter": time}}})

    assert [error["code"] for error in answer.errors] == ["BAD_USER_INPUT"]
    assert "DateTime" in answer.errors[0]["message"]


@pytest.mark.parametrize("literal", ['"yesterday"', "5", '"2026-02-30T00:00:00Z"', "NOW"])
async def test_what_is_no_time_is_refused_in_the_document(service: Service, literal: str) -> None:
    """A literal is checked like a variable, before anything runs."""
    answer = await service.post({"query": f"{{ stackUpdates(filter: {{createdAfter: {literal}}}) {{ totalCount }} }}"})

    assert [error["code"] for error in answer.errors] == ["GRAPHQL_VALIDATION_FAILED"]
    assert "DateTime" in answer.errors[0]["message"]
