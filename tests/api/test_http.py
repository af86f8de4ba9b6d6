"""GraphQL over HTTP, to the letter of its specification: what is accepted, answered, refused, given up and counted."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest

from graphql_api.adapters import open_backends
from graphql_api.domain.callers import Caller, Right
from graphql_api.domain.ports import EVERY_UPDATE, Slice, StackUpdateFilter
from graphql_api.domain.records import StackUpdate
from graphql_api.schema.limits import OBJECT_LIMIT
from graphql_api.schema.operations import RequestRefused
from graphql_api.transport.access import Access
from graphql_api.transport.negotiation import preferred
from graphql_api.transport.persisted import PersistedQueries
from tests.api.parts import CountingHistory, Parts, parts
from tests.builders import a_cloud_resource
from tests.runner.waiting import eventually
from tests.service import APPLY, DEPLOY, PATIENCE, Answer, Service, manifest

JSON, RESPONSE_JSON = "application/json", "application/graphql-response+json"
QUERY = "{ __typename }"
SOON = timedelta(seconds=0.2)
LIST = "{ stackUpdates { nodes { id } } }"


async def get(service: Service, accept: str | None = None, **parameters: str) -> Answer:
    return await service.request(
        "GET", f"/graphql?{urlencode(parameters)}", headers={"Accept": accept} if accept is not None else {}
    )


async def post(service: Service, query: str, **headers: str) -> Answer:
    return await service.post({"query": query}, headers)


def codes(answer: Answer) -> list[str]:
    return [error["code"] for error in answer.errors]


# --- which media type


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("", JSON),
        (",", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        (JSON, JSON),
        (RESPONSE_JSON, RESPONSE_JSON),
        (RESPONSE_JSON.upper(), RESPONSE_JSON),
        (f"{RESPONSE_JSON}; charset=utf-8", RESPONSE_JSON),
        (f"{RESPONSE_JSON},{JSON};q=0.9", RESPONSE_JSON),
        (f"{RESPONSE_JSON} ; q=0.1 , {JSON} ; q=0.2", JSON),
        (f"{JSON};q=0.5, */*", RESPONSE_JSON),
        (f"{JSON};q=0, */*;q=0.1", RESPONSE_JSON),
        (f"{JSON};q=0, application/*;q=0.1", RESPONSE_JSON),
        (f"text/event-stream, {RESPONSE_JSON};q=0.3, multipart/mixed", RESPONSE_JSON),
        (f"{JSON};q=nan, {RESPONSE_JSON}", RESPONSE_JSON),
        (f"{JSON};q=inf, {RESPONSE_JSON}", RESPONSE_JSON),
        (f"{JSON};q=9, {RESPONSE_JSON}", RESPONSE_JSON),
        (f"{JSON};q=, {RESPONSE_JSON}", RESPONSE_JSON),
        ("text/html", None),
        ("text/*;q=1", None),
        (f"{JSON};q=0", None),
        ("*/*;q=0", None),
        ("application", None),
        ("*", None),
    ],
)
def test_the_type_that_the_client_likes_best_is_chosen(accept: str, media_type: str | None) -> None:
    """By its quality, the most specific range first; a quality that is none counts as no; of equals the older type."""
    assert preferred(accept, (JSON, RESPONSE_JSON)) == media_type


@pytest.mark.parametrize(
    ("accept", "answered"),
    [(None, JSON), ("*/*", JSON), (JSON, JSON), (RESPONSE_JSON, RESPONSE_JSON), ("multipart/mixed", JSON)],
)
async def test_an_answer_has_the_type_that_was_asked_for(accept: str | None, answered: str) -> None:
    """By POST and by GET, in UTF-8; caches are told that it depends on Accept."""
    async with parts() as made, made.served() as service:
        posted = await service.post({"query": QUERY}, {"Accept": accept} if accept else {})
        got = await get(service, accept, query=QUERY)

    for answer in (posted, got):
        assert (answer.status, answer.json["data"]) == (200, {"__typename": "Query"})
        assert answer.headers["content-type"] == f"{answered}; charset=utf-8"
        assert (answer.headers["vary"], answer.headers["cache-control"]) == ("Accept", "no-store")


async def test_a_type_that_is_not_offered_is_refused() -> None:
    """406, with what could be accepted, whatever else is wrong with the request."""
    async with parts() as made, made.served() as service:
        for answer in (await post(service, QUERY, Accept="text/html"), await get(service, "text/html")):
            assert (answer.status, codes(answer)) == (406, ["NOT_ACCEPTABLE"])
            assert RESPONSE_JSON in answer.errors[0]["message"]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"query": "{"}, "GRAPHQL_PARSE_FAILED"),
    ({"query": ""}, "BAD_REQUEST"),
    ({"query": "{ nothing }"}, "GRAPHQL_VALIDATION_FAILED"),
    ({"query": "query ($id: ID!) { node(id: $id) { id } }"}, "BAD_USER_INPUT"),
    ({"query": "query A { __typename } query B { __typename }"}, "OPERATION_RESOLUTION_FAILURE"),
    ({"query": "query A { __typename }", "operationName": "B"}, "OPERATION_RESOLUTION_FAILURE"),
    ({"query": "{ __typename }", "operationName": "B"}, "OPERATION_RESOLUTION_FAILURE"),
    ({"query": 'mutation { applyCloudResource(input: {manifest: ""}) { nothing } }'}, "GRAPHQL_VALIDATION_FAILED"),
    ({"extensions": {"persistedQuery": {"version": 1, "sha256Hash": "0" * 64}}}, "PERSISTED_QUERY_NOT_FOUND"),
    ({"query": "subscription { stackUpdatesChanged { __typename } }"}, "BAD_REQUEST"),
]


@pytest.mark.parametrize(("request_", "code"), WRONG)
async def test_a_wrong_request_has_no_data(request_: dict[str, Any], code: str) -> None:
    """400 in the newer type; in the older one 200, unless what was sent is no request. Each error has its code."""
    async with parts() as made, made.served() as service:
        newer = await service.post(request_, {"Accept": RESPONSE_JSON})
        older = await service.post(request_, {"Accept": JSON})

    assert (newer.status, older.status) == (400, 400 if code == "BAD_REQUEST" else 200)
    assert codes(newer) == codes(older) == [code]
    assert set(newer.json) == set(older.json) == {"errors"}


async def test_an_error_in_a_field_leaves_a_right_answer() -> None:
    """200 in both types, with what data there is."""
    async with parts() as made, made.served() as service:
        answers = [await post(service, '{ node(id: "x") { id } }', Accept=accept) for accept in (JSON, RESPONSE_JSON)]

    assert [(answer.status, answer.json["data"], codes(answer)) for answer in answers] == [
        (200, {"node": None}, ["BAD_USER_INPUT"])
    ] * 2


# --- how a request is sent


async def test_a_query_can_be_sent_by_get() -> None:
    """Its variables and extensions are JSON; the operation is chosen by its name."""
    document = "query A($id: ID!) { node(id: $id) { id } } query B($x: Boolean!) { __typename @include(if: $x) }"
    async with parts() as made, made.served() as service:
        answer = await get(
            service, RESPONSE_JSON, query=document, operationName="B", variables='{"x": true}', extensions='{"a": []}'
        )
        empty = await get(service, RESPONSE_JSON, query=QUERY, operationName="", variables="", extensions="")

    assert (answer.status, answer.json["data"]) == (200, {"__typename": "Query"})
    assert (empty.status, empty.json["data"]) == (200, {"__typename": "Query"})


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"query": ""},
        {"query": QUERY, "variables": "{"},
        {"query": QUERY, "variables": "[]"},
        {"query": QUERY, "variables": "1"},
        {"query": QUERY, "extensions": '"x"'},
        {"query": QUERY, "variables": '{"a": NaN}'},
        {"query": QUERY, "variables": "[" * 10_000},
    ],
)
async def test_parameters_of_the_wrong_shape_are_refused(parameters: dict[str, str]) -> None:
    """400 with a code, and with a sentence that says which."""
    async with parts() as made, made.served() as service:
        answer = await get(service, **parameters)

    assert (answer.status, codes(answer)) == (400, ["BAD_REQUEST"])


async def test_get_changes_nothing() -> None:
    """A mutation by GET is refused with 405 and the way that there is, before anything runs; so is a subscription."""
    mutation = 'mutation { createCloudResource(input: {manifest: "x"}) { __typename } }'
    async with parts() as made, made.served() as service:
        for query in (mutation, "subscription { stackUpdatesChanged { __typename } }"):
            answer = await get(service, "multipart/mixed, */*", query=query)
            assert (answer.status, codes(answer)) == (405, ["METHOD_NOT_ALLOWED"])
            assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE"])
async def test_other_methods_are_refused(method: str) -> None:
    """405, with those that there are."""
    async with parts() as made, made.served() as service:
        answer = await service.request(method, "/graphql")

    assert (answer.status, answer.headers["allow"]) == (405, "GET, POST")


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/graphql",
        "application/jsonx",
        "application/json; charset=iso-8859-1",
        "application/json; charset=utf-16",
    ],
)
async def test_a_body_of_another_type_is_refused(content_type: str) -> None:
    """415: a page of another site could make a browser send most of them."""
    async with parts() as made, made.served() as service:
        answer = await service.post({"query": QUERY}, {"Content-Type": content_type})

    assert (answer.status, codes(answer)) == (415, ["UNSUPPORTED_MEDIA_TYPE"])


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON",
        "application/json;charset=UTF-8",
        'application/json; charset="utf-8"; a=b',
    ],
)
async def test_json_in_utf_8_is_accepted(content_type: str) -> None:
    """However its type is written."""
    async with parts() as made, made.served() as service:
        answer = await service.post({"query": QUERY}, {"Content-Type": content_type})

    assert (answer.status, answer.json["data"]) == (200, {"__typename": "Query"})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"1",
        b'"x"',
        b"[]",
        b'[{"query": "{ __typename }"}]',
        b"{}",
        b'{"query": null}',
        b'{"query": 1}',
        b'{"query": ["{ __typename }"]}',
        b'{"query": "{ __typename }", "variables": []}',
        b'{"query": "{ __typename }", "variables": "{}"}',
        b'{"query": "{ __typename }", "extensions": 1}',
        b'{"query": "{ __typename }", "operationName": 1}',
        b'{"query": "{ __typename }", "variables": {"a": NaN}}',
        b'{"query": "{ __typename }", "variables": {"a": Infinity}}',
        b'{"query": "\xff"}',
        b"[" * 100_000,
    ],
)
async def test_a_body_that_is_no_request_is_refused(body: bytes) -> None:
    """400 in both types, as a GraphQL error: it is not the answer to any request."""
    async with parts() as made, made.served() as service:
        answers = [await service.post(body, {"Accept": accept}) for accept in (JSON, RESPONSE_JSON)]

    assert [(answer.status, codes(answer)) for answer in answers] == [(400, ["BAD_REQUEST"])] * 2


async def test_no_operation_is_chosen_in_silence() -> None:
    """Of several the client has to name one, and is told the names; nothing runs."""
    document = "query A { stackUpdates { totalCount } } query B { stackUpdates { totalCount } }"
    async with parts() as made, made.served() as service:
        silent = await service.post({"query": document})
        empty = await service.post({"query": document, "operationName": ""})
        unknown = await service.post({"query": document, "operationName": "C"})
        none = await service.post({"query": "fragment F on Query { __typename }"})

    assert [codes(answer) for answer in (silent, empty, unknown)] == [["OPERATION_RESOLUTION_FAILURE"]] * 3
    assert all("A, B" in answer.errors[0]["message"] for answer in (silent, empty, unknown))
    assert "errors" in none.json
    assert made.history.questions == []


async def test_every_answer_tells_its_cost() -> None:
    """What was asked for, counted in objects, beside the most that may be."""
    async with parts() as made, made.served() as service:
        answer = await post(service, "{ stackUpdates(first: 7) { nodes { id } } }")
        more = await post(service, "{ stackUpdates(first: 70) { nodes { id } } }")

    cost, greater = (each.json["extensions"]["cost"] for each in (answer, more))
    assert cost["limit"] == greater["limit"] == OBJECT_LIMIT
    assert 0 < cost["requested"] < greater["requested"] < OBJECT_LIMIT


# --- persisted queries


def named(query: str, **other: Any) -> dict[str, Any]:
    name = hashlib.sha256(query.encode()).hexdigest()
    return {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": name, **other}}}


async def test_a_query_is_sent_once_and_then_named() -> None:
    """As Apollo's clients do it: by POST and by GET, under the message that they look for."""
    async with parts() as made, made.served() as service:
        unknown = await service.post(named(QUERY))
        sent = await service.post({"query": QUERY, **named(QUERY)})
        by_name = await service.post(named(QUERY))
        by_get = await get(service, extensions=json.dumps(named(QUERY)["extensions"]))

    assert (unknown.errors[0]["message"], codes(unknown)) == ("PersistedQueryNotFound", ["PERSISTED_QUERY_NOT_FOUND"])
    assert [answer.json["data"] for answer in (sent, by_name, by_get)] == [{"__typename": "Query"}] * 3


@pytest.mark.parametrize(
    "persisted",
    [
        {"version": 2},
        {"version": "1"},
        {"sha256Hash": None},
        {"sha256Hash": 5},
        {"sha256Hash": "0" * 64},
        {"sha256Hash": hashlib.sha256(QUERY.encode()).hexdigest().upper()},
    ],
)
async def test_a_name_that_is_none_is_refused(persisted: dict[str, Any]) -> None:
    """Another version, a hash that is not a string, and one that is not the query's."""
    async with parts() as made, made.served() as service:
        answer = await service.post({"query": QUERY, **named(QUERY, **persisted)})
        listed = await service.post({"query": QUERY, "extensions": {"persistedQuery": []}})

    assert (answer.status, codes(answer)) == (listed.status, codes(listed)) == (400, ["BAD_REQUEST"])


@pytest.mark.parametrize("query", ["{", "{ nothing }", "query A { __typename } query B { __typename }"])
async def test_a_wrong_document_is_not_kept(query: str) -> None:
    """It could push right ones out."""
    async with parts() as made, made.served() as service:
        await service.post({"query": query, **named(query)})

        assert codes(await service.post(named(query))) == ["PERSISTED_QUERY_NOT_FOUND"]


def test_the_least_recently_used_go_first() -> None:
    """The store has a size in bytes; one that would fill it alone is not kept at all."""
    store = PersistedQueries(limit=30)

    def knows(query: str) -> bool:
        try:
            return store.find(None, named(query)["extensions"]).query == query
        except RequestRefused:
            return False

    for query in ("a" * 10, "b" * 10, "ä" * 5):
        store.find(query, named(query)["extensions"]).keep()
    assert knows("a" * 10)
    store.find("c" * 10, named("c" * 10)["extensions"]).keep()
    store.find("d" * 31, named("d" * 31)["extensions"]).keep()

    assert [knows(query) for query in ("a" * 10, "b" * 10, "ä" * 5, "c" * 10, "d" * 31)] == [
        True,
        False,
        True,
        True,
        False,
    ]
    for number in range(1000):
        query = f"{number:10}"
        store.find(query, named(query)["extensions"]).keep()
    assert sum(knows(f"{number:10}") for number in range(1000)) == 3


# --- how long, who, how much


@dataclass
class SlowHistory(CountingHistory):
    """One whose pages do not come until they may."""

    may_come: asyncio.Event = field(default_factory=asyncio.Event)
    given_up: int = 0

    async def page(self, slice_: Slice, where: StackUpdateFilter = EVERY_UPDATE) -> Sequence[StackUpdate]:
        self.questions.append("page")
        try:
            await self.may_come.wait()
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        return await self.history.page(slice_, where)


@asynccontextmanager
async def slow_parts() -> AsyncIterator[tuple[Parts, SlowHistory]]:
    async with open_backends("sqlite:///:memory:") as backends:
        history = SlowHistory(backends.history)
        yield Parts(backends, history), history


async def test_a_query_that_takes_too_long_is_given_up() -> None:
    """It is told so with a code, and nothing works on it any more."""
    async with slow_parts() as (made, history), made.served(api=made.api(patience=SOON)) as service:
        answer = await post(service, LIST)

    assert (answer.status, answer.json["data"], codes(answer)) == (200, None, ["EXECUTION_TIMEOUT"])
    assert (history.questions, history.given_up) == (["page"], 1)


@asynccontextmanager
async def held_deployment(api_patience: timedelta) -> AsyncIterator[tuple[Parts, Service, str, asyncio.Event]]:
    """A service with a cloud resource, whose preflight for a deployment waits for the event."""
    async with parts() as made, made.served(api=made.api(patience=api_patience)) as service:
        go_on, looking = asyncio.Event(), asyncio.Event()

        async def look() -> None:
            looking.set()
            await go_on.wait()

        made.during_preflight = look
        applied = (await made.execute(APPLY, manifest=manifest()))["applyCloudResource"]
        yield made, service, applied["cloudResource"]["id"], go_on
        assert looking.is_set()


async def deployments(made: Parts, resource: str) -> int:
    found = await made.execute(
        "query ($id: ID!) { cloudResource(id: $id) { stackUpdates { totalCount } } }", id=resource
    )
    return int(found["cloudResource"]["stackUpdates"]["totalCount"])


async def is_deployed(made: Parts, resource: str) -> bool:
    async with asyncio.timeout(PATIENCE):
        while not await deployments(made, resource):  # noqa: ASYNC110 (the store sets no event of ours)
            await asyncio.sleep(0.01)
    return True


async def test_a_mutation_that_takes_too_long_goes_on() -> None:
    """Who sent it is told to look what became of it; it is not left half done."""
    async with held_deployment(SOON) as (made, service, resource, go_on):
        answer = await service.post({"query": DEPLOY, "variables": {"id": resource}})
        assert codes(answer) == ["EXECUTION_TIMEOUT"]
        assert "look what became of it" in answer.errors[0]["message"]
        go_on.set()

        assert await is_deployed(made, resource)


async def test_a_mutation_goes_on_when_its_client_leaves() -> None:
    """The connection breaks in the middle of it."""
    async with held_deployment(timedelta(seconds=30)) as (made, service, resource, go_on):
        body = json.dumps({"query": DEPLOY, "variables": {"id": resource}}).encode()
        host, port = service.address.split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        fields = f"Host: {service.address}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        began = asyncio.Event()
        look = made.during_preflight

        async def begin() -> None:
            began.set()
            await look()

        made.during_preflight = begin
        writer.write(f"POST /graphql HTTP/1.1\r\n{fields}\r\n\r\n".encode() + body)
        await asyncio.wait_for(began.wait(), PATIENCE)
        writer.transport.abort()
        go_on.set()

        assert await is_deployed(made, resource)


class ReadOnly(Access):
    """Lets everybody in who only wants to look."""

    def identify(self, authorization: str | None) -> Caller | None:
        return Caller("ann", frozenset({Right.READ}))


async def test_who_may_only_read_can_not_mutate() -> None:
    """The refusal says so; queries are answered."""
    async with parts() as made, made.served(api=made.api(ReadOnly({}))) as service:
        await made.backends.resources.insert(resource := a_cloud_resource())
        answer = await service.post({"query": DEPLOY, "variables": {"id": resource.id}}, {"Accept": RESPONSE_JSON})
        query = await post(service, QUERY)

        assert (codes(answer), "data" in answer.json) == (["FORBIDDEN"], False)
        assert query.json["data"] == {"__typename": "Query"}
        assert await deployments(made, resource.id) == 0


async def test_a_caller_may_have_so_much_going_on() -> None:
    """What is more is answered 429, with when to try again; what has ended counts no longer, however it ended."""
    async with slow_parts() as (made, history):
        api = made.api(Access({"one-token": "ann", "other-token": "bob"}), operations=2)
        async with made.served(api=api) as service:
            anns, bobs = ({"Authorization": f"Bearer {token}"} for token in ("one-token", "other-token"))
            running = [asyncio.create_task(service.post({"query": LIST}, anns)) for _ in range(2)]
            await eventually(lambda: api.quotas.open == 2)
            refused = await service.post({"query": QUERY}, anns)
            others = await service.post({"query": QUERY}, bobs)
            history.may_come.set()
            answers = await asyncio.gather(*running)
            after = [await service.post({"query": query}, anns) for query in (QUERY, "{", QUERY)]

    assert (refused.status, codes(refused), refused.headers["retry-after"]) == (429, ["TOO_MANY_OPERATIONS"], "1")
    assert [answer.status for answer in (others, *answers, *after)] == [200] * 6
    assert api.quotas.open == 0
