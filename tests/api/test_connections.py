"""What clients do to connections: too many, silent, slow, and full of what is no message."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from graphql_api.domain.errors import StartRefused
from graphql_api.server import serving
from graphql_api.settings import Settings
from graphql_api.transport.connections import LIMITS, QUIET, Limits, Once, accepting_quietly
from tests import fake_pulumi
from tests.runner.waiting import eventually
from tests.service import PATIENCE, Service, environment, receive

QUERY = {"query": "{ __typename }"}
SOON = timedelta(seconds=0.5)
SUBSCRIBE = {"id": "1", "type": "subscribe", "payload": {"query": "{ __typename }"}}


@asynccontextmanager
async def limited(root: Path, limits: Limits, **variables: str) -> AsyncIterator[Service]:
    fake_pulumi.install(root / "bin")
    (root / "modules").mkdir()
    async with serving(Settings.from_environment(environment(root, **variables)), limits) as address:
        yield Service(address, root)


async def connected(service: Service) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = service.address.split(":")
    return await asyncio.open_connection(host, int(port))


async def is_closed(reader: asyncio.StreamReader) -> bool:
    """Wait until the server has closed it; what it said before is dropped."""
    try:
        async with asyncio.timeout(PATIENCE):
            await reader.read()
    except ConnectionResetError:
        pass
    return True


# --- how many, and how long


def test_the_limit_leaves_descriptors_for_the_work() -> None:
    """Connections can't use up what the store, Pulumi's files and children need."""
    assert 1 <= LIMITS.connections <= 1000


async def test_connections_beyond_the_limit_are_closed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """More are closed at once, with one line in the log, and the server answers again when there is room."""
    async with limited(tmp_path, replace(LIMITS, connections=3)) as service, AsyncExitStack() as stack:
        for _ in range(3):
            stack.callback((await connected(service))[1].close)
        for _ in range(5):
            reader, writer = await connected(service)
            assert await is_closed(reader)
            writer.close()
        await stack.aclose()
        answer = await again(service)

    assert answer == 200
    assert sum("connections are open" in record.getMessage() for record in caplog.records) <= 1


async def again(service: Service) -> int:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return (await service.post(QUERY)).status
            except OSError:
                await asyncio.sleep(0.01)  # until the server has noticed that the others are gone


@pytest.mark.parametrize(
    "said", [b"", b"POST /graphql HTTP/1.1\r\nHost: 127", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"]
)
async def test_a_connection_without_a_request_is_closed(tmp_path: Path, said: bytes) -> None:
    """Whoever connects and asks nothing, half a request, or nothing more after an answer, is not waited for."""
    async with limited(tmp_path, replace(LIMITS, request_patience=SOON)) as service:
        reader, writer = await connected(service)
        writer.write(said)

        assert await is_closed(reader)
        writer.close()


async def test_a_head_that_comes_in_drops_has_no_more_time(tmp_path: Path) -> None:
    """Each byte in time does not keep a connection: the head as a whole has one limit."""
    async with limited(tmp_path, replace(LIMITS, request_patience=SOON)) as service:
        reader, writer = await connected(service)

        async def drip() -> None:
            writer.write(b"GET /healthz HTTP/1.1\r\nX: ")
            while True:
                writer.write(b"x")
                await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        assert await is_closed(reader)
        dripping.cancel()
        writer.close()


async def test_a_socket_outlives_that_limit(tmp_path: Path) -> None:
    """The limit is for connections without a request: a websocket stays as long as it is wanted."""
    limits = replace(LIMITS, request_patience=timedelta(seconds=0.1))
    async with limited(tmp_path, limits) as service, service.websocket() as socket_:
        reader, writer = await connected(service)
        assert await is_closed(reader)
        await socket_.send(json.dumps(SUBSCRIBE))
        assert (await receive(socket_))["type"] == "next"
        writer.close()


async def test_a_client_that_takes_nothing_is_dropped(tmp_path: Path) -> None:
    """Answers wait in memory for a client that does not read: after a while its connection ends, and they are freed."""
    async with limited(tmp_path, replace(LIMITS, send_patience=SOON)) as service:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            host, port = service.address.split(":")
            await asyncio.to_thread(client.connect, (host, int(port)))
            client.setblocking(False)
            await asyncio.get_running_loop().sock_sendall(client, introspection(service) * 500)
            await eventually(lambda: not is_held(service, client), PATIENCE)

        assert (await service.post(QUERY)).status == 200


def introspection(service: Service) -> bytes:
    """A short request with a long answer."""
    body = b'{"query": "{ __schema { types { name description fields { name description } } } }"}'
    head = f"POST /graphql HTTP/1.1\r\nHost: {service.address}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def is_held(service: Service, client: socket.socket) -> bool:
    """Whether the server still has its end of the connection: the client's would learn of it only by sending more."""
    ends = [f":{int(service.address.split(':')[1]):04X}", f":{client.getsockname()[1]:04X}"]
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any([row[1][-5:], row[2][-5:]] == ends for row in rows)


def test_a_warning_is_repeated_once_a_minute() -> None:
    """A flood of one warning stays one line a minute."""
    now = 0.0
    once = Once(lambda: now)

    first = [once(), once(), once()]
    now += QUIET.total_seconds()

    assert first == [True, False, False]
    assert [once(), once()] == [True, False]


def test_asyncio_does_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Out of descriptors asyncio complains of every attempt: one line of it passes, and all else does."""
    logger = logging.getLogger("asyncio")
    with accepting_quietly():
        for _ in range(1000):
            logger.error("socket.accept() out of system resource\nsocket: 7")
        logger.error("something else")

    assert [record.getMessage().split("\n")[0] for record in caplog.records] == [
        "socket.accept() out of system resource",
        "something else",
    ]


# --- messages that are none


INITS = [
    "[1]",
    "5",
    "null",
    '"x"',
    "{}",
    "[" * 100_000,
    '{"type": 5}',
    "9" * 5000,
    '{"type": "connection_init", "payload": 5}',
]
MESSAGES: list[Any] = [
    SUBSCRIBE | {"payload": None},
    SUBSCRIBE | {"payload": {"query": 5}},
    SUBSCRIBE | {"payload": {"query": "{ __typename }", "variables": [1]}},
    SUBSCRIBE | {"payload": {"query": "{ __typename }", "operationName": 5}},
    SUBSCRIBE | {"id": ["1"]},
    {"type": "complete", "id": {}},
    {"type": "x" * 5000},
]


@pytest.mark.parametrize("text", INITS)
async def test_garbage_on_a_socket_closes_it(service: Service, caplog: pytest.LogCaptureFixture, text: str) -> None:
    """Before any token is known, whatever is no message closes the socket with 4400 and leaves nothing in the log."""
    async with service.raw_websocket() as socket_:
        await socket_.send(text)
        with pytest.raises(ConnectionClosed) as closed:
            await receive(socket_)

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4400
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("message", MESSAGES)
async def test_a_malformed_message_closes_the_socket(
    service: Service, caplog: pytest.LogCaptureFixture, message: dict[str, Any]
) -> None:
    """So does a message of the wrong shape on an open socket."""
    async with service.websocket() as socket_:
        await socket_.send(json.dumps(message))
        with pytest.raises(ConnectionClosed) as closed:
            await receive(socket_)

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4400
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_subscription_over_http_is_refused(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """The refusal says where to subscribe, whatever kinds of answers the client accepts."""
    query = {"query": 'subscription { stackUpdateChanged(id: "x") { __typename } }'}
    for accept in ("application/json", "text/event-stream", "multipart/mixed;subscriptionSpec=1.0"):
        answer = await service.post(query, {"Accept": accept})

        assert (answer.status, answer.errors[0]["code"]) == (400, "BAD_REQUEST")
        assert "over a websocket" in answer.errors[0]["message"]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


# --- a server that ends


async def test_a_server_that_ends_by_itself_ends_the_service(tmp_path: Path) -> None:
    """Nobody waits for requests that can't come: whoever serves is told."""

    async def serve() -> None:
        async with limited(tmp_path, LIMITS):
            next(task for task in asyncio.all_tasks() if task.get_name() == "server").cancel()
            await asyncio.Event().wait()

    with pytest.raises(StartRefused, match="has stopped answering by itself"):
        await asyncio.wait_for(serve(), PATIENCE)


async def test_one_that_listens_everywhere_is_asked_on_loopback(tmp_path: Path) -> None:
    """The address that is printed and that the demo asks is one that answers."""
    everywhere = {"STACKCAST_HOST": "0.0.0.0", "STACKCAST_TOKEN": "correct-horse-battery"}  # noqa: S104
    async with limited(tmp_path, LIMITS, **everywhere) as service:
        answer = await service.post(QUERY, {"Authorization": "Bearer correct-horse-battery"})

    assert service.address.startswith("127.0.0.1:")
    assert answer.status == 200
