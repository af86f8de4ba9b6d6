"""Sharing: what many follow is read once, and all are given the same.

A source is what several follow at once, such as the log of one stack update. One task runs it for as long as anybody
does. It holds a bounded part of what it has read, which followers take at their own pace, and it reads on only when one
of them has taken all of it: a slow one holds up nobody, and nothing is read for nobody.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Generic, TypeVar, cast

T = TypeVar("T")
Made = TypeVar("Made")
Key = TypeVar("Key")


class Shared(Generic[T]):
    """The same object for all who are given it; what has been made of it for one is there for the others."""

    __slots__ = ("__weakref__", "_made", "value")

    def __init__(self, value: T) -> None:
        self.value = value
        self._made: dict[Callable[[T], object], object] = {}

    def made(self, make: Callable[[T], Made]) -> Made:
        """What ``make`` makes of the value: the same object each time."""
        if make not in self._made:
            self._made[make] = make(self.value)
        return cast("Made", self._made[make])


class Source(ABC):
    """What several follow at once. Waking a thousand who wait costs a future each, and no task."""

    def __init__(self) -> None:
        self._waiting = set[asyncio.Future[None]]()
        self._wanted = asyncio.Event()
        self._begun = False
        self._error: BaseException | None = None
        self._trace: TracebackType | None = None

    @abstractmethod
    async def run(self) -> None:
        """Read for all who follow: call ``begin``, then again and again ``wanted``, and ``wake`` after what is new.

        It returns when nothing more can come. What it raises, followers are told.
        """

    def begin(self) -> None:
        """Say that it listens: what followers read from now on is followed by all that is announced later."""
        self._begun = True
        self.wake()

    async def wanted(self) -> None:
        """Wait until somebody waits for more."""
        while not self._waiting:
            self._wanted.clear()
            await self._wanted.wait()

    def wake(self) -> None:
        """Wake all who wait."""
        waiting, self._waiting = self._waiting, set()
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    async def moved(self) -> None:
        """Wait until there may be more. Raises what has ended the source, also when it ended before."""
        self._check()
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.add(waiter)
        self._wanted.set()
        try:
            await waiter
        finally:
            self._waiting.discard(waiter)
        self._check()

    async def begun(self) -> None:
        """Wait until it listens. Raises what has ended it."""
        while not self._begun:
            await self.moved()

    def fail(self, error: BaseException) -> None:
        """Let everybody know that it ended, and why."""
        self._error = error
        self._trace = error.__traceback__
        self.wake()

    @property
    def failed(self) -> bool:
        """Whether it has ended with an error."""
        return self._error is not None

    def _check(self) -> None:
        if self._error is not None:
            # Raised for many, it would otherwise grow by the calls of each.
            raise self._error.with_traceback(self._trace)


SourceT = TypeVar("SourceT", bound=Source)


class Sources(Generic[Key, SourceT]):
    """The sources that are followed now, each of them run by one task."""

    def __init__(self, name: str, open_: Callable[[Key], SourceT]) -> None:
        self._name = name
        self._open = open_
        self._followed: dict[Key, _Followed[SourceT]] = {}

    @asynccontextmanager
    async def join(self, key: Key) -> AsyncIterator[SourceT]:
        """Follow the source, which listens by now, until leaving. With the last to leave it ends.

        One that has failed is left to those who follow it: whoever joins after that begins anew.
        """
        followed = self._followed.get(key)
        if followed is None or followed.source.failed:
            followed = self._followed[key] = _Followed(self._open(key), self._name)
        followed.followers += 1
        try:
            await followed.source.begun()
            yield followed.source
        finally:
            followed.followers -= 1
            if not followed.followers:
                if self._followed.get(key) is followed:
                    del self._followed[key]
                await followed.end()

    def __len__(self) -> int:
        return len(self._followed)


class _Followed(Generic[SourceT]):
    """A source, and how many follow it."""

    def __init__(self, source: SourceT, name: str) -> None:
        self.source = source
        self.followers = 0
        self._reader = asyncio.create_task(source.run(), name=name)
        self._reader.add_done_callback(self._tell)

    async def end(self) -> None:
        self._reader.cancel()
        await asyncio.wait([self._reader])

    def _tell(self, reader: asyncio.Task[None]) -> None:
        if not reader.cancelled() and (error := reader.exception()):
            self.source.fail(error)


class Fresh(Generic[T]):
    """One read for all who ask at about the same time: each is given a read that began after it had asked."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._begun = 0
        self._answer: tuple[int, T] | None = None

    async def get(self, read: Callable[[], Awaitable[T]]) -> T:
        """What ``read`` gives. Raises what it raises; where who reads gives up, the next in turn reads."""
        asked = self._begun
        async with self._turn:
            if self._answer is None or self._answer[0] <= asked:
                self._begun += 1
                self._answer = self._begun, await read()
            return self._answer[1]
