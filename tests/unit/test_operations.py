"""Operations: what is remembered of documents, what those cost that are made to do harm, and who may ask."""

from __future__ import annotations

import time

import pytest

from graphql_api.domain.callers import ANYBODY, Caller, Right
from graphql_api.schema.operations import (
    REMEMBERED_DOCUMENTS,
    REMEMBERED_LENGTH,
    Operations,
    RequestRefused,
    prepare,
    read,
)
from tests.api.parts import parts
from tests.api.test_limits import doubling

#: How long a document made to do harm may keep the service, in seconds.
HARMLESS = 0.1
SEVERAL = "query A { __typename } query B { __typename }"


def a_document(number: int) -> str:
    """One that no other test has."""
    return f"query TestOperations{number} {{ __typename }}"


def refused(query: str, operation_name: str | None = None) -> list[str]:
    """The codes of what is wrong with a document."""
    with pytest.raises(RequestRefused) as found:
        prepare(query, operation_name)
    return [str(error["extensions"]["code"]) for error in found.value.errors]


def test_a_document_is_read_and_validated_once() -> None:
    """For all who send it: what was found out about it is the same object each time."""
    before = read.cache_info()
    prepared = [prepare(a_document(1)) for _ in range(100)]
    after = read.cache_info()

    assert (after.misses - before.misses, after.hits - before.hits) == (1, 99)
    assert all(each is prepared[0] for each in prepared)


def test_the_operations_of_one_document_are_prepared_together() -> None:
    """Which one is meant is chosen each time."""
    a, b = prepare(SEVERAL, "A"), prepare(SEVERAL, "B")

    assert (a.name, b.name) == ("A", "B")
    assert a.document is b.document


@pytest.mark.parametrize("wrong", ["{ unknownField }", "{", "", "{ ...Missing }", doubling(60)])
def test_a_wrong_document_is_not_remembered(wrong: str) -> None:
    """It would push right ones out."""
    before = read.cache_info().currsize
    for _ in range(3):
        refused(wrong)

    assert read.cache_info().currsize == before


def test_a_long_document_is_not_remembered() -> None:
    """A manifest that is written into one makes another each time; at the limit it is still remembered."""
    query = a_document(2)
    long, longer = (query + " " * (length - len(query)) for length in (REMEMBERED_LENGTH, REMEMBERED_LENGTH + 1))
    before = read.cache_info()

    assert prepare(long) is prepare(long)
    assert prepare(longer) is not prepare(longer)
    assert read.cache_info().misses == before.misses + 1


def test_so_many_documents_are_remembered() -> None:
    """However many are sent."""
    for number in range(REMEMBERED_DOCUMENTS + 10):
        prepare(a_document(100 + number))

    assert read.cache_info().currsize == REMEMBERED_DOCUMENTS


@pytest.mark.parametrize(
    ("query", "name"),
    [
        (SEVERAL, None),
        (SEVERAL, "C"),
        (SEVERAL, ""),
        ("{ __typename }", "A"),
        ("query A { __typename }", "B"),
    ],
)
def test_no_operation_is_chosen_in_silence(query: str, name: str | None) -> None:
    """Unless there is only one, and no other is named."""
    assert refused(query, name) == ["OPERATION_RESOLUTION_FAILURE"]


@pytest.mark.parametrize(
    "query",
    [
        doubling(60),
        f"{{ {' '.join(f'a{number}: __typename' for number in range(20_000))} }}",
        "{ a " * 10_000 + "}" * 10_000,
        "{ cloudResources { nodes " * 120 + "{ id }" + " } }" * 120,
        "{ node(id: 1) { " + "... on Node { " * 300 + "id" + " }" * 302,
        "{ node(id: 1) { id " + "@include(if: true) " * 190 + "} }",
        "{ node(id: " + "[" * 900 + "]" * 900 + ") { id } }",
    ],
    ids=[
        "fragment bomb",
        "20,000 aliases",
        "10,000 levels",
        "120 levels",
        "inline fragments",
        "directives",
        "nested value",
    ],
)
def test_a_document_made_to_do_harm_keeps_nobody_waiting(query: str) -> None:
    """It is refused in less than a tenth of a second of the server's work."""
    took = []
    for _ in range(3):
        began = time.thread_time()
        refused(query)
        took.append(time.thread_time() - began)

    assert min(took) < HARMLESS


async def test_rights_are_asked_for_before_anything_else() -> None:
    """A caller without any may not even query; with that to read alone may query and subscribe."""
    nobody, reader = Caller(None, frozenset()), Caller(None, frozenset({Right.READ}))
    query, subscription = prepare("{ __typename }"), prepare("subscription { stackUpdatesChanged { __typename } }")
    async with parts() as made:
        operations = Operations(made.services)
        for prepared, carry_out in ((query, operations.execute), (subscription, operations.subscribe)):
            with pytest.raises(RequestRefused) as found:
                await carry_out(prepared, {}, nobody)
            assert [error["extensions"]["code"] for error in found.value.errors] == ["FORBIDDEN"]
        assert (await operations.execute(query, {}, reader))["data"] == {"__typename": "Query"}
        watching = await operations.subscribe(subscription, {}, reader)
        await anext(watching.events)
        await watching.events.aclose()

        assert made.wakeups.topics == frozenset()


async def test_one_operation_does_not_know_of_another() -> None:
    """Errors of one are not in the other's answer, though both are the same document."""
    document = prepare("query ($id: ID!) { node(id: $id) { id } }")
    async with parts() as made:
        operations = Operations(made.services)
        wrong = await operations.execute(document, {"id": "x"}, ANYBODY)
        right = await operations.execute(document, {"id": "0" * 24}, ANYBODY)

    assert wrong["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"
    assert "errors" not in right
