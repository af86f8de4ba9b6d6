"""The lock of a stack: what proves that nothing of an earlier run lives, whoever started it."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, Self


class Suspect(NamedTuple):
    """A Pulumi process of ours that may have left Pulumi's own lock on the stack.

    It lived within ``started`` and ``ended``, in seconds since 1970: hosts may have the same name, and pids are used
    again, so that only the time tells it from another that holds such a lock now.
    """

    hostname: str
    pid: int
    started: float
    ended: float


class Holder(NamedTuple):
    """Who holds Pulumi's own lock on the stack, as the lock says; ``since`` in seconds since 1970, None if unknown."""

    hostname: str
    pid: int
    since: float | None

    def is_one_of(self, suspects: Iterable[Suspect]) -> bool:
        """Tell whether a suspect took the lock: the same process, at a time at which it lived."""
        return any(
            (self.hostname, self.pid) == (suspect.hostname, suspect.pid)
            and self.since is not None
            and int(suspect.started) <= self.since <= suspect.ended  # the lock has whole seconds
            for suspect in suspects
        )


#: Room for some forty suspects, taken before anything runs: once the disk is full they can still be written down.
_ROOM = 4096


class StackLock:
    """The lock of one stack: held while anything lives that was started under it, whoever started it.

    It is an flock on a file whose descriptor everything in a run inherits. Such a lock belongs to the open file, not
    to a process: after ``release`` it stays taken until the last child with a copy has ended. The file is never
    removed, or two could lock two files of one name. In it stand the stack's suspects. Methods block on the disk.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    @classmethod
    def of_stack(cls, locks_dir: Path, fqdn: str) -> Self:
        """Return the lock of the stack with this name, which may hold characters that no file name can.

        Names that differ only by case have one lock: where Pulumi's backend does not tell them apart, they are one.
        """
        return cls(locks_dir / f"{sha256(fqdn.casefold().encode()).hexdigest()}.lock")

    @property
    def held(self) -> bool:
        return self._descriptor is not None

    def try_acquire(self) -> bool:
        """Take the lock if nobody has it; False when something of a run still lives. RuntimeError when we have it.

        OSError where the file can't be made, or where no room is left to write in it.
        """
        if self.held:
            raise RuntimeError("This StackLock is held already; release it first.")
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_size < _ROOM:
                os.posix_fallocate(descriptor, 0, _ROOM)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return True

    def fileno(self) -> int:
        """Return the descriptor to hand down. RuntimeError when the lock is not held."""
        if self._descriptor is None:
            raise RuntimeError("This StackLock is not held; acquire it before running or writing anything under it.")
        return self._descriptor

    def release(self) -> None:
        """Let go of our copy; children keep theirs. Nothing happens when we have none."""
        if self._descriptor is not None:
            # Never LOCK_UN: it would unlock the open file for all who share it, a living Pulumi included.
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        self.fileno()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def suspects(self) -> frozenset[Suspect]:
        """Return the processes that may have left Pulumi's lock; needs no lock. Unreadable content accuses nobody."""
        try:
            entries = json.loads(self.path.read_bytes().rstrip(b"\0 "))
            return frozenset(Suspect(**entry) for entry in entries)
        except (FileNotFoundError, ValueError, TypeError):
            return frozenset()

    def suspect(self, *suspects: Suspect) -> None:
        """Remember processes that may have left Pulumi's lock; needs the lock."""
        self._write(self.suspects().union(suspects))

    def suspect_only(self, suspect: Suspect) -> None:
        """Forget all others, once this process has had Pulumi's lock, and so no other is left; needs the lock."""
        self._write(frozenset({suspect}))

    def _write(self, suspects: frozenset[Suspect]) -> None:
        # In place: a new file under this name would be another lock. And never shorter, which would give up room.
        content = json.dumps([suspect._asdict() for suspect in sorted(suspects)]).encode().ljust(_ROOM)
        descriptor = self.fileno()
        os.ftruncate(descriptor, os.pwrite(descriptor, content, 0))
        os.fsync(descriptor)
