"""What clients do to connections: too many, silent, slow, and full of what is no message."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import resource
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from graphql_api.domain.errors import StartRefused
from graphql_api.server import serving
from graphql_api.settings import Settings
from graphql_api.transport.connections import CONNECTION_LIMIT, HEAD_LIMIT, QUIET, Limits, Once
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
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)

    assert Limits().connections == min(CONNECTION_LIMIT, soft // 2)


def test_a_service_takes_the_descriptors_that_it_may_have() -> None:
    """Shells give a process few, and let it have more: as many as all connections need, and no more than that."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    program = (
        "import resource\nfrom graphql_api.transport.connections import raise_descriptor_limit\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, (256, {hard}))\nraise_descriptor_limit()\n"
        "print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout

    wanted = 2 * CONNECTION_LIMIT
    assert printed.split() == [str(wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)), str(hard)]


async def test_connections_beyond_the_limit_are_closed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """More are closed at once, with one line in the log, and the server answers again when there is room."""
    async with limited(tmp_path, Limits(connections=3)) as service, AsyncExitStack() as stack:
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
    async with limited(tmp_path, Limits(request_patience=SOON)) as service:
        reader, writer = await connected(service)
        writer.write(said)

        assert await is_closed(reader)
        writer.close()


async def test_a_head_that_comes_in_drops_has_no_more_time(tmp_path: Path) -> None:
    """Each byte in time does not keep a connection: the head as a whole has one limit."""
    async with limited(tmp_path, Limits(request_patience=SOON)) as service:
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


async def test_a_body_that_nobody_reads_has_no_more_time(tmp_path: Path) -> None:
    """A request that was refused by its head is over, however long its body goes on to come in drops."""
    async with limited(tmp_path, Limits(request_patience=SOON)) as service:
        reader, writer = await connected(service)

        async def drip() -> None:
            writer.write(b"POST /graphql HTTP/1.1\r\nHost: elsewhere\r\nContent-Length: 1000000\r\n\r\n")
            while True:
                writer.write(b"x")
                await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        assert b" 421 " in await reader.readline()
        assert await is_closed(reader)
        dripping.cancel()
        writer.close()


async def test_a_socket_outlives_that_limit(tmp_path: Path) -> None:
    """The limit is for connections without a request: a websocket stays as long as it is wanted."""
    limits = Limits(request_patience=timedelta(seconds=0.1))
    async with limited(tmp_path, limits) as service, service.websocket() as socket_:
        reader, writer = await connected(service)
        assert await is_closed(reader)
        await socket_.send(json.dumps(SUBSCRIBE))
        assert (await receive(socket_))["type"] == "next"
        writer.close()


async def test_a_client_that_takes_nothing_is_dropped(tmp_path: Path) -> None:
    """Answers wait in memory for a client that does not read: after a while its connection ends, and they are freed."""
    async with limited(tmp_path, Limits(send_patience=SOON)) as service:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            host, port = service.address.split(":")
            await asyncio.to_thread(client.connect, (host, int(port)))
            client.setblocking(False)
            await asyncio.get_running_loop().sock_sendall(client, introspection(service) * 20)
            await eventually(lambda: not is_held(service, client), PATIENCE)

        assert (await service.post(QUERY)).status == 200


def introspection(service: Service) -> bytes:
    """A short request with a long answer."""
    types = " ".join(f"t{number}: types {{ name description fields {{ name description }} }}" for number in range(20))
    body = json.dumps({"query": f"{{ __schema {{ {types} }} }}"}).encode()
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


# --- what is no request, or more than one


async def told(service: Service, said: bytes) -> tuple[list[str], bytes]:
    """The statuses that a server answers what it is sent with, and all that it said, once it has closed the connection.

    What is said must end in a request to close it, or be no request.
    """
    reader, writer = await connected(service)
    writer.write(said)
    heard = b""
    try:
        async with asyncio.timeout(PATIENCE):
            while more := await reader.read(65536):
                heard += more
    except ConnectionResetError:  # it does not read to the end what it has refused
        pass
    writer.close()
    return [line.split()[1] for line in re.findall(r"HTTP/1\.1 .*", heard.decode())], heard


def posting(service: Service, *fields: str, body: bytes = json.dumps(QUERY).encode(), method: str = "POST") -> bytes:
    """A request on /graphql after which the connection is closed, unless the fields say something else of it."""
    all_fields = [f"Host: {service.address}", "Content-Type: application/json", *fields]
    if not any(field.startswith("Connection:") for field in fields):
        all_fields.append("Connection: close")
    return "\r\n".join([f"{method} /graphql HTTP/1.1", *all_fields, "", ""]).encode() + body


SIZE = f"Content-Length: {len(json.dumps(QUERY))}"
CHUNKED = "Transfer-Encoding: chunked"


def in_chunks(body: bytes, size: int, trailers: bytes = b"") -> bytes:
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n" + trailers + b"\r\n"


@pytest.mark.parametrize(
    "fields",
    [
        [SIZE, SIZE],
        [SIZE, "Content-Length: 3"],
        ["Content-Length: 24, 24"],
        ["Content-Length: +24"],
        ["Content-Length: -1"],
        [SIZE, CHUNKED],
        [CHUNKED, SIZE],
        [CHUNKED, CHUNKED],
        ["Transfer-Encoding : chunked"],
        ["Transfer-Encoding: gzip"],
        ["Transfer-Encoding: xchunked"],
        [SIZE, "Host: elsewhere"],
        [SIZE, "X: folded\r\n into two lines"],
        [SIZE, "X: a\x00b"],
    ],
)
async def test_a_request_with_two_meanings_is_refused(service: Service, fields: list[str]) -> None:
    """A server in front could read it otherwise, and let something pass: it is not answered, and is the last one."""
    statuses, _ = await told(service, posting(service, *fields) + posting(service, SIZE))

    assert statuses in (["400"], [])


@pytest.mark.parametrize(
    "said",
    [
        b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03" + b"x" * 190,
        b"\x00\xff\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT elsewhere:80 HTTP/1.1\r\nHost: elsewhere:80\r\n\r\n",
        b"GET /graphql HTTP/1.1\r\n\r\n",
        b"GET graphql HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["TLS", "bytes", "HTTP/2", "CONNECT", "no host", "no path", "no ASCII"],
)
async def test_what_is_no_request_is_refused(service: Service, caplog: pytest.LogCaptureFixture, said: bytes) -> None:
    """It is answered in the form that clients know, with a sentence, and leaves nothing in the log."""
    statuses, heard = await told(service, said)

    assert statuses == ["400"]
    assert json.loads(heard.partition(b"\r\n\r\n")[2])["errors"][0]["extensions"] == {"code": "BAD_REQUEST"}
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_requests_may_follow_each_other_at_once(service: Service) -> None:
    """Without waiting for the answers, which come in order; a flood of them is cut off."""
    going_on = posting(service, SIZE, "Connection: keep-alive")
    assert (await told(service, going_on * 5 + posting(service, SIZE)))[0] == ["200"] * 6

    statuses, _ = await told(service, going_on * 5000)
    assert "200" not in statuses


async def test_garbage_after_a_request_does_not_answer_it(service: Service) -> None:
    """A refusal never takes the place of the answer to the request before."""
    statuses, _ = await told(service, posting(service, SIZE, "Connection: keep-alive") + b"\x00\r\n\r\n")

    assert statuses == []


@pytest.mark.parametrize(
    "endless", [b"X: " + b"x" * 2_000_000, b"X" * 2_000_000, b"X: y\r\n" * 300_000], ids=["value", "name", "many"]
)
async def test_a_head_without_end_is_refused(service: Service, endless: bytes) -> None:
    """However it grows, it is not read further than its limit, nor is what follows a body."""
    begun = f"GET /healthz HTTP/1.1\r\nHost: {service.address}\r\n".encode()
    fits = begun + b"X: " + b"x" * (HEAD_LIMIT - 1000) + b"\r\nConnection: close\r\n\r\n"
    assert (await told(service, fits))[0] == ["200"]

    statuses, heard = await told(service, begun + endless)
    assert statuses in (["431"], [])  # what is reset may take the answer with it
    assert len(statuses) == heard.count(b"Send fewer headers")
    trailing = in_chunks(json.dumps(QUERY).encode(), 100, endless)
    assert (await told(service, posting(service, CHUNKED, body=trailing)))[0] == []


async def test_a_large_body_is_no_head(service: Service) -> None:
    """Whatever its chunks are like, and whatever else follows it at once."""
    body = json.dumps({**QUERY, "extensions": {"x": "y" * 500_000}}).encode()
    size = f"Content-Length: {len(body)}"
    for said in (
        posting(service, CHUNKED, body=in_chunks(body, len(body))),
        posting(service, CHUNKED, body=in_chunks(body, 70_000)),
        posting(service, CHUNKED, body=in_chunks(body[:-2] + b" " * 20_000 + body[-2:], 7)),
        posting(service, size, body=body),
    ):
        assert (await told(service, said))[0] == ["200"]
    both = posting(service, size, "Connection: keep-alive", body=body) + posting(service, SIZE)
    assert (await told(service, both))[0] == ["200", "200"]


async def test_each_head_is_measured_alone(service: Service) -> None:
    """Wherever what comes is cut: neither a body counts, nor an earlier request."""
    body = json.dumps({**QUERY, "extensions": {"x": "y" * 200_000}}).encode()
    pieces = [body[start : start + 20_000] for start in range(0, len(body), 20_000)]
    again = posting(service, SIZE)
    chunked = posting(service, CHUNKED, "Connection: keep-alive", body=b"%x\r\n" % len(pieces[0]))
    said = [posting(service, f"Content-Length: {len(body)}", "Connection: keep-alive", body=body)]
    said += [chunked[:50], chunked[50:]]
    said += [b"%b\r\n%x\r\n" % (piece, len(after)) for piece, after in pairwise([*pieces, b""])]
    reader, writer = await connected(service)
    for piece in [*said, b"\r\n" + again[:50], again[50:]]:
        writer.write(piece)
        await asyncio.sleep(0.01)  # so that it is likely to be read up to here; whatever it is, it must be answered

    async with asyncio.timeout(PATIENCE):
        assert (await reader.read()).count(b"HTTP/1.1 200 OK") == 3
    writer.close()


async def test_trailers_are_no_headers(tmp_path: Path) -> None:
    """What comes behind the body can't pass for what is checked before it."""
    guarded = {"STACKCAST_TOKEN": "correct-horse-battery"}
    async with limited(tmp_path, Limits(), **guarded) as service:
        token = b"Authorization: Bearer correct-horse-battery\r\n"
        behind = posting(service, CHUNKED, body=in_chunks(json.dumps(QUERY).encode(), 100, token))

        assert (await told(service, behind))[0] == ["401"]


@pytest.mark.parametrize("protocol", ["h2c", "websocket", "other"])
async def test_another_protocol_that_is_offered_is_passed_over(service: Service, protocol: str) -> None:
    """Some clients offer HTTP/2 with their first request: it is answered in HTTP/1.1, whole, and so is the next."""
    offer = [SIZE, "Connection: Upgrade", f"Upgrade: {protocol}"]
    statuses, heard = await told(service, posting(service, *offer) + posting(service, SIZE))

    assert statuses == ["200", "200"]
    assert heard.count(b'{"__typename":"Query"}') == 2


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


async def test_a_subscription_for_one_answer_is_refused(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """The refusal says how to subscribe."""
    query = {"query": 'subscription { stackUpdateChanged(id: "x") { __typename } }'}
    for accept in ("application/json", "application/graphql-response+json", "*/*"):
        answer = await service.post(query, {"Accept": accept})

        assert (answer.status, answer.errors[0]["code"]) == (400, "BAD_REQUEST")
        assert "over a websocket" in answer.errors[0]["message"]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


# --- a server that ends


async def test_a_server_that_ends_by_itself_ends_the_service(tmp_path: Path) -> None:
    """Nobody waits for requests that can't come: whoever serves is told."""

    async def serve() -> None:
        async with limited(tmp_path, Limits()):
            next(task for task in asyncio.all_tasks() if task.get_name() == "server").cancel()
            await asyncio.Event().wait()

    with pytest.raises(StartRefused, match="has stopped answering by itself"):
        await asyncio.wait_for(serve(), PATIENCE)


async def test_one_that_listens_everywhere_is_asked_on_loopback(tmp_path: Path) -> None:
    """The address that is printed and that the demo asks is one that answers."""
    everywhere = {"STACKCAST_HOST": "0.0.0.0", "STACKCAST_TOKEN": "correct-horse-battery"}  # noqa: S104
    async with limited(tmp_path, Limits(), **everywhere) as service:
        answer = await service.post(QUERY, {"Authorization": "Bearer correct-horse-battery"})

    assert service.address.startswith("127.0.0.1:")
    assert answer.status == 200
