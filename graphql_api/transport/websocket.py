"""GraphQL over websocket: graphql-transport-ws, to the letter, for many operations on one socket.

A wrong operation is answered with `error` and leaves the socket to the others; a message that breaks the protocol
closes it. After most of the close codes a client of graphql-ws gives up for good: who merely slept or fell behind is
closed with ``AWAY``, and comes back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from graphql import OperationType
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from graphql_api.domain.callers import Caller
from graphql_api.schema.operations import RequestRefused, failure
from graphql_api.transport.api import Api
from graphql_api.transport.encoding import encode
from graphql_api.transport.fanout import Recipient
from graphql_api.transport.quotas import QuotaExceeded, quota_name
from graphql_api.transport.request import GraphQLRequest, read_json
from graphql_api.transport.sockets import DIRECT

PROTOCOL = "graphql-transport-ws"

# The close codes of the protocol, and of RFC 6455.
BAD_MESSAGE = 4400
NOT_ACKNOWLEDGED = 4401
FORBIDDEN = 4403
WRONG_SUBPROTOCOL = 4406
INIT_TIMEOUT = 4408
ID_IN_USE = 4409
SECOND_INIT = 4429
TRY_AGAIN_LATER = 1013
#: The client slept, does not read, or asks for nothing; graphql-ws's comes back after it.
AWAY = 4499
#: The most that a close frame can carry as its reason, in bytes of UTF-8.
_REASON_LIMIT = 123
_CLOSE_PATIENCE = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class SocketLimits:
    """What one socket may do, and how long it is waited for.

    ``init`` is how long it may wait with its connection_init, ``idle`` how long it may be open without an operation,
    ``ping`` how often it is asked whether it is there, ``silence`` how long one that has answered before may be silent
    then, ``send`` how long it may take nothing of what it is sent. It may send ``messages`` at once, and as many again
    in each minute; what comes faster waits.
    """

    operations: int = 100
    messages: int = 600
    init: timedelta = timedelta(seconds=10)
    idle: timedelta = timedelta(minutes=15)
    ping: timedelta = timedelta(seconds=20)
    silence: timedelta = timedelta(seconds=60)
    send: timedelta = timedelta(seconds=30)


class WebSocketEndpoint:
    """The ASGI application that answers on websockets."""

    def __init__(self, api: Api, limits: SocketLimits | None = None) -> None:
        self._api = api
        self._limits = limits or SocketLimits()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        offered = PROTOCOL in scope["subprotocols"]
        await send({"type": "websocket.accept", "subprotocol": PROTOCOL if offered else None})
        if not offered:
            message = f"Open the socket with the subprotocol {PROTOCOL}."
            await send({"type": "websocket.close", "code": WRONG_SUBPROTOCOL, "reason": message})
            return
        await _Socket(self._api, self._limits, scope, receive, send).serve()


class _Closing(Exception):
    """The socket is to be closed, with a code and a reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class _Socket:
    """One socket, from its acceptance to its end, which ends all its operations."""

    def __init__(self, api: Api, limits: SocketLimits, scope: Scope, receive: Receive, send: Send) -> None:
        self._api = api
        self._limits = limits
        self._receive = receive
        self._wire = _Wire(send, scope.get("extensions", {}).get(DIRECT, {}).get("send"))
        self._authorization = Headers(scope=scope).get("authorization")
        self._client = scope.get("client")
        self._caller: Caller | None = None
        self._operations = dict[str, asyncio.Task[None]]()
        # Those as well whose id is free again, but which have not ended yet.
        self._tasks = set[asyncio.Task[None]]()
        self._held = ExitStack()
        self._pace = _Pace(limits.messages)
        self._vigil = _Vigil(limits, self._wire, self._operations)

    async def serve(self) -> None:
        """Answer until either side ends it."""
        try:
            with self._held, self._vigil:
                await self._read()
        except _Closing as closing:
            await self._wire.close(closing.code, closing.reason)
        except OSError:  # the client is gone, which ASGI's send says so
            pass
        finally:
            await self._end_operations()

    async def _read(self) -> None:
        while (event := await self._receive())["type"] == "websocket.receive":
            self._vigil.heard()
            await self._pace.wait()
            await self._handle(_read_message(event.get("text")))

    async def _handle(self, message: Mapping[str, Any]) -> None:
        match message["type"]:
            case "connection_init":
                await self._init(_payload(message))
            case "ping":
                payload = _payload(message)
                await self._wire.send(encode({"type": "pong", "payload": payload} if payload else {"type": "pong"}))
            case "pong":
                _payload(message)
                self._vigil.answered()
            case "subscribe":
                self._subscribe(_id(message), message.get("payload"))
            case "complete":
                if operation := self._operations.pop(_id(message), None):
                    operation.cancel()
            case other:
                raise _Closing(BAD_MESSAGE, f"The protocol knows no message of a client with the type {other!r}.")

    async def _init(self, params: Mapping[str, Any]) -> None:
        if self._caller is not None:
            raise _Closing(SECOND_INIT, "Too many initialisation requests")
        named = {name.lower(): value for name, value in params.items() if isinstance(value, str)}
        caller = self._api.access.identify(named.get("authorization", self._authorization))
        if caller is None:
            raise _Closing(FORBIDDEN, "Forbidden")
        try:
            self._held.enter_context(self._api.quotas.socket(quota_name(caller, self._client)))
        except QuotaExceeded as exceeded:
            raise _Closing(TRY_AGAIN_LATER, str(exceeded)) from None
        self._caller = caller
        self._vigil.let_in()
        await self._wire.send(b'{"type":"connection_ack"}')

    def _subscribe(self, id_: str, payload: object) -> None:
        if self._caller is None:
            raise _Closing(NOT_ACKNOWLEDGED, "Unauthorized")
        try:
            request = GraphQLRequest.read(payload)
        except RequestRefused as refused:
            raise _Closing(BAD_MESSAGE, f"The payload of 'subscribe': {refused}") from None
        if id_ in self._operations:
            raise _Closing(ID_IN_USE, f"Subscriber for {id_} already exists")
        full = len(self._operations) >= self._limits.operations
        carried_out = self._refuse(id_) if full else self._carry_out(id_, request, self._caller)
        self._operations[id_] = task = asyncio.create_task(carried_out, name="websocket operation")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _refuse(self, id_: str) -> None:
        limit = self._limits.operations
        message = f"{limit} operations are open on this socket, which is as many as it may have. Complete some of them."
        await self._finish(id_, "error", RequestRefused.saying("TOO_MANY_OPERATIONS", message).errors)

    async def _carry_out(self, id_: str, request: GraphQLRequest, caller: Caller) -> None:
        try:
            with self._api.quotas.operation(quota_name(caller, self._client)):
                await self._answer(id_, request, caller)
            await self._finish(id_, "complete")
        except RequestRefused as refused:
            await self._finish(id_, "error", refused.errors)
        except QuotaExceeded as exceeded:
            await self._finish(id_, "error", RequestRefused.saying("TOO_MANY_OPERATIONS", str(exceeded)).errors)
        except OSError:  # the client is gone, which the reader sees as well
            pass
        except Exception as error:
            await self._finish(id_, "error", failure(error).errors)

    async def _answer(self, id_: str, request: GraphQLRequest, caller: Caller) -> None:
        prepared = self._api.prepare(request)
        before = b'{"id":' + encode(id_) + b',"type":"next","payload":'
        if prepared.type is not OperationType.SUBSCRIPTION:
            answer = await self._api.operations.execute(prepared, request.variables, caller)
            await self._wire.send(before + encode(answer) + b"}")
            return
        await self._api.fanout.give(prepared, request.variables, caller, _Subscriber(self._wire, before))

    async def _finish(self, id_: str, type_: str, payload: object = None) -> None:
        """Send an operation's last message; its id is free before, since the client may use it again at once."""
        if self._operations.get(id_) is not asyncio.current_task():
            return  # the client has completed it, and may use the id for another
        del self._operations[id_]
        message = {"id": id_, "type": type_}
        with suppress(OSError):
            await self._wire.send(encode(message if payload is None else {**message, "payload": payload}))

    async def _end_operations(self) -> None:
        self._operations.clear()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


class _Wire:
    """Sends on a socket until it is closed, and knows how long nothing has been taken."""

    def __init__(self, send: Send, send_directly: Callable[[bytes], bool] | None) -> None:
        self._send = send
        self._send_directly = send_directly
        self._clock = asyncio.get_running_loop().time
        self._waiting = 0
        self._last_taken = 0.0
        self._closed = False

    def sent(self, message: bytes) -> bool:
        """Send a text message, if that takes no waiting; whether it did."""
        return self._send_directly is not None and not self._closed and self._send_directly(message)

    async def send(self, message: bytes) -> None:
        """Send a text message, as soon as there is room for it. Raises OSError when the client is gone."""
        if self._closed:
            raise ConnectionError("the socket is closed")
        self._waiting += 1
        if self._waiting == 1:
            self._last_taken = self._clock()
        try:
            await self._send({"type": "websocket.send", "text": message.decode()})
            self._last_taken = self._clock()
        finally:
            self._waiting -= 1

    async def close(self, code: int, reason: str) -> None:
        """Close the socket, if it is still open; the reason is cut to what fits a frame."""
        if not self._closed:
            self._closed = True
            cut = reason.encode(errors="replace")[:_REASON_LIMIT].decode(errors="ignore")
            with suppress(OSError, TimeoutError):  # a client that takes nothing takes no close frame either
                async with asyncio.timeout(_CLOSE_PATIENCE.total_seconds()):
                    await self._send({"type": "websocket.close", "code": code, "reason": cut})

    @property
    def stuck_for(self) -> float:
        """For how many seconds the client has taken nothing of what waits for it."""
        return self._clock() - self._last_taken if self._waiting else 0.0


class _Subscriber(Recipient):
    """An operation that is sent the answers to its subscription."""

    __slots__ = ("_before", "_wire")

    def __init__(self, wire: _Wire, before: bytes) -> None:
        self._wire = wire
        self._before = before

    def sent(self, frame: bytes) -> bool:
        return self._wire.sent(self._before + frame + b"}")

    async def send(self, frame: bytes) -> None:
        await self._wire.send(self._before + frame + b"}")


class _Vigil:
    """Looks at a socket now and then: pings, and ends it when the client does not do its part.

    The reader's task is cancelled to end it; who it was shows when the vigil is left.
    """

    def __init__(self, limits: SocketLimits, wire: _Wire, operations: Mapping[str, object]) -> None:
        self._limits = limits
        self._wire = wire
        self._operations = operations
        self._loop = asyncio.get_running_loop()
        self._opened = self._heard = self._pinged = self._busy = self._loop.time()
        self._is_in = self._answers = False
        self._reader: asyncio.Task[Any] | None = None
        self._reason: _Closing | None = None
        self._interval = min(limits.init, limits.idle, limits.ping, limits.silence, limits.send).total_seconds() / 2
        self._timer: asyncio.TimerHandle | None = None
        self._pings = set[asyncio.Task[None]]()

    def __enter__(self) -> None:
        self._reader = asyncio.current_task()
        self._timer = self._loop.call_later(self._interval, self._look)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for ping in self._pings:
            ping.cancel()
        if kind is asyncio.CancelledError and self._reason is not None and self._reader is not None:
            self._reader.uncancel()
            raise self._reason

    def heard(self) -> None:
        """The client has sent something."""
        self._heard = self._loop.time()

    def answered(self) -> None:
        """The client has answered a ping: from now on it is expected to."""
        self._answers = True

    def let_in(self) -> None:
        """The client is let in."""
        self._is_in = True

    def _look(self) -> None:
        now, limits = self._loop.time(), self._limits
        if self._operations:
            self._busy = now
        if self._wire.stuck_for > limits.send.total_seconds():
            self._end(AWAY, "The client takes nothing any more")
        elif not self._is_in and now - self._opened > limits.init.total_seconds():
            self._end(INIT_TIMEOUT, "Connection initialisation timeout")
        elif self._answers and now - self._heard > limits.silence.total_seconds():
            self._end(AWAY, "The client answers no pings any more")
        elif self._is_in and now - self._busy > limits.idle.total_seconds():
            self._end(AWAY, "Nothing was asked for")
        else:
            self._timer = self._loop.call_later(self._interval, self._look)
            if self._is_in and now - self._pinged >= limits.ping.total_seconds():
                self._pinged = now
                self._ping()

    def _end(self, code: int, reason: str) -> None:
        if self._reader is not None:
            self._reason = _Closing(code, reason)
            self._reader.cancel()

    def _ping(self) -> None:
        async def ping() -> None:
            try:
                await self._wire.send(b'{"type":"ping"}')
            except OSError:  # what it sent before it left may still wait for the reader
                self._end(AWAY, "The client is gone")

        task = asyncio.create_task(ping(), name="websocket ping")
        self._pings.add(task)
        task.add_done_callback(self._pings.discard)


class _Pace:
    """Lets so many messages pass at once, and so many more in each minute; the others wait."""

    def __init__(self, messages: int) -> None:
        self._clock = asyncio.get_running_loop().time
        self._interval = 60 / messages
        self._burst = 60.0
        self._free_at = self._clock() - self._burst

    async def wait(self) -> None:
        """Wait until one more may pass."""
        now = self._clock()
        self._free_at = max(self._free_at, now - self._burst) + self._interval
        if self._free_at > now:
            await asyncio.sleep(self._free_at - now)


def _read_message(text: str | None) -> Mapping[str, Any]:
    if text is None:
        raise _Closing(BAD_MESSAGE, "A message must be text.")
    try:
        message = read_json(text, "A message")
    except RequestRefused as refused:
        raise _Closing(BAD_MESSAGE, str(refused)) from None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise _Closing(BAD_MESSAGE, "A message must be a JSON object with the string 'type'.")
    return message


def _payload(message: Mapping[str, Any]) -> Mapping[str, Any]:
    payload = message.get("payload")
    if not isinstance(payload, dict | None):
        raise _Closing(BAD_MESSAGE, f"The payload of {message['type']!r} must be an object.")
    return payload or {}


def _id(message: Mapping[str, Any]) -> str:
    id_ = message.get("id")
    if not isinstance(id_, str) or not id_:
        raise _Closing(BAD_MESSAGE, f"The message {message['type']!r} must have the string 'id', not empty.")
    return id_
