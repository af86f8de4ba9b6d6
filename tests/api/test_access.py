"""Who may come in: host names, origins, the token, and how much they may send."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.requests import Request
from websockets.exceptions import ConnectionClosed, InvalidStatus

from graphql_api.domain.errors import PulumiNotFound, StoreUnavailable
from graphql_api.transport.guard import BODY_LIMIT
from graphql_api.transport.health import Readiness
from tests import fake_pulumi
from tests.service import PATIENCE, Service, receive, running_service

QUERY = {"query": "{ __typename }"}
TOKEN = "correct-horse-battery"  # noqa: S105 (a test's token)
INITS_WITHOUT_TOKEN = [
    {},
    {"authorization": "Bearer wrong"},
    {"authorization": 7},
    {"authorization": "Bearer \ud800"},
    {"token": TOKEN},
]


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Service]:
    """A service with a token, another host name and a page that may ask."""
    variables = {
        "STACKCAST_TOKEN": TOKEN,
        "STACKCAST_ALLOWED_HOSTS": "deploy.example",
        "STACKCAST_ALLOWED_ORIGINS": "https://Portal.example/",
    }
    fake_pulumi.install(tmp_path / "bin")
    async with running_service(tmp_path, **variables) as running:
        yield running


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "localhost.evil.example", "[::2]:1", ""])
async def test_an_unknown_host_name_is_refused(service: Service, host: str) -> None:
    """A request under a name that is none of the server's is refused: the browser may have been tricked by DNS."""
    answer = await service.post(QUERY, {"Host": host})

    assert (answer.status, answer.errors[0]["code"]) == (421, "HOST_NOT_ALLOWED")
    assert "STACKCAST_ALLOWED_HOSTS" in answer.errors[0]["message"]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9", "127.0.0.1:1", "[::1]:8321", "[::1]"])
async def test_loopback_names_are_let_in(service: Service, host: str) -> None:
    """Loopback's names pass with any port."""
    assert (await service.post(QUERY, {"Host": host})).status == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://localhost", "http://["]
)
async def test_an_unknown_origin_is_refused(service: Service, origin: str) -> None:
    """A page from elsewhere may not ask, over HTTP or over a websocket."""
    answer = await service.post(QUERY, {"Origin": origin})

    assert (answer.status, answer.errors[0]["code"]) == (403, "ORIGIN_NOT_ALLOWED")
    with pytest.raises(InvalidStatus) as refused:
        async with service.raw_websocket({"Origin": origin}):
            pass
    assert refused.value.response.status_code == 403


async def test_the_servers_own_pages_are_let_in(service: Service) -> None:
    """A page of the same origin may ask, over HTTP and over a websocket."""
    origin = {"Origin": f"http://{service.address}"}

    assert (await service.post(QUERY, origin)).status == 200
    async with service.websocket(headers=origin):
        pass


async def test_an_allowed_origin_may_ask_from_a_browser(guarded: Service) -> None:
    """An origin from STACKCAST_ALLOWED_ORIGINS, however it is typed, passes its preflight and its request."""
    origin = {"Origin": "https://portal.example"}
    ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}

    preflight = await guarded.request("OPTIONS", "/graphql", headers={**origin, **ask})
    answer = await guarded.post(QUERY, {**origin, "Authorization": f"Bearer {TOKEN}", "Host": "deploy.example"})

    assert (preflight.status, preflight.headers["access-control-allow-origin"]) == (200, "https://portal.example")
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, "https://portal.example")


@pytest.mark.parametrize(
    "given", [None, "", TOKEN, "Bearer ", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer é"]
)
async def test_without_the_token_nothing_is_answered(guarded: Service, given: str | None) -> None:
    """HTTP without the right bearer token is answered 401."""
    headers = {} if given is None else {"Authorization": given}

    answer = await guarded.post(QUERY, headers)

    assert (answer.status, answer.errors[0]["code"]) == (401, "UNAUTHENTICATED")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert TOKEN.encode() not in answer.body


async def test_the_token_opens_http_and_websocket(guarded: Service) -> None:
    """The token passes in the header, in the handshake's header, and in connection_init."""
    bearer = f"Bearer {TOKEN}"

    assert (await guarded.post(QUERY, {"Authorization": bearer})).status == 200
    async with guarded.websocket({"authorization": bearer}):
        pass
    async with guarded.websocket({"Authorization": bearer}):
        pass
    async with guarded.websocket(headers={"Authorization": bearer}):
        pass


@pytest.mark.parametrize("init", INITS_WITHOUT_TOKEN)
async def test_a_websocket_without_the_token_is_closed(
    guarded: Service, caplog: pytest.LogCaptureFixture, init: dict[str, object]
) -> None:
    """connection_init without the right token is answered by closing with 4403, and nothing goes into the log."""
    async with guarded.raw_websocket() as socket:
        await socket.send(json.dumps({"type": "connection_init", "payload": init}))
        with pytest.raises(ConnectionClosed) as closed:
            await receive(socket)

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4403
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_only_graphql_transport_ws_is_spoken(service: Service) -> None:
    """Another subprotocol is closed with 4406."""
    from websockets.asyncio.client import connect
    from websockets.typing import Subprotocol

    async with connect(
        f"ws://{service.address}/graphql", subprotocols=[Subprotocol("graphql-ws")], proxy=None
    ) as socket:
        with pytest.raises(ConnectionClosed) as closed:
            await receive(socket)

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4406


async def test_a_body_beyond_the_limit_is_refused(service: Service) -> None:
    """A body over the limit is answered 413, announced in Content-Length or not."""
    body = b'{"query": "' + b" " * BODY_LIMIT + b'"}'

    announced = await service.post(body)
    chunked = await _send_chunked(service, body)

    assert (announced.status, announced.errors[0]["code"]) == (413, "BODY_TOO_LARGE")
    assert chunked.startswith("HTTP/1.1 413")


async def _send_chunked(service: Service, body: bytes) -> str:
    """The status line that a body of unannounced length is answered with."""
    host, port = service.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /graphql HTTP/1.1\r\nHost: {service.address}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
    for start in range(0, len(body), 60_000):
        chunk = body[start : start + 60_000]
        writer.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
    writer.write(b"0\r\n\r\n")
    async with asyncio.timeout(PATIENCE):
        line = (await reader.readline()).decode()
    writer.close()
    return line


async def test_mutations_are_not_taken_from_get(service: Service) -> None:
    """A link can't make a browser change anything: GET is for queries, and refused with a sentence and a code."""
    answer = await service.request("GET", "/graphql?query=mutation%7B__typename%7D")

    assert (answer.status, answer.errors[0]["code"]) == (405, "METHOD_NOT_ALLOWED")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
async def test_forms_are_not_taken(service: Service, kind: str) -> None:
    """A form on another page can't make a browser ask."""
    answer = await service.post(QUERY, {"Content-Type": kind})

    assert (answer.status, answer.errors[0]["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")


async def test_probes_need_neither_token_nor_host_name(guarded: Service) -> None:
    """Probes ask by address and without a token; both say ok while all is well."""
    for path in ("/healthz", "/readyz"):
        answer = await guarded.request("GET", path, headers={"Host": "10.0.0.7"})

        assert (answer.status, answer.json["status"]) == (200, "ok")


async def test_the_ide_of_the_framework_is_never_served(service: Service) -> None:
    """A browser that opens /graphql gets no page that would load scripts from elsewhere."""
    answer = await service.request("GET", "/graphql", headers={"Accept": "text/html"})

    assert answer.status == 406
    assert b"<script" not in answer.body


async def test_a_service_without_pulumi_is_alive_and_not_ready(tmp_path: Path) -> None:
    """A probe for traffic is told what is missing; one that would restart the service is told that it lives."""
    async with running_service(tmp_path, PATH=str(tmp_path / "empty")) as service:
        alive, ready = [await service.request("GET", path) for path in ("/healthz", "/readyz")]

    assert (alive.status, ready.status) == (200, 503)
    assert "no Pulumi CLI" in ready.json["pulumi"]
    assert (ready.json["store"], ready.json["worker"]) == ("ok", "ok")


async def test_a_probe_is_told_no_details(caplog: pytest.LogCaptureFixture) -> None:
    """Anybody may ask a probe's question; paths and a driver's words are in the log alone, once until they change."""
    words = ["/srv/stackcast.db: disk I/O error"] * 2 + [""] + ["/srv/stackcast.db: disk I/O error"]

    async def ping() -> None:
        if word := words.pop(0):
            raise StoreUnavailable(word)

    async def find_pulumi() -> object:
        raise PulumiNotFound("/opt/pulumi version did not answer.")

    readiness = Readiness(ping, lambda: True, find_pulumi)
    answers = [bytes((await readiness.answer(Request({"type": "http"}))).body).decode() for _ in range(4)]

    assert "The store does not answer" in answers[0]
    assert '"store":"ok"' in answers[2]
    assert not any("/srv" in answer or "/opt" in answer for answer in answers)
    logged = [record.getMessage() for record in caplog.records]
    assert sum("disk I/O error" in line for line in logged) == 2
    assert sum("/opt/pulumi" in line for line in logged) == 1
