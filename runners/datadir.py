"""The data directory: where everything lies, made on first use, and locked by the one service that uses it."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from graphql_api.domain.errors import StartRefused


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """An opened data directory. ``owner`` is its own random name, under which its service claims stacks."""

    path: Path
    owner: str

    @property
    def title(self) -> str:
        """The owner, and where it is, for people."""
        return f"{self.path} on {socket.gethostname()} ({self.owner})"

    @property
    def runs(self) -> Path:
        """One directory for each run that goes on, or that went wrong."""
        return self.path / "runs"

    @property
    def locks(self) -> Path:
        """One lock file for each stack that was ever deployed."""
        return self.path / "locks"

    @property
    def state(self) -> Path:
        """Pulumi's state, where no other backend is set."""
        return self.path / "state"

    @property
    def pulumi_home(self) -> Path:
        """Pulumi's plugins and logs, where no other place is set."""
        return self.path / "pulumi"

    @property
    def passphrase(self) -> Path:
        """A file with a random passphrase, for where none is set."""
        return self.path / "passphrase"


@contextmanager
def open_data_directory(path: Path) -> Iterator[DataDirectory]:
    """Make the directory if need be and hold it. Blocking.

    Raises StartRefused when it can't be used, others could read it, or another service has it.
    """
    with ExitStack() as stack:
        try:
            directory = _open(path, stack)
        except OSError as error:
            remedy = "Free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "Correct its permissions"
            raise StartRefused(
                f"The data directory {path} can't be used: {error.strerror}. {remedy}, or set STACKCAST_DATA_DIR to "
                "another one."
            ) from error
        yield directory


def _open(path: Path, stack: ExitStack) -> DataDirectory:
    _make(path)
    lock = os.open(path / "service.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    stack.callback(os.close, lock)
    _lock(lock, path)
    for name in ("runs", "locks", "state", "pulumi"):
        (path / name).mkdir(mode=0o700, exist_ok=True)
    _first_content(path / "passphrase", secrets.token_urlsafe(32))
    return DataDirectory(path, owner=_first_content(path / "owner", secrets.token_hex(8)))


def _make(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise StartRefused(
            f"The data directory {path} is open to other users (mode {mode:04o}), and secrets are to be kept in it. "
            f"Run `chmod 700 {path}`, or set STACKCAST_DATA_DIR to another one."
        )


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StartRefused(
            f"Another stackcast uses the data directory {path}. Stop it, or set STACKCAST_DATA_DIR to another one."
        ) from None


def _first_content(file: Path, content: str) -> str:
    """The file's content; the given one when there is none yet. A crash leaves no half-written file."""
    if not file.exists():
        draft = file.with_suffix(".new")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        draft.rename(file)
    return file.read_text().strip()
