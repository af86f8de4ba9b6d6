"""Wakeups for a service that is one process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta


class InProcessWakeup:
    """A place to wait at; remembers an announcement that came while nobody waited."""

    def __init__(self) -> None:
        self._announced = asyncio.Event()

    def announce(self) -> None:
        self._announced.set()

    async def wait(self, limit: timedelta = timedelta(seconds=1)) -> None:
        try:
            async with asyncio.timeout(limit.total_seconds()):
                await self._announced.wait()
        except TimeoutError:
            pass
        # What is announced between the limit and this line is not lost: the caller reads after it.
        self._announced.clear()


class InProcessWakeups:
    """Wakes listeners on the same event loop; it forgets a topic with its last listener."""

    def __init__(self) -> None:
        self._listeners: dict[str, set[InProcessWakeup]] = {}

    @property
    def topics(self) -> frozenset[str]:
        """The topics that somebody listens to now."""
        return frozenset(self._listeners)

    async def announce(self, topic: str) -> None:
        for wakeup in self._listeners.get(topic, ()):
            wakeup.announce()

    @asynccontextmanager
    async def listen(self, topic: str) -> AsyncIterator[InProcessWakeup]:
        wakeup = InProcessWakeup()
        self._listeners.setdefault(topic, set()).add(wakeup)
        try:
            yield wakeup
        finally:
            self._listeners[topic].remove(wakeup)
            if not self._listeners[topic]:
                del self._listeners[topic]
