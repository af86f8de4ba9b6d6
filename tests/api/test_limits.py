"""Documents that ask for too much are refused before anything runs, and fast."""

from __future__ import annotations

import asyncio
import time

import pytest
from graphql import get_introspection_query

from graphql_api.domain.manifest import examine
from graphql_api.schema import SCHEMA
from tests.api.parts import parts
from tests.builders import MANIFEST, a_cloud_resource

NESTED = (
    "{ cloudResources(first: 100) { nodes { stackUpdates(first: 100) { nodes { cloudResource { "
    "stackUpdates(first: 100) { nodes { id } } } } } } } }"
)
VARIABLES = """
query ($n: Int) {
  cloudResources(last: $n) { nodes { stackUpdates(first: $n) { nodes { cloudResource {
    stackUpdates { nodes { id } }
  } } } } }
}"""
DETAIL = """
query ($n: Int) {
  cloudResources(first: $n) {
    nodes { name labels { name } stackUpdates(first: $n) { nodes { id failure { diagnostics { urn } } } } }
  }
}"""
#: Logs and resources have pages of their own sizes: the first as large as no other.
LOGS = "{ stackUpdates(first: 100) { nodes { log(first: 1000) { events { seq } } } } }"
LOG_VARIABLE = "query ($n: Int!) { stackUpdates(first: 100) { nodes { log(first: $n) { events { seq } } } } }"
RESOURCES = """
{
  cloudResources(first: 100) { nodes { stackUpdates(first: 20) { nodes { resources(first: 100) { nodes { id } } } } } }
}"""
LISTED = """
{
  stackUpdates(first: 100) {
    nodes { log { events { seq ... on ResourceChanged { resource { id } } } } resources(first: 100) { nodes { id } } }
  }
}"""
WHOLE = "{ node(id: 1) { ... on StackUpdate { log(first: 1000) { events { seq } } } } }"

EXAMINED = "{ cloudResources { nodes { stackFqdn labels { name } problems { message } } } }"


def chained(levels: int) -> str:
    """A document of chained fragments whose answer doubles with each."""
    fragments = [
        f"fragment F{level} on CloudResource {{ ...on Node {{ id }} "
        f"a: latestStackUpdate {{ cloudResource {{ ...F{level + 1} }} }} "
        f"b: latestStackUpdate {{ cloudResource {{ ...F{level + 1} }} }} }}"
        for level in range(levels)
    ]
    return " ".join(["{ node(id: 1) { ...F0 } }", *fragments, f"fragment F{levels} on CloudResource {{ id }}"])


@pytest.mark.parametrize(
    "query",
    [NESTED, VARIABLES, chained(22), LOGS, LOG_VARIABLE, RESOURCES],
    ids=["nested", "variables", "fragments", "logs", "logs by variable", "resources"],
)
async def test_an_answer_without_measure_is_refused(query: str) -> None:
    """Lists in lists, sizes in variables, and fragments that double are counted, and nothing runs."""
    async with parts() as made, made.served() as service:
        begin = time.monotonic()
        answer = await service.post({"query": query})

    assert [error["code"] for error in answer.errors] == ["GRAPHQL_VALIDATION_FAILED"]
    assert "smaller pages" in answer.errors[0]["message"]
    assert time.monotonic() - begin < 5


async def test_what_people_ask_for_is_not_refused() -> None:
    """The largest page of records with the largest page of each one's history, and GraphiQL's introspection."""
    async with parts() as made:
        assert await made.execute(DETAIL, n=100) == {"cloudResources": {"nodes": []}}
        assert await made.execute(LISTED) == {"stackUpdates": {"nodes": []}}
        assert await made.errors(WHOLE) == [{"code": "BAD_USER_INPUT", "argument": "id"}]
        assert (await made.execute(get_introspection_query(input_value_deprecation=True)))["__schema"]


@pytest.mark.parametrize(
    "query",
    [
        "{ node(id: 1) { ...A } } fragment A on Node { ...A }",
        "{ node(id: 1) { ...Missing ...on Missing { a { b } } nothing { a } } }",
        "{ ...A } fragment A on Missing { a { b } }",
        "mutation { nothing { a } }",
        '{ cloudResources(first: "many") { nodes { id } } }',
    ],
)
async def test_counting_leaves_mistakes_to_the_other_rules(query: str) -> None:
    """What is wrong in another way is told as that."""
    result = await SCHEMA.execute(query)

    assert result.errors
    assert not any("smaller pages" in error.message or "unexpected" in error.message for error in result.errors)


async def longest_pause(until: asyncio.Task[object]) -> float:
    """How long, in seconds, the event loop was kept from anything else."""
    longest = 0.0
    while not until.done():
        before = time.monotonic()
        await asyncio.sleep(0.01)
        longest = max(longest, time.monotonic() - before)
    return longest


async def test_a_list_of_long_manifests_keeps_nobody_waiting() -> None:
    """Each is read once, whatever is asked of it, away from the event loop; short ones do not wait for their turn."""
    async with parts() as made:
        for number in range(6):
            text = f"{MANIFEST}# {number}\nmore: [{'[],' * 40_000}]\n"
            await made.backends.resources.insert(a_cloud_resource(manifest=text))
        short = a_cloud_resource(manifest=MANIFEST + "# short\n")
        read_before = examine.cache_info().misses
        began = time.monotonic()
        listing = asyncio.create_task(made.execute(EXAMINED))
        pausing = asyncio.create_task(longest_pause(listing))
        await asyncio.sleep(0.1)
        assert (await made.services.resources.examine(short)).stack_fqdn
        overtaken = read_before + 6 + 1 - examine.cache_info().misses
        nodes = (await listing)["cloudResources"]["nodes"]
        took = time.monotonic() - began

    assert overtaken > 3
    assert await pausing < took / 3  # read on the loop, all of them are one pause, however slow the machine is
    assert examine.cache_info().misses - read_before == 6 + 1
    assert [node["stackFqdn"] for node in nodes] == ["organization/demo/dev"] * 6
