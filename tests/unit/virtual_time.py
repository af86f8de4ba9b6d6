"""An event loop whose time passes only while everybody waits: tests of long times take none, and luck has no part.

Time stands still while a thread works for the loop, so that the stores over SQLite can be used in it.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def run(scenario: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a test's coroutine to its end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(scenario())


async def elapsed(awaitable: Awaitable[object]) -> float:
    """How many seconds of the loop's time it takes."""
    clock = asyncio.get_running_loop().time
    before = clock()
    await awaitable
    return clock() - before


class VirtualLoop(asyncio.SelectorEventLoop):
    """Starts at second zero; where others would sleep until the next timer, it sets its clock to it."""

    def __init__(self) -> None:
        self._now = 0.0
        self._threads = 0
        super().__init__(_Selector(self._wait))

    def time(self) -> float:
        return self._now

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        future = super().run_in_executor(executor, func, *args)
        self._threads += 1
        future.add_done_callback(self._thread_done)
        return future

    def _thread_done(self, _: object) -> None:
        self._threads -= 1

    def _wait(self, timeout: float | None) -> float | None:
        """How long to wait in reality. Nothing can happen but the next timer, unless a thread is at work."""
        if timeout is None or self._threads:
            return timeout
        self._now += max(timeout, 0)
        return 0


class _Selector(selectors.SelectSelector):
    def __init__(self, wait: Callable[[float | None], float | None]) -> None:
        super().__init__()
        self._wait = wait

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(self._wait(timeout))
