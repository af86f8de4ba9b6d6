"""Documents that ask for too much are refused before anything runs, and fast."""

from __future__ import annotations

import asyncio
import time

import pytest
from graphql import get_introspection_query

from graphql_api.domain.manifest import examine
from graphql_api.schema.limits import OBJECT_LIMIT
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


def doubling(levels: int) -> str:
    """A document of chained fragments, each spread twice by the one before."""
    chain = " ".join(f"fragment F{level} on Query {{ ...F{level + 1} ...F{level + 1} }}" for level in range(levels))
    return f"{{ ...F0 }} {chain} fragment F{levels} on Query {{ serverInfo {{ version }} }}"


@pytest.mark.parametrize(
    "query",
    [NESTED, VARIABLES, LOGS, LOG_VARIABLE, RESOURCES],
    ids=["nested", "variables", "logs", "logs by variable", "resources"],
)
async def test_an_answer_without_measure_is_refused(query: str) -> None:
    """Lists in lists, and sizes in variables, are counted, and nothing runs."""
    async with parts() as made, made.served() as service:
        answer = await service.post({"query": query})

    (error,) = answer.errors
    assert (error["code"], error["limit"]) == ("COMPLEXITY_LIMIT_EXCEEDED", OBJECT_LIMIT)
    assert error["requested"] > OBJECT_LIMIT
    assert "smaller pages" in error["message"]
    assert made.history.questions == []


@pytest.mark.parametrize(
    ("query", "code"),
    [
        (doubling(60), "GRAPHQL_VALIDATION_FAILED"),
        (f"{{ {' '.join(f'a{number}: __typename' for number in range(20_000))} }}", "GRAPHQL_PARSE_FAILED"),
        ("{ a " * 10_000, "GRAPHQL_PARSE_FAILED"),
    ],
    ids=["a fragment bomb", "20,000 aliases", "10,000 levels"],
)
async def test_a_document_made_to_do_harm_is_refused(query: str, code: str) -> None:
    """It is answered with one error, long before it could keep the service busy."""
    async with parts() as made, made.served() as service:
        answer = await service.post({"query": query})

    assert [error["code"] for error in answer.errors] == [code]


async def test_what_people_ask_for_is_not_refused() -> None:
    """The largest page of records with the largest page of each one's history, and GraphiQL's introspection."""
    async with parts() as made:
        assert await made.execute(DETAIL, n=100) == {"cloudResources": {"nodes": []}}
        assert await made.execute(LISTED) == {"stackUpdates": {"nodes": []}}
        assert await made.errors(WHOLE) == [{"code": "BAD_USER_INPUT", "argument": "id"}]
        assert (await made.execute(get_introspection_query(input_value_deprecation=True)))["__schema"]


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
