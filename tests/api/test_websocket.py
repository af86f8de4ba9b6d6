"""graphql-transport-ws, to the letter: wrong messages, many operations on one socket, and clients that go quiet."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from graphql_api.domain.events import StatusChanged
from graphql_api.domain.ports import UPDATES_TOPIC
from graphql_api.domain.records import Phase, Status
from graphql_api.transport.access import Access
from graphql_api.transport.api import Api
from graphql_api.transport.guard import BODY_LIMIT
from graphql_api.transport.websocket import SocketLimits
from tests.api.parts import Parts, parts
from tests.api.watching import UPDATES
from tests.builders import FAILURE, a_chunk, a_line, a_stack_update, following, kept, started
from tests.runner.waiting import eventually
from tests.service import PATIENCE, PROTOCOL, Service, receive

QUERY = "{ __typename }"
SOON = timedelta(seconds=0.3)
EVENTS = """
subscription ($id: ID!) {
  stackUpdateEvents(id: $id) { ... on StackUpdateEventBatch { seq events { seq ... on LogLine { text } } } }
}"""
#: What the service's own tasks of this protocol are called: none of them outlives its socket.
TASKS = {
    "websocket operation",
    "websocket ping",
    "answer subscribers",
    "tell subscribers",
    "watch all stack updates",
    "read a log",
}


def subscribe(query: str = QUERY, id_: object = "1", **payload: Any) -> dict[str, Any]:
    return {"type": "subscribe", "id": id_, "payload": {"query": query, **payload}}


async def send(socket: ClientConnection, message: object) -> None:
    await socket.send(message if isinstance(message, str | bytes) else json.dumps(message))


async def closed(socket: ClientConnection) -> int:
    """The code of the close frame that the server sends; what comes before it is dropped."""
    with pytest.raises(ConnectionClosed) as found:  # noqa: PT012 (how many messages come before it does not matter)
        while True:
            await receive(socket)
    assert found.value.rcvd is not None, "the connection broke without a close frame"
    return int(found.value.rcvd.code)


async def answers(socket: ClientConnection) -> None:
    """The socket is alive: it answers."""
    await send(socket, {"type": "ping", "payload": {"alive": 1}})
    while await receive(socket) != {"type": "pong", "payload": {"alive": 1}}:
        pass


def at_rest(made: Parts, api: Api) -> bool:
    """Nothing goes on any more for any client."""
    tasks = {task.get_name() for task in asyncio.all_tasks()}
    return not (api.fanout.followed or api.quotas.open or made.wakeups.topics or tasks & TASKS)


@pytest.fixture
async def open_socket(caplog: pytest.LogCaptureFixture) -> AsyncIterator[ClientConnection]:
    """An acknowledged socket, of whose client nothing may get into the log."""
    async with parts() as made:
        api = made.api()
        async with made.served(api=api) as service, service.websocket() as socket:
            yield socket
            await socket.close()
            await eventually(lambda: at_rest(made, api))
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


# --- every wrong message


NO_MESSAGES: list[tuple[object, int]] = [
    ("", 4400),
    ("x", 4400),
    ("{", 4400),
    ("[]", 4400),
    ('"x"', 4400),
    ("1", 4400),
    ("null", 4400),
    ("true", 4400),
    ("{}", 4400),
    ("NaN", 4400),
    ("\0", 4400),
    (b'{"type":"ping"}', 4400),
    (b"\xff\x00", 4400),
    ({"type": None}, 4400),
    ({"type": 5}, 4400),
    ({"type": ["ping"]}, 4400),
    ({"type": ""}, 4400),
    ({"type": "PING"}, 4400),
    ({"type": "start", "id": "1", "payload": {"query": QUERY}}, 4400),
    ({"type": "connection_terminate"}, 4400),
    ({"type": "connection_ack"}, 4400),
    ({"type": "next", "id": "1", "payload": {}}, 4400),
    ({"type": "error", "id": "1", "payload": []}, 4400),
    ({"type": "ping", "payload": "x"}, 4400),
    ({"type": "ping", "payload": []}, 4400),
    ({"type": "pong", "payload": 1}, 4400),
    ({"type": "complete"}, 4400),
    ({"type": "complete", "id": []}, 4400),
    ({"type": "complete", "id": 1}, 4400),
    ({"type": "complete", "id": ""}, 4400),
    ({"type": "subscribe", "payload": {"query": QUERY}}, 4400),
    (subscribe(id_=None), 4400),
    (subscribe(id_=""), 4400),
    (subscribe(id_=1), 4400),
    (subscribe(id_=[]), 4400),
    (subscribe(id_={}), 4400),
    ("ä" * 200, 4400),
    ({"type": "\ud800" * 200}, 4400),
]
AFTER_INIT: list[tuple[object, int]] = [
    ({"type": "connection_init"}, 4429),
    ({"type": "subscribe", "id": "1"}, 4400),
    ({"type": "subscribe", "id": "1", "payload": None}, 4400),
    ({"type": "subscribe", "id": "1", "payload": "x"}, 4400),
    ({"type": "subscribe", "id": "1", "payload": []}, 4400),
    ({"type": "subscribe", "id": "1", "payload": {}}, 4400),
    ({"type": "subscribe", "id": "1", "payload": {"query": None}}, 4400),
    ({"type": "subscribe", "id": "1", "payload": {"query": 5}}, 4400),
    (subscribe(variables=[]), 4400),
    (subscribe(variables="{}"), 4400),
    (subscribe(operationName=5), 4400),
    (subscribe(extensions="x"), 4400),
]
BEFORE_INIT: list[tuple[object, int]] = [
    (subscribe(), 4401),
    ({"type": "connection_init", "payload": "x"}, 4400),
    ({"type": "connection_init", "payload": []}, 4400),
    ({"type": "connection_init", "payload": 1}, 4400),
]


def shown(message: object) -> str:
    return str(message)[:60].encode("ascii", "backslashreplace").decode()


@pytest.mark.parametrize(("message", "code"), [*NO_MESSAGES, *AFTER_INIT], ids=shown)
async def test_a_wrong_message_closes_the_socket(open_socket: ClientConnection, message: object, code: int) -> None:
    """With its code, a close frame and a reason, and with nothing in the log."""
    await send(open_socket, message)

    assert await closed(open_socket) == code
    assert open_socket.close_reason


@pytest.mark.parametrize(("message", "code"), [*NO_MESSAGES, *BEFORE_INIT], ids=shown)
async def test_a_wrong_message_before_any_token_closes_the_socket(
    caplog: pytest.LogCaptureFixture, message: object, code: int
) -> None:
    """In the same way."""
    async with parts() as made, made.served() as service, service.raw_websocket() as socket:
        await send(socket, message)
        assert await closed(socket) == code

    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_what_is_no_text_or_too_long_closes_the_socket(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """A text that is not UTF-8 with 1007, one beyond the limit with 1009; a client's mistake is no line in the log."""
    for message, code in ((b"\xff", 1007), (b" " * (BODY_LIMIT + 1), 1009)):
        async with service.websocket() as socket:
            with suppress(ConnectionClosed):  # it may break while much is sent
                await socket.send(message, text=True)
            assert await closed(socket) == code

    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("offered", [None, ["graphql-ws"], ["graphql-transport-wss", "soap"]])
async def test_another_subprotocol_is_closed(offered: list[str] | None) -> None:
    """4406, after the handshake, so that the client learns of it."""
    async with parts() as made, made.served() as service:
        subprotocols = [Subprotocol(name) for name in offered] if offered else None
        async with connect(f"ws://{service.address}/graphql", subprotocols=subprotocols, proxy=None) as socket:
            assert await closed(socket) == 4406


async def test_of_several_subprotocols_ours_is_taken() -> None:
    """Wherever it stands."""
    async with parts() as made, made.served() as service:
        subprotocols = [Subprotocol("graphql-ws"), Subprotocol(PROTOCOL)]
        async with connect(f"ws://{service.address}/graphql", subprotocols=subprotocols, proxy=None) as socket:
            await send(socket, {"type": "connection_init"})

            assert await receive(socket) == {"type": "connection_ack"}
            assert socket.subprotocol == PROTOCOL


@pytest.mark.parametrize("init", [{}, {"payload": None}, {"payload": {}}, {"payload": {"a": [1]}}, {"other": 1}])
async def test_a_connection_is_initialised(init: dict[str, Any]) -> None:
    """With a payload or without one; a ping may come before."""
    async with parts() as made, made.served() as service, service.raw_websocket() as socket:
        await send(socket, {"type": "ping"})
        await send(socket, {"type": "pong"})
        await send(socket, {"type": "connection_init", **init})

        assert [await receive(socket), await receive(socket)] == [{"type": "pong"}, {"type": "connection_ack"}]


@pytest.mark.parametrize("payload", [{"a": 1}, {"a": [None, "ä\ud800", 2**70]}, {"": {}}])
async def test_a_ping_is_answered_with_what_it_bears(open_socket: ClientConnection, payload: dict[str, Any]) -> None:
    """The pong has the same payload."""
    await send(open_socket, {"type": "ping", "payload": payload})

    assert await receive(open_socket) == {"type": "pong", "payload": payload}


async def test_no_payload_of_a_ping_is_too_much(open_socket: ClientConnection) -> None:
    """Whatever can be read can be written: numbers that JSON can't say come back as null, nesting as it was."""
    await send(open_socket, '{"type":"ping","payload":{"a":1e400,"b":' + str(2**70) + "}}")
    assert await receive(open_socket) == {"type": "pong", "payload": {"a": None, "b": 2**70}}
    for depth in (250, 500, 800):
        await send(open_socket, '{"type":"ping","payload":{"a":' + "[" * depth + "]" * depth + "}}")

        assert (await receive(open_socket))["type"] == "pong"


# --- many operations on one socket


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"query": "{"}, "GRAPHQL_PARSE_FAILED"),
    ({"query": "\0"}, "GRAPHQL_PARSE_FAILED"),
    ({"query": "{ nothing }"}, "GRAPHQL_VALIDATION_FAILED"),
    ({"query": "subscription { stackUpdatesChanged { nothing } }"}, "GRAPHQL_VALIDATION_FAILED"),
    ({"query": "query A { __typename } query B { __typename }"}, "OPERATION_RESOLUTION_FAILURE"),
    ({"query": QUERY, "operationName": "A"}, "OPERATION_RESOLUTION_FAILURE"),
    ({"query": EVENTS}, "BAD_USER_INPUT"),
    ({"query": EVENTS, "variables": {"id": "x"}}, "BAD_USER_INPUT"),
    ({"extensions": {"persistedQuery": {"version": 1, "sha256Hash": "0"}}}, "PERSISTED_QUERY_NOT_FOUND"),
    ({"extensions": {"persistedQuery": []}}, "BAD_REQUEST"),
]


async def test_a_wrong_operation_is_an_error_and_leaves_the_others_alone(caplog: pytest.LogCaptureFixture) -> None:
    """Each has its code; the subscription beside them goes on, and nothing is logged."""
    async with parts() as made, made.served() as service, service.websocket() as socket:
        await send(socket, subscribe(UPDATES, "sibling"))
        assert (await receive(socket))["id"] == "sibling"
        for number, (payload, code) in enumerate(WRONG):
            await send(socket, {"type": "subscribe", "id": str(number), "payload": payload})
            message = await receive(socket)
            assert (message["type"], message["id"]) == ("error", str(number))
            assert [error["extensions"]["code"] for error in message["payload"]] == [code]
        await kept(made.backends.updates, update := a_stack_update(), update.failed(update.created_at, FAILURE))
        await made.wakeups.announce(UPDATES_TOPIC)
        push = await receive(socket)

    assert (push["type"], push["id"]) == ("next", "sibling")
    assert push["payload"]["data"]["stackUpdatesChanged"]["stackUpdate"]["id"] == update.id
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_an_id_can_be_used_again(open_socket: ClientConnection) -> None:
    """After `complete`, whoever has sent it, and after `error`; one nobody uses may be completed."""
    for _ in range(3):
        await send(open_socket, subscribe())
        assert [(await receive(open_socket))["type"] for _ in range(2)] == ["next", "complete"]
        await send(open_socket, subscribe("{"))
        assert (await receive(open_socket))["type"] == "error"
        await send(open_socket, subscribe(UPDATES))
        assert (await receive(open_socket))["type"] == "next"
        await send(open_socket, {"type": "complete", "id": "1"})
    await send(open_socket, {"type": "complete", "id": "never used"})
    await answers(open_socket)


async def test_an_id_in_use_closes_the_socket(open_socket: ClientConnection) -> None:
    """4409; another id is another operation."""
    await send(open_socket, subscribe(UPDATES, "1"))
    await send(open_socket, subscribe(UPDATES, "2"))
    assert {(await receive(open_socket))["id"] for _ in range(2)} == {"1", "2"}
    await send(open_socket, subscribe(QUERY, "1"))

    assert await closed(open_socket) == 4409


async def test_an_id_is_any_text(open_socket: ClientConnection) -> None:
    """It comes back as it was."""
    for id_ in ('"', "\\", "\n\0", "ä🙂", "\ud800", "x" * 10_000):
        await send(open_socket, subscribe(QUERY, id_))

        assert [(await receive(open_socket))["id"] for _ in range(2)] == [id_, id_]


async def test_a_socket_has_so_many_operations(caplog: pytest.LogCaptureFixture) -> None:
    """One more is an error with a code, and the others go on; when one ends, there is room again."""
    limits = SocketLimits(operations=2)
    async with parts() as made, made.served(limits=limits) as service, service.websocket() as socket:
        for id_ in ("1", "2"):
            await send(socket, subscribe(UPDATES, id_))
            assert (await receive(socket))["type"] == "next"
        await send(socket, subscribe(QUERY, "3"))
        refused = await receive(socket)
        await send(socket, {"type": "complete", "id": "1"})
        await send(socket, subscribe(QUERY, "3"))
        after = [(await receive(socket))["type"] for _ in range(2)]

    assert (refused["type"], refused["id"]) == ("error", "3")
    assert refused["payload"][0]["extensions"]["code"] == "TOO_MANY_OPERATIONS"
    assert after == ["next", "complete"]


async def test_a_caller_has_so_many_operations_and_sockets() -> None:
    """On all its ways together: more are refused, with a close code that clients retry; all of it is counted down."""
    async with parts() as made:
        api = made.api(Access({"one-token": "ann", "other-token": "bob"}), operations=1, sockets=2)
        async with made.served(api=api) as service:
            ann = {"Authorization": "Bearer one-token"}
            async with service.websocket(ann) as socket, service.websocket(ann) as second:
                await send(socket, subscribe(UPDATES))
                assert (await receive(socket))["type"] == "next"
                await send(second, subscribe(QUERY))
                refused = await receive(second)
                over_http = await service.post({"query": QUERY}, ann)
                async with service.raw_websocket() as third:
                    await send(third, {"type": "connection_init", "payload": ann})
                    code = await closed(third)
                async with service.websocket({"Authorization": "Bearer other-token"}) as others:
                    await answers(others)
                await answers(socket)
            await eventually(lambda: at_rest(made, api))
            async with service.websocket(ann):
                pass

    assert (refused["type"], refused["payload"][0]["extensions"]["code"]) == ("error", "TOO_MANY_OPERATIONS")
    assert (over_http.status, code) == (429, 1013)


# --- who goes quiet


async def test_the_server_asks_who_is_there() -> None:
    """Its pings come of themselves; who answers them stays."""
    limits = SocketLimits(ping=timedelta(seconds=0.05), silence=SOON)
    async with parts() as made, made.served(limits=limits) as service, service.websocket() as socket:
        began = time.monotonic()
        while time.monotonic() - began < 3 * SOON.total_seconds():
            assert await receive(socket) == {"type": "ping"}
            await send(socket, {"type": "pong"})

        await answers(socket)


async def test_who_answered_once_and_is_silent_is_gone() -> None:
    """4499, which clients retry after: it may have slept. Its subscriptions end."""
    limits = SocketLimits(ping=timedelta(seconds=0.05), silence=SOON)
    async with parts() as made:
        api = made.api()
        async with made.served(api=api, limits=limits) as service, service.websocket() as socket:
            await send(socket, subscribe(UPDATES))
            await send(socket, {"type": "pong"})

            assert await closed(socket) == 4499
            await eventually(lambda: at_rest(made, api))


async def test_who_never_answers_pings_is_kept() -> None:
    """Not every client knows them: as long as it takes what it is sent, it stays."""
    limits = SocketLimits(ping=timedelta(seconds=0.05), silence=timedelta(seconds=0.1))
    async with parts() as made, made.served(limits=limits) as service, service.websocket() as socket:
        for _ in range(10):
            assert await receive(socket) == {"type": "ping"}
        await answers(socket)


async def test_who_asks_for_nothing_is_sent_away() -> None:
    """4499 after a while; not while an operation is open, even a silent one."""
    limits = SocketLimits(idle=SOON)
    async with parts() as made, made.served(limits=limits) as service, service.websocket() as busy:
        await send(busy, subscribe(UPDATES))
        assert (await receive(busy))["type"] == "next"
        for _ in range(2):
            async with service.websocket() as idle:
                assert await closed(idle) == 4499
        await answers(busy)
        await send(busy, {"type": "complete", "id": "1"})

        assert await closed(busy) == 4499


async def test_who_does_not_initialise_is_sent_away() -> None:
    """4408, also when it pings all the while."""
    async with parts() as made, made.served(limits=SocketLimits(init=SOON)) as service:
        async with service.raw_websocket() as silent:
            assert await closed(silent) == 4408
        async with service.raw_websocket() as pinging:
            with suppress(ConnectionClosed):
                while True:
                    await answers(pinging)
                    await asyncio.sleep(0.02)

            assert pinging.close_code == 4408


async def test_a_flood_of_messages_waits_and_starves_nobody() -> None:
    """5,000 pings: the first pass at once, the others at their pace, while other clients are answered."""
    async with parts() as made:
        api = made.api()
        limits = SocketLimits(ping=timedelta(seconds=0.1))
        async with made.served(api=api, limits=limits) as service, service.websocket() as other:
            flooding = await service.raw_websocket()
            await send(flooding, {"type": "connection_init"})
            await send(flooding, subscribe(UPDATES))
            pongs = 0

            async def count() -> None:
                nonlocal pongs
                async for message in flooding:
                    pongs += '"pong"' in str(message)

            for _ in range(5000):
                flooding.protocol.send_text(b'{"type":"ping"}')
            flooding.transport.write(b"".join(flooding.protocol.data_to_send()))
            counting = asyncio.create_task(count())
            await eventually(lambda: pongs >= limits.messages - 2)
            for number in range(100):
                await send(other, subscribe(QUERY, str(number)))
                assert [await next_of(other, str(number)) for _ in range(2)] == ["next", "complete"]
            so_far = pongs
            assert not counting.done()
            flooding.transport.abort()
            await asyncio.wait([counting])
            assert isinstance(counting.exception(), ConnectionClosed)
            await other.close()
            await eventually(lambda: at_rest(made, api))

    assert so_far < 2500


async def test_what_a_client_has_sent_before_it_left_is_not_worked_off() -> None:
    """Thousands of its messages wait for their turn, none of which is answered: it is found out that it is gone."""
    async with parts() as made:
        api = made.api()
        async with made.served(api=api, limits=SocketLimits(ping=timedelta(seconds=0.1))) as service:
            socket = await service.raw_websocket()
            await send(socket, {"type": "connection_init"})
            await send(socket, subscribe(UPDATES))
            await eventually(lambda: api.fanout.followed == 1)
            for _ in range(5000):
                socket.protocol.send_text(b'{"type":"complete","id":"x"}')
            socket.transport.write(b"".join(socket.protocol.data_to_send()))
            await answers_http(service)
            socket.transport.abort()

            await eventually(lambda: at_rest(made, api))


async def answers_http(service: Service) -> None:
    """The server is alive; what was sent to it before has reached it."""
    assert (await service.post({"query": QUERY})).status == 200


async def next_of(socket: ClientConnection, id_: str) -> str:
    """The type of an operation's next message."""
    while (message := await receive(socket)).get("id") != id_:
        pass
    return str(message["type"])


VALUES: list[Any] = [None, True, 0, -1, 2**70, 1.5, "", "x", "1", "\ud800", "ä🙂\0", [], [[]], {}, {"a": None}]
TYPES = ["connection_init", "subscribe", "complete", "ping", "pong", "next", "error", "connection_ack", "", "x"]
QUERIES = [QUERY, UPDATES, "{", "{ a }", "mutation { a }", "{ ...F } fragment F on Query { ...F }", "#", '"""']
MEMBERS = ["query", "variables", "operationName", "extensions", "x"]


def any_value(source: random.Random, depth: int = 0) -> Any:
    if depth < 3 and source.random() < 0.3:
        return {source.choice([*MEMBERS, *TYPES]): any_value(source, depth + 1) for _ in range(source.randrange(4))}
    return source.choice([*VALUES, *QUERIES])


def nearly_a_message(source: random.Random) -> str:
    """One whose members are of the right shape more often than not."""
    payload = {"query": source.choice(QUERIES), source.choice(MEMBERS): any_value(source)}
    message = {"type": source.choice(TYPES), "id": source.choice("123"), "payload": payload}
    for name in ("type", "id", "payload"):
        if source.random() < 0.15:
            message[name] = any_value(source)
        elif source.random() < 0.1:
            del message[name]
    return json.dumps(message)


def garbage(source: random.Random) -> Iterator[str | bytes]:
    """Messages without end: bytes, texts, JSON of all shapes, and such as are nearly right."""
    while True:
        text = nearly_a_message(source)
        where = source.randrange(len(text))
        query, id_ = source.choice(QUERIES), str(source.randrange(50))
        kinds: list[str | bytes] = [
            source.randbytes(source.randrange(50)),
            text[:where],
            text[:where] + source.choice([*'{}",\\\0', "[[[", "NaN", "1e999"]) + text[where:],
            json.dumps(any_value(source)),
            text,
            json.dumps(subscribe(query, id_, variables={"": any_value(source)})),  # right in its form
        ]
        yield source.choices(kinds, [1, 1, 1, 1, 2, 4])[0]


async def test_a_thousand_random_messages_do_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    """After each of them the socket answers, or has been closed with a code; the log tells of none; nothing is left.

    The seed is shown when it fails.
    """
    seed = random.randrange(2**32)  # noqa: S311 (no secret)
    print("seed", seed)  # noqa: T201 (pytest shows it when the test fails)
    messages = garbage(random.Random(seed))  # noqa: S311 (no secret)
    codes = set()
    async with parts() as made:
        api = made.api()
        async with made.served(api=api) as service:
            sent = 0
            while sent < 1000:
                socket = await service.raw_websocket()
                with suppress(ConnectionClosed):
                    if sent % 5:
                        await send(socket, {"type": "connection_init"})
                    for _ in range(20):
                        sent += 1
                        await send(socket, next(messages))
                        await answers(socket)
                await socket.close()
                codes.add(socket.close_code)
            await eventually(lambda: at_rest(made, api))

    assert {4400, 4401, 4429} <= codes <= {1000, 4400, 4401, 4409, 4429}
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


# --- who takes nothing


@asynccontextmanager
async def client_process(service: Service, *payloads: dict[str, Any]) -> AsyncIterator[asyncio.subprocess.Process]:
    """A client in a process of its own, which has subscribed; it is killed in the end."""
    program = Path(__file__).with_name("frozen_client.py")
    arguments = [service.address, *map(json.dumps, payloads)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(program), *arguments, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            assert await process.stdout.readline() == b"subscribed\n"
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def a_log(made: Parts) -> str:
    update = a_stack_update()
    await kept(made.backends.updates, update, started(update))
    await made.append(a_chunk(a_line(), update_id=update.id))
    return update.id


async def test_a_frozen_client_is_ended_and_holds_up_nobody() -> None:
    """It takes nothing of much that is pushed: its subscriptions end within a bound, while another one gets all."""
    async with parts() as made:
        api = made.api()
        limits = SocketLimits(send=timedelta(seconds=0.5))
        update = a_stack_update()
        await kept(made.backends.updates, update, started(update))
        chunk = await made.append(a_chunk(a_line(), update_id=update.id))
        payload = {"query": EVENTS, "variables": {"id": update.id}}
        async with made.served(api=api, limits=limits) as service:
            async with client_process(service, payload, payload, payload) as frozen, service.websocket() as socket:
                await send(socket, {"type": "subscribe", "id": "1", "payload": payload})
                read = asyncio.create_task(last_seq(socket, 1 + 400 * 50))
                await eventually(lambda: api.fanout.followed == 4)
                os.kill(frozen.pid, signal.SIGSTOP)
                for _ in range(400):
                    chunk = await made.append(following(chunk, *[a_line("x" * 1000)] * 50))
                    await asyncio.sleep(0)
                await eventually(lambda: api.fanout.followed == 1)
                await asyncio.wait_for(read, PATIENCE)
                assert api.quotas.open == 2
            await eventually(lambda: at_rest(made, api))


async def last_seq(socket: ClientConnection, wanted: int) -> None:
    """Read what is pushed until this seq has come."""
    while True:
        message = await receive(socket)
        if message["payload"]["data"]["stackUpdateEvents"]["seq"] == wanted:
            return


async def test_a_frozen_client_does_not_hold_up_the_shutdown(caplog: pytest.LogCaptureFixture) -> None:
    """The server does not wait for what it has written to be taken: not even uvicorn has to give anything up."""
    async with parts() as made, AsyncExitStack() as stack:
        api = made.api()
        update = a_stack_update()
        await kept(made.backends.updates, update, started(update))
        chunk = await made.append(a_chunk(a_line(), update_id=update.id))
        async with made.served(api=api) as service:
            payload = {"query": EVENTS, "variables": {"id": update.id}}
            frozen = await stack.enter_async_context(client_process(service, payload))
            os.kill(frozen.pid, signal.SIGSTOP)
            for _ in range(300):
                chunk = await made.append(following(chunk, *[a_line("x" * 1000)] * 50))
                await asyncio.sleep(0)
        assert at_rest(made, api)

    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_connection_that_is_only_half_open_is_ended() -> None:
    """Something on the way forwards nothing any more, and says nothing: who answered pings before is soon let go."""
    limits = SocketLimits(ping=timedelta(seconds=0.05), silence=SOON)
    async with parts() as made:
        api = made.api()
        async with made.served(api=api, limits=limits) as service, Proxy(service.address) as proxy:
            through = Service(proxy.address, service.root)
            socket = await through.raw_websocket()
            await send(socket, {"type": "connection_init"})
            await send(socket, {"type": "pong"})
            await send(socket, subscribe(UPDATES))
            await eventually(lambda: api.fanout.followed == 1)
            proxy.forwards.clear()

            await eventually(lambda: at_rest(made, api))
            socket.transport.abort()


class Proxy:
    """Forwards bytes between clients and a server, as long as it does."""

    def __init__(self, server: str) -> None:
        self._server = server
        self.forwards = asyncio.Event()
        self.forwards.set()
        self._tasks = set[asyncio.Task[None]]()

    async def __aenter__(self) -> Proxy:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        for task in [*self._tasks]:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    @property
    def address(self) -> str:
        return "{}:{}".format(*self._listener.sockets[0].getsockname())

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = self._server.split(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        for ends in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(self._forward(*ends))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self.forwards.wait()
                writer.write(data)
        finally:
            writer.transport.abort()


async def test_a_connection_that_breaks_leaves_no_trace(caplog: pytest.LogCaptureFixture) -> None:
    """However it ends: reset, closed, or closed by the server; in the midst of queries and subscriptions."""
    async with parts() as made:
        api = made.api()
        id_ = await a_log(made)
        async with made.served(api=api) as service:
            for number in range(30):
                async with service.websocket() as socket:
                    await send(socket, subscribe(EVENTS, "events", variables={"id": id_}))
                    await send(socket, subscribe(UPDATES, "updates"))
                    await send(socket, subscribe("{ stackUpdates { nodes { id } } }", "query"))
                    if number % 2:
                        await receive(socket)
                    match number % 3:
                        case 0:
                            socket.transport.abort()
                        case 1:
                            await socket.close()
                        case 2:
                            await send(socket, "x")
                            assert await closed(socket) == 4400
            await eventually(lambda: at_rest(made, api))

    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_many_watch_one_update_while_some_leave() -> None:
    """Break off, or complete and ask again under the same id: everybody is pushed each event once, and in order."""
    async with parts() as made:
        api = made.api()
        update = a_stack_update()
        await kept(made.backends.updates, update, started(update))
        chunk = await made.append(a_chunk(a_line(), update_id=update.id))
        begin = subscribe(EVENTS, variables={"id": update.id})
        async with made.served(api=api) as service, AsyncExitStack() as stack:
            watchers = [Watcher(await stack.enter_async_context(service.websocket())) for _ in range(30)]
            reading = [asyncio.create_task(watcher.read()) for watcher in watchers]
            for watcher in watchers:
                await send(watcher.socket, begin)
            await eventually(lambda: all(watcher.seqs == [1] for watcher in watchers))
            for number in range(60):
                chunk = await made.append(following(chunk, a_line()))
                match number % 6:
                    case 0 if number < 30:
                        watchers.pop().socket.transport.abort()
                    case 3:
                        again = watchers[number // 6]
                        await send(again.socket, {"type": "complete", "id": "1"})
                        await send(again.socket, begin)
                    case 5:
                        await asyncio.sleep(0.01)
            await made.append(following(chunk, StatusChanged(Status.FAILED, Phase.FINISHED)))
            await eventually(lambda: all(watcher.completed for watcher in watchers))

            assert api.fanout.followed == 0
            assert len(watchers) == 25
            assert [watcher.seqs for watcher in watchers] == [list(range(1, 63))] * 25
            for task in reading:
                task.cancel()
            await asyncio.wait(reading)
        await eventually(lambda: at_rest(made, api))


class Watcher:
    """Reads what is pushed of one log; it begins again with what comes first."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.seqs = list[int]()
        self.completed = False

    async def read(self) -> None:
        while not self.completed:
            message = await receive(self.socket)
            self.completed = message["type"] == "complete"
            if not self.completed:
                new = [event["seq"] for event in message["payload"]["data"]["stackUpdateEvents"]["events"]]
                assert not self.seqs or new[0] in (1, self.seqs[-1] + 1)
                self.seqs = new if new[0] == 1 else self.seqs + new


async def test_a_server_that_stops_says_so() -> None:
    """1012, after which clients come back, and at once."""
    async with parts() as made:
        async with made.served() as service:
            socket = await service.raw_websocket()
            await send(socket, {"type": "connection_init"})
            await send(socket, subscribe(UPDATES))
            assert [(await receive(socket))["type"] for _ in range(2)] == ["connection_ack", "next"]

        assert await closed(socket) == 1012
        assert not made.wakeups.topics
