"""Following a stack update to its end, over as many connections as that takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from datetime import timedelta
from typing import TypeVar

from graphql_api.cli.client import (
    CONNECT_PATIENCE,
    ApiClient,
    Batch,
    EventsExpired,
    Record,
    ServerUnavailable,
    connect,
)

#: How long a connection that was lost is tried again, with pauses that double up to the longest.
RECONNECT_PATIENCE = timedelta(seconds=60)
FIRST_PAUSE = timedelta(seconds=0.25)
LONGEST_PAUSE = timedelta(seconds=5)

T = TypeVar("T")


async def follow(
    address: str,
    token: str | None,
    stack_update_id: str,
    notice: Callable[[str], None],
    *,
    changes: bool = True,
    after: int | None = 0,
    known: bool = False,
    patience: timedelta = RECONNECT_PATIENCE,
) -> AsyncGenerator[Record | Batch, None]:
    """Every push of the stack update and every batch of its log until it has ended; the outcome comes last of all.

    Without ``changes`` it is the log alone, and the pushes alone where ``after`` is None; else the log begins after the
    event with that seq. A connection that is lost is made again within ``patience``, and ``notice`` gets a sentence on
    it; afterwards the log goes on where it was, and the next push is the state as it is then. ``known`` says that the
    server has had the stack update, so that even the first connection is tried again. Raises as ApiClient.watch and
    ApiClient.events.
    """
    outage = _Outage(asyncio.get_running_loop().time, patience, notice)
    rest = _Rest(stack_update_id, notice, changes, after, known)
    while not rest.over:
        try:
            limit = min(CONNECT_PATIENCE, outage.left())
            async with connect(address, token, limit) as client, aclosing(rest.read(client)) as arriving:
                async for news in arriving:
                    if outage.is_over():
                        notice(f"Connected to {address} again.")
                    if news is not rest.outcome:
                        yield news
            if not rest.over:
                raise ServerUnavailable(f"The server at {address} ended the subscription early.")
        except ServerUnavailable as error:
            if not rest.known:
                raise
            await outage.sit_out(error)
    if rest.outcome:
        yield rest.outcome


class _Rest:
    """What of a stack update is still to be read; ``known`` once the server has shown that it has it."""

    def __init__(self, id_: str, notice: Callable[[str], None], changes: bool, after: int | None, known: bool) -> None:
        self.known = known
        self.outcome: Record | None = None
        self._id = id_
        self._notice = notice
        self._log_alone = not changes
        self._changes = changes
        self._after = after

    @property
    def over(self) -> bool:
        """True once all has been read."""
        return self._after is None and not self._changes

    async def read(self, client: ApiClient) -> AsyncGenerator[Record | Batch, None]:
        """The rest, as far as this connection brings it."""
        sources: list[AsyncGenerator[Record | Batch, None]] = []
        if self._changes:
            sources.append(client.watch(self._id))
        if self._after is not None:
            sources.append(self._log(client))
        async with aclosing(merged(*sources)) as arriving:
            async for news in arriving:
                self.known = True
                if isinstance(news, Batch):
                    self._after = None if news.finished else news.seq
                elif news["status"] != "IN_PROGRESS":
                    self._changes, self.outcome = False, news
                yield news
                if self.over:
                    break

    async def _log(self, client: ApiClient) -> AsyncGenerator[Record | Batch, None]:
        while self._after is not None:
            try:
                async with aclosing(client.events(self._id, self._after)) as batches:
                    async for batch in batches:
                        yield batch
                return
            except EventsExpired as expired:
                if self._log_alone:
                    raise
                self._pass_over(expired.first_available_seq)

    def _pass_over(self, first: int | None) -> None:
        """Go on with the first event that is kept, if one is."""
        if first is None:
            self._notice(f"No log is kept of the stack update {self._id}.")
        else:
            self._notice(f"The log's next events are kept no longer; it goes on with number {first}.")
        self._after = None if first is None else first - 1


async def merged(*sources: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """What all of them give, as it comes. What one of them raises ends all."""
    coming = {asyncio.ensure_future(anext(source)): source for source in sources}
    try:
        while coming:
            done, _ = await asyncio.wait(coming, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(done, key=lambda ended: ended.exception() is not None):  # first what has come
                try:
                    news = task.result()
                except StopAsyncIteration:
                    del coming[task]
                    continue
                source = coming.pop(task)
                yield news
                coming[asyncio.ensure_future(anext(source))] = source
    finally:
        await _end(coming, sources)


async def paced(source: AsyncGenerator[T, None], pause: timedelta) -> AsyncGenerator[T | None, None]:
    """What it gives, as it comes, and None each time that it gave nothing for so long."""
    coming = asyncio.ensure_future(anext(source))
    try:
        while True:
            await asyncio.wait({coming}, timeout=pause.total_seconds())
            if not coming.done():
                yield None
                continue
            try:
                news = coming.result()
            except StopAsyncIteration:
                return
            yield news
            coming = asyncio.ensure_future(anext(source))
    finally:
        await _end([coming], [source])


async def _end(coming: Iterable[asyncio.Future[T]], sources: Iterable[AsyncGenerator[T, None]]) -> None:
    for task in coming:
        task.cancel()
    await asyncio.gather(*coming, return_exceptions=True)
    for source in sources:
        await source.aclose()


class _Outage:
    """The time since the connection was lost, if it is."""

    def __init__(self, clock: Callable[[], float], patience: timedelta, notice: Callable[[str], None]) -> None:
        self._clock = clock
        self._patience = patience
        self._notice = notice
        self._since: float | None = None
        self._next_pause = FIRST_PAUSE

    async def sit_out(self, error: ServerUnavailable) -> None:
        """Wait until the next attempt; raises ServerUnavailable when it has lasted for too long."""
        if self._since is None:
            self._since, self._next_pause = self._clock(), FIRST_PAUSE
            self._notice(f"{error.message} Trying again for {self._patience.total_seconds():g} s.")
        elif self.left() <= timedelta(0):
            raise ServerUnavailable(
                f"{error.message} It did not come back within {self._patience.total_seconds():g} s. Watch the "
                "deployment again once the server runs."
            ) from error
        pause, self._next_pause = self._next_pause, min(self._next_pause * 2, LONGEST_PAUSE)
        await asyncio.sleep(min(pause, self.left()).total_seconds())

    def is_over(self) -> bool:
        """Say that there is a connection; True when it was lost before."""
        was_lost, self._since = self._since is not None, None
        return was_lost

    def left(self) -> timedelta:
        """How long it may still take."""
        spent = 0.0 if self._since is None else self._clock() - self._since
        return max(self._patience - timedelta(seconds=spent), timedelta(0))
