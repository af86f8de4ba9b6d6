"""What Pulumi's file backend keeps of the past and never removes: what each update did, and copies of the state.

    <state>/.pulumi/history/<project>/<stack>/<stack>-<nanoseconds>.{history,checkpoint}.json[.attrs]
    <state>/.pulumi/backups/<project>/<stack>/<stack>.<nanoseconds>.json[.attrs]

No link is ever followed, and nothing that is named otherwise is touched. Facts: Pulumi CLI 3.259.0.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

_KINDS = ("history", "backups")
#: What follows the stack's name: when the update was, in nanoseconds since 1970, and what the file is.
_REST_OF_NAME = re.compile(r"[-.](\d{19})\.[a-z.]+")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class PastOfStack:
    """The directory in which such files of one stack are."""

    state: Path
    kind: str
    project: str
    stack: str

    def remove_old(self, before: datetime, newest: int) -> int:
        """Remove the files of updates before the moment, but for the newest so many updates; how many it were.

        Blocking. Nothing happens where the directory is gone.
        """
        with _opened(self.state, ".pulumi", self.kind, self.project, self.stack) as directory:
            if directory is None:
                return 0
            files = _files_by_time(directory, self.stack)
            old = [time for time in sorted(files, reverse=True)[newest:] if _moment(time) < before]
            removed = 0
            for name in (name for time in old for name in files[time]):
                with suppress(FileNotFoundError):  # somebody else was faster
                    os.unlink(name, dir_fd=directory)
                    removed += 1
            return removed


def pasts(state: Path) -> list[PastOfStack]:
    """All such directories in Pulumi's state directory. Blocking."""
    return [
        PastOfStack(state, kind, project, stack)
        for kind in _KINDS
        for project in _directories(state, ".pulumi", kind)
        for stack in _directories(state, ".pulumi", kind, project)
    ]


def _directories(state: Path, *names: str) -> list[str]:
    with _opened(state, *names) as directory:
        if directory is None:
            return []
        with os.scandir(directory) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))


def _files_by_time(directory: int, stack: str) -> dict[int, list[str]]:
    files = dict[int, list[str]]()
    with os.scandir(directory) as entries:
        for entry in entries:
            rest = _REST_OF_NAME.fullmatch(entry.name.removeprefix(stack)) if entry.name.startswith(stack) else None
            if rest and entry.is_file(follow_symlinks=False):
                files.setdefault(int(rest[1]), []).append(entry.name)
    return files


def _moment(nanoseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=nanoseconds // 1000)


@contextmanager
def _opened(state: Path, *names: str) -> Iterator[int | None]:
    """The directory that is reached by these names; None where one is missing, or is a link or a file."""
    with ExitStack() as stack:
        yield _open(stack, state, names)


def _open(stack: ExitStack, state: Path, names: Iterable[str]) -> int | None:
    try:
        directory = os.open(state, _DIRECTORY)
        stack.callback(os.close, directory)
        for name in names:
            directory = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
            stack.callback(os.close, directory)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return directory
