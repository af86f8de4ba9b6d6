"""Connections: how many there may be, how long one may wait for a request, and how much of one is read."""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from graphql_api.transport.guard import error_response

#: How many connections a server has at most, where its descriptors allow for it.
CONNECTION_LIMIT = 10_000
#: How much, in bytes, the head of a request may have; as much may follow its body. The parser itself would read on.
HEAD_LIMIT = 64 * 1024
#: How many requests may wait on one connection for the answers to those before them.
PIPELINE_LIMIT = 30
#: How long repetitions of one warning stay out of the log.
QUIET = timedelta(seconds=60)

_log = logging.getLogger("stackcast")


def raise_descriptor_limit() -> None:
    """Let this process have the descriptors that CONNECTION_LIMIT needs, as far as it may. Its children inherit it.

    Not more: where there is no limit in effect, programs that close every descriptor they could have take for ever.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * CONNECTION_LIMIT if hard == resource.RLIM_INFINITY else min(2 * CONNECTION_LIMIT, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _connection_limit() -> int:
    """At most half of the descriptors: the store, Pulumi's files and the children need theirs."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CONNECTION_LIMIT if soft == resource.RLIM_INFINITY else max(1, min(CONNECTION_LIMIT, soft // 2))


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server bears.

    ``request_patience`` is how long a connection may be open without the whole head of a request;
    ``send_patience`` how long its client may take nothing of what it is sent.
    """

    connections: int = field(default_factory=_connection_limit)
    backlog: int = 128
    request_patience: timedelta = timedelta(seconds=20)
    send_patience: timedelta = timedelta(seconds=30)


#: How long a stopping server waits for what it has begun to send.
SHUTDOWN_PATIENCE = timedelta(seconds=1)


class Once:
    """True for the first call, and again only after ``QUIET``; ``clock`` gives seconds that only grow."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._quiet_until = float("-inf")

    def __call__(self) -> bool:
        if self._clock() < self._quiet_until:
            return False
        self._quiet_until = self._clock() + QUIET.total_seconds()
        return True


class Connection(HttpToolsProtocol):
    """HTTP on one connection, closed when there are too many, when no request comes, or when one is without measure.

    uvicorn's own time-out begins with the first answer, and its own limit with the first request. Neither a head that
    comes in drops begins the time anew, nor a body that nobody reads any more.
    """

    _too_many = Once()

    def __init__(self, limits: Limits, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._limits = limits
        self._waiting: asyncio.TimerHandle | None = None
        self._in_head = False
        self._in_trailers = False
        self._fields_read = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            if Connection._too_many():
                _log.warning("over %d connections are open: more are closed at once", self._limits.connections)
            transport.abort()
        else:
            self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    # --- what is read

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self._fields_read += len(data)
        try:
            # Where a head or trailers begin in the data, counting begins with what comes next.
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
            else:
                self.data_received(self._head_without_upgrade() + data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(400, "This is no HTTP request that can be answered, or one too many at once.")
        else:
            if (self._in_head or self._in_trailers) and self._fields_read > HEAD_LIMIT:
                self._refuse(431, f"The head of the request has over {HEAD_LIMIT} bytes. Send fewer headers.")

    @property
    def _is_read_again(self) -> bool:
        return self.parser.should_upgrade() and not self._should_upgrade()

    def _should_upgrade(self) -> bool:
        return super()._should_upgrade() and self.parser.get_method() == b"GET"

    def _head_without_upgrade(self) -> bytes:
        """What asks for the same in the protocol that is spoken; the parser would take the body for another's."""
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        lines += [b"%b: %b" % (name, value) for name, value in self.headers if name != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def _refuse(self, status: int, message: str) -> None:
        if not self._is_answering:  # or it would pass for the answer to the request before
            body = bytes(error_response(status, "BAD_REQUEST", message).body)
            fields = b"Content-Type: application/json\r\nContent-Length: %d\r\nConnection: close" % len(body)
            self.transport.write(b"%b%b\r\n\r\n%b" % (STATUS_LINE[status], fields, body))
        self.transport.close()

    def on_message_begin(self) -> None:
        self._in_head, self._fields_read = True, 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # what comes behind a body must not pass for what was checked before it
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_waiting()
        if self.parser.get_method() == b"CONNECT":
            raise _Refused
        if self._is_read_again:
            return
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1"):
            raise _Refused
        super().on_headers_complete()
        if len(self.pipeline) > PIPELINE_LIMIT:
            raise _Refused

    def on_chunk_header(self) -> None:
        """A chunk begins: its body follows, or if it is the last one trailers do."""
        self._in_trailers, self._fields_read = True, 0

    def on_body(self, body: bytes) -> None:
        self._in_trailers = False
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_trailers = False
        if not self._is_read_again:
            super().on_message_complete()

    # --- how long is waited

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._is_answering:
            self._await_request()

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _await_request(self) -> None:
        if self._waiting is None:
            seconds = self._limits.request_patience.total_seconds()
            self._waiting = self.loop.call_later(seconds, self.transport.abort)

    def shutdown(self) -> None:
        super().shutdown()
        self.loop.call_later(SHUTDOWN_PATIENCE.total_seconds(), self._break_off)

    def _break_off(self) -> None:
        """Leave a response that has begun: it may be a subscription, and have no end."""
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.abort()

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None


class _Refused(Exception):
    """Ends the parser's work."""
