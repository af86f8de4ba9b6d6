"""Connections that have asked for nothing: how many there may be, and how long they may wait."""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

#: How long repetitions of one warning stay out of the log.
QUIET = timedelta(seconds=60)

_log = logging.getLogger("stackcast")


def _connection_limit() -> int:
    """At most half of the descriptors: the store, Pulumi's files and the children need theirs."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1000 if soft == resource.RLIM_INFINITY else max(1, min(1000, soft // 2))


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server bears.

    ``request_patience`` is how long a connection may be open without the whole head of a request;
    ``send_patience`` how long its client may take nothing of what it is sent.
    """

    connections: int
    backlog: int = 128
    request_patience: timedelta = timedelta(seconds=20)
    send_patience: timedelta = timedelta(seconds=30)


LIMITS = Limits(connections=_connection_limit())


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


class Connection(H11Protocol):
    """HTTP on one connection, closed when there are too many or when no request comes.

    uvicorn's own time-out begins with the first answer, and its own limit with the first request.
    """

    _too_many = Once()

    def __init__(self, limits: Limits, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._limits = limits
        self._waiting: asyncio.TimerHandle | None = None

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

    def handle_events(self) -> None:
        super().handle_events()
        # Neither a head that comes in drops begins the time anew, nor a body that nobody reads any more.
        if self.conn.their_state is h11.IDLE or (self.cycle is not None and self.cycle.response_complete):
            self._await_request()
        else:
            self._stop_waiting()

    def _await_request(self) -> None:
        if self._waiting is None:
            seconds = self._limits.request_patience.total_seconds()
            self._waiting = self.loop.call_later(seconds, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None


@contextmanager
def accepting_quietly() -> Iterator[None]:
    """Out of descriptors, asyncio logs each attempt to accept, more than a thousand a second: let one a minute pass."""
    once = Once()

    def pass_on(record: logging.LogRecord) -> bool:
        return "accept() out of system resource" not in record.getMessage() or once()

    logger = logging.getLogger("asyncio")
    logger.addFilter(pass_on)
    try:
        yield
    finally:
        logger.removeFilter(pass_on)
