"""Subscriptions over HTTP, in the parts that Apollo's clients take."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any

import pytest
from starlette.types import Message

from graphql_api.domain.callers import Caller, Right
from graphql_api.domain.errors import StackcastError, StoreUnavailable
from graphql_api.domain.events import StatusChanged
from graphql_api.domain.records import Phase, Status
from graphql_api.schema.operations import failure
from graphql_api.transport.access import Access
from graphql_api.transport.multipart import Multipart
from tests.api.parts import parts
from tests.api.watching import UPDATES
from tests.builders import a_chunk, a_line, a_stack_update, kept, started
from tests.runner.waiting import eventually
from tests.service import PATIENCE, Service

#: As Apollo Client sends it.
ACCEPT = 'multipart/mixed;boundary="graphql";subscriptionSpec="1.0",application/json'
EVENTS = """
subscription ($id: ID!) {
  stackUpdateEvents(id: $id) { ... on StackUpdateEventBatch { seq } ... on UserError { code } }
}"""
NEVER = timedelta(minutes=5)


async def frames(*given: bytes | Exception | float) -> AsyncGenerator[bytes, None]:
    """A subscription's answers; a number is how many seconds nothing comes, an exception ends it."""
    for each in given:
        if isinstance(each, float):
            await asyncio.sleep(each)
        elif isinstance(each, bytes):
            yield each
        else:
            raise failure(each)


async def sent_by(response: Multipart) -> tuple[str, bytes]:
    """The media type, and all that is sent to a client that stays."""
    sent: list[Message] = []

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    async with asyncio.timeout(PATIENCE):
        await response({"type": "http", "asgi": {"spec_version": "2.3"}, "method": "POST"}, receive, send)
    assert [message.get("more_body") for message in sent[-2:]] == [True, False]
    headers = dict(sent[0]["headers"])
    return headers[b"content-type"].decode(), b"".join(message["body"] for message in sent[1:])


def read_strictly(content_type: str, body: bytes) -> list[Any]:
    """What the parts hold, for a parser of MIME that wants all of it to be right."""
    message = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    assert message.is_multipart()
    assert message.defects == []
    parts_ = list(message.iter_parts())
    for part in parts_:
        assert part.defects == []
        assert part.get_content_type() == "application/json"
    return [json.loads(bytes(part.get_payload(decode=True))) for part in parts_]


def read_as_apollo(body: bytes) -> list[Any]:
    """What the parts hold, for Apollo Client: it cuts at the boundary, and headers from what follows an empty line."""
    found: list[Any] = []
    buffer = "\r\n" + body.decode()
    boundary = "\r\n--graphql"
    while (index := buffer.find(boundary)) > -1:
        message, buffer = buffer[:index], buffer[index + len(boundary) :]
        if message.strip():
            headers, _, content = message.partition("\r\n\r\n")
            assert "application/json" in headers
            found.append(json.loads(content))
        elif buffer.startswith("--"):
            break
    assert buffer.startswith("--"), "no end"
    return found


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((), [{}]),
        ((b'{"data":1}', b'{"data":2}'), [{}, {"payload": {"data": 1}}, {"payload": {"data": 2}}]),
        (('{"data":"ä\\r\\n--graphql--🙂"}'.encode(),), [{}, {"payload": {"data": "ä\r\n--graphql--🙂"}}]),
    ],
    ids=["none", "two", "like a boundary"],
)
async def test_the_parts_can_be_read(given: tuple[bytes, ...], expected: list[Any]) -> None:
    """By a strict parser as by Apollo's: a heartbeat at once, then each answer in a part, then the end."""
    media_type, body = await sent_by(Multipart(frames(*given), NEVER))

    assert read_strictly(media_type, body) == expected
    assert read_as_apollo(body) == expected
    assert body.endswith(b"\r\n--graphql--\r\n")
    assert media_type == 'multipart/mixed;boundary="graphql";subscriptionSpec="1.0"'


async def test_a_silent_subscription_is_heard_of() -> None:
    """Parts without a payload come now and then, and nothing is lost for them."""
    response = Multipart(frames(b'{"data":1}', 0.3, b'{"data":2}', 0.3), timedelta(seconds=0.02))
    got = read_strictly(*await sent_by(response))

    assert [part for part in got if part] == [{"payload": {"data": 1}}, {"payload": {"data": 2}}]
    assert got[0] == got[2] == got[-1] == {}
    assert len(got) > 6


async def test_what_ends_a_subscription_is_its_last_part(caplog: pytest.LogCaptureFixture) -> None:
    """With a code and without details, and then the end: no client takes it for complete."""
    known = read_strictly(*await sent_by(Multipart(frames(b'{"data":1}', StoreUnavailable("the store")), NEVER)))
    unknown = read_strictly(*await sent_by(Multipart(frames(b'{"data":1}', ZeroDivisionError("secret")), NEVER)))

    assert [known[1], unknown[1]] == [{"payload": {"data": 1}}] * 2
    assert known[2]["payload"] is None
    assert [error["extensions"]["code"] for error in known[2]["errors"]] == [StoreUnavailable.code]
    assert unknown[2]["errors"][0]["extensions"]["code"] == StackcastError.code
    assert "secret" not in str(unknown)
    assert len(known) == len(unknown) == 3
    assert [record.name for record in caplog.records if record.levelno >= logging.WARNING] == ["stackcast.api"]


@asynccontextmanager
async def streaming(
    service: Service, query: str, **variables: Any
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """The connection on which a subscription has been asked for; nothing is read yet."""
    body = json.dumps({"query": query, "variables": variables}).encode()
    head = [
        "POST /graphql HTTP/1.1",
        f"Host: {service.address}",
        "Content-Type: application/json",
        f"Accept: {ACCEPT}",
        f"Content-Length: {len(body)}",
    ]
    host, port = service.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write("\r\n".join([*head, "", ""]).encode() + body)
    try:
        async with asyncio.timeout(PATIENCE):
            yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def test_a_stack_update_is_followed_to_its_end() -> None:
    """Over the real server; the heartbeat comes before anything has happened."""
    async with parts() as made:
        api = made.api()
        update = a_stack_update()
        await kept(made.backends.updates, update, started(update))
        async with made.served(api=api) as service:
            async with streaming(service, EVENTS, id=update.id) as (reader, _):
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readuntil(b"{}\r\n--graphql")
                await reader.readuntil(b'"seq":0')
                end = StatusChanged(Status.FAILED, Phase.FINISHED)
                await made.append(a_chunk(a_line(), end, update_id=update.id))
                await reader.readuntil(b'"seq":2')
                await reader.readuntil(b"\r\n--\r\n")  # in a chunk of its own
            await eventually(lambda: api.quotas.open == 0)

        assert head.startswith(b"HTTP/1.1 200")
        assert b'content-type: multipart/mixed;boundary="graphql";subscriptionSpec="1.0"\r\n' in head
        assert b"cache-control: no-store\r\n" in head
        assert (api.fanout.followed, made.wakeups.topics) == (0, frozenset())


@pytest.mark.parametrize("abruptly", [True, False])
async def test_a_client_that_leaves_ends_its_subscription(caplog: pytest.LogCaptureFixture, abruptly: bool) -> None:
    """At once, though nothing is to be sent; the log tells of no trouble."""
    async with parts() as made:
        api = made.api()
        async with made.served(api=api) as service:
            for read_first in (b"\r\n\r\n", b"--graphql", b"StackUpdatesReady"):
                async with streaming(service, UPDATES) as (reader, writer):
                    await reader.readuntil(read_first)
                    await eventually(lambda: api.fanout.followed == 1)
                    if abruptly:
                        writer.transport.abort()
                await eventually(lambda: not (api.fanout.followed or api.quotas.open or made.wakeups.topics))

    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


class Nothing(Access):
    """Knows everybody, and lets nobody do anything."""

    def identify(self, authorization: str | None) -> Caller | None:
        return Caller(None, frozenset[Right]())


@pytest.mark.parametrize("accept", [ACCEPT, "multipart/mixed", "multipart/*;q=0.1"])
async def test_what_is_refused_before_it_begins_has_a_status(accept: str) -> None:
    """It is no stream: a client that takes parts alone is told by a status, one that takes JSON as it takes it."""
    forbidden = {"query": UPDATES}
    wrong = [({"query": UPDATES + "{"}, "GRAPHQL_PARSE_FAILED"), ({"query": EVENTS}, "BAD_USER_INPUT")]
    status = 200 if "json" in accept else 400
    async with parts() as made:
        async with made.served() as service:
            for request, code in wrong:
                answer = await service.post(request, {"Accept": accept})
                assert (answer.status, [error["code"] for error in answer.errors]) == (status, [code])
        async with made.served(api=made.api(Nothing({}))) as service:
            answer = await service.post(forbidden, {"Accept": accept})
            assert (answer.status, [error["code"] for error in answer.errors]) == (status, ["FORBIDDEN"])


async def test_parts_count_as_one_operation() -> None:
    """For as long as they come; one too many is answered 429."""
    async with parts() as made:
        api = made.api(operations=1)
        async with made.served(api=api) as service:
            async with streaming(service, UPDATES) as (reader, _):
                await reader.readuntil(b"StackUpdatesReady")
                refused = await service.post({"query": UPDATES}, {"Accept": ACCEPT})
            await eventually(lambda: api.quotas.open == 0)
            after = await service.post({"query": "{ __typename }"}, {"Accept": ACCEPT})

    assert (refused.status, refused.errors[0]["code"]) == (429, "TOO_MANY_OPERATIONS")
    assert (after.status, after.headers["content-type"]) == (200, "application/json; charset=utf-8")


async def test_a_server_that_stops_ends_the_parts(caplog: pytest.LogCaptureFixture) -> None:
    """It waits for nobody who follows."""
    async with parts() as made:
        api = made.api()
        async with made.served(api=api) as service:
            connection = streaming(service, UPDATES)
            reader, _ = await connection.__aenter__()
            await reader.readuntil(b"StackUpdatesReady")
        rest = await reader.read()
        await connection.__aexit__(None, None, None)

        assert b"--graphql--" not in rest
        assert (api.fanout.followed, api.quotas.open) == (0, 0)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
