"""Changes of files, as the kernel tells them: who waits for what others write need not look again and again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from asyncinotify import Inotify, Mask, Watch

from runners.patience import beside

#: Between two looks at a directory that the kernel does not watch for us: it has no watches left, or it is not there.
PAUSE = timedelta(milliseconds=50)
# Once, until somebody waits again: a program may write a hundred thousand times a second, and one word of it is enough.
_CHANGED = Mask.MODIFY | Mask.CREATE | Mask.MOVED_TO | Mask.ONESHOT

_log = logging.getLogger("stackcast.worker")


class FileChanges:
    """Watches directories from entering to leaving, all of them through one instance of the kernel's inotify.

    Where the kernel refuses that, whoever waits looks again after a short time.
    """

    def __init__(self, open_inotify: Callable[[], Inotify] = Inotify) -> None:
        self._open_inotify = open_inotify
        self._inotify: Inotify | None = None
        self._watched: dict[int, set[WatchedDirectory]] = {}
        self._explained = False
        self._exit = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            inotify = self._open_inotify()
        except OSError as refusal:
            self._explain(refusal)
            return self
        self._exit.enter_context(inotify)
        await self._exit.enter_async_context(beside(self._listen(inotify)))
        self._inotify = inotify
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        self._inotify = None
        return await self._exit.__aexit__(kind, error, traceback)

    @contextmanager
    def watching(self, directory: Path) -> Iterator[WatchedDirectory]:
        """Watch a directory from entering to leaving; it may appear meanwhile."""
        watched = WatchedDirectory(directory, self._watch)
        watched.watch = self._watch(watched)
        try:
            yield watched
        finally:
            self._forget(watched)

    def _watch(self, watched: WatchedDirectory) -> Watch | None:
        if self._inotify is None:
            return None
        try:
            watch = self._inotify.add_watch(watched.path, _CHANGED)
        except FileNotFoundError:
            return None
        except OSError as refusal:
            self._explain(refusal)
            return None
        self._watched.setdefault(watch.wd, set()).add(watched)
        return watch

    def _forget(self, watched: WatchedDirectory) -> None:
        if (watch := watched.watch) is None:
            return
        self._watched[watch.wd].remove(watched)
        if not self._watched[watch.wd]:
            del self._watched[watch.wd]
            if self._inotify is not None:
                with suppress(OSError):  # it ended by itself, and nobody has read that yet
                    self._inotify.rm_watch(watch)

    async def _listen(self, inotify: Inotify) -> None:
        async for event in inotify:
            if Mask.Q_OVERFLOW in event.mask:
                for number in list(self._watched):
                    self._tell(number)
            elif event.watch is not None:  # else it is the end of a watch that has told its change
                self._tell(event.watch.wd)

    def _tell(self, number: int) -> None:
        for watched in self._watched.pop(number, ()):
            watched.watch = None
            watched.wake()

    def _explain(self, refusal: OSError) -> None:
        if not self._explained:
            self._explained = True
            _log.warning(
                "files can't be watched (%s), so what Pulumi writes is looked for every %d ms; raise "
                "fs.inotify.max_user_watches and fs.inotify.max_user_instances",
                refusal.strerror or refusal,
                PAUSE / timedelta(milliseconds=1),
            )


class WatchedDirectory:
    """A directory in which somebody waits for changes. ``watch`` is what the kernel has for it now, if anything."""

    def __init__(self, path: Path, rewatch: Callable[[WatchedDirectory], Watch | None]) -> None:
        self.path = path
        self.watch: Watch | None = None
        self._rewatch = rewatch
        self._changed = asyncio.Event()

    def wake(self) -> None:
        """Let whoever waits, or else the next who does, return."""
        self._changed.set()

    async def wait(self, limit: timedelta) -> None:
        """Return when something in it was written, created or renamed since the last return, or after ``limit``.

        It returns earlier where the kernel does not watch the directory; look at the files in any case.
        """
        if self.watch is None:
            limit = min(limit, PAUSE)
        with suppress(TimeoutError):
            async with asyncio.timeout(limit.total_seconds()):
                await self._changed.wait()
        # Watched again before the caller looks: what changes from here on lets the next wait return.
        self._changed.clear()
        if self.watch is None:
            self.watch = self._rewatch(self)
