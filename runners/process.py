"""Processes that we may not be the parent of: who they are, signalling them, waiting for them, what a session has.

A pid alone names nobody: it is used again. So a process is named by pid, start time and boot, and a signal goes through
a descriptor of the process (a pidfd), after which the start time is looked at once more.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path

KILL_LIMIT = timedelta(seconds=10)  # for a process to be gone after SIGKILL; longer only where the kernel holds it
_ENDED = "ZXx"  # states of a process that only waits to be reaped
_NO_SUCH_PROCESS = (errno.ESRCH, errno.EINVAL, errno.ENOENT)  # the latter two: the number now belongs to a thread


@dataclass(frozen=True)
class ProcessIdentity:
    """One process of one boot; ``start_time`` is in the kernel's clock ticks since that boot."""

    pid: int
    start_time: int
    boot_id: str


def identify(pid: int) -> ProcessIdentity | None:
    """Return who has this pid now, or None where nobody has; one that has ended but is not reaped counts as gone."""
    fields = _stat_fields(pid)
    if fields is None or fields[0] in _ENDED:
        return None
    return ProcessIdentity(pid=pid, start_time=int(fields[19]), boot_id=boot_id())


def is_alive(identity: ProcessIdentity) -> bool:
    """Tell whether exactly this process runs, and not another one with its pid."""
    return identify(identity.pid) == identity


def send_signal(identity: ProcessIdentity, number: signal.Signals) -> bool:
    """Send a signal to exactly this process; False when it is gone. PermissionError where it is not ours to signal."""
    pidfd = _open(identity)
    if pidfd is None:
        return False
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)
    return True


async def wait_until_gone(identity: ProcessIdentity, limit: timedelta) -> bool:
    """Wait until the process has ended; False when it still runs after ``limit``. It need not be a child of ours."""
    pidfd = _open(identity)
    if pidfd is None:
        return True
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(pidfd, ended.set)
    try:
        async with asyncio.timeout(limit.total_seconds()):
            await ended.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
    return True


async def end(
    identity: ProcessIdentity, graces: tuple[timedelta, timedelta], spare: Callable[[], bool] | None = None
) -> bool:
    """End a process: SIGTERM, the first grace, a second SIGTERM, the second grace, SIGKILL; False if it survived that.

    Where ``spare`` says True (it is asked in a thread, before each SIGTERM), the grace passes without the signal.
    """
    for grace in graces:
        if spare is None or not await asyncio.to_thread(spare):
            send_signal(identity, signal.SIGTERM)
        if await wait_until_gone(identity, grace):
            return True
    send_signal(identity, signal.SIGKILL)
    return await wait_until_gone(identity, KILL_LIMIT)


def session_members(session_id: int) -> list[ProcessIdentity]:
    """Return the processes that run in a session, its leader included. Blocking: it asks for each of the machine."""
    members = []
    for pid in _pids():
        # Asked first, for a tenth of what reading costs; then read, as the pid may have come to mean someone else.
        if _session(pid) != session_id:
            continue
        fields = _stat_fields(pid)
        if fields is not None and int(fields[3]) == session_id and fields[0] not in _ENDED:
            members.append(ProcessIdentity(pid=pid, start_time=int(fields[19]), boot_id=boot_id()))
    return members


def memory(processes: Sequence[ProcessIdentity], precise_above: int) -> int:
    """Return how many bytes processes have in memory together; what they share may count several times. Blocking.

    Not if that would be more than ``precise_above``: then each page is divided among those who have it, for which the
    kernel goes through all their pages, a few milliseconds for each gigabyte.
    """
    resident = [_resident(member.pid) for member in processes]
    if sum(resident) <= precise_above:
        return sum(resident)
    shares = [_proportional(member.pid) for member in processes]
    return sum(whole if share is None else share for whole, share in zip(resident, shares, strict=True))


def open_files(identity: ProcessIdentity) -> set[Path]:
    """Return what the process has open, as far as we may look; nothing when it is gone. Blocking."""
    found = set()
    with suppress(OSError):
        for link in Path(f"/proc/{identity.pid}/fd").iterdir():
            with suppress(OSError):
                found.add(link.readlink())
    return found if is_alive(identity) else set()


def _open(identity: ProcessIdentity) -> int | None:
    """Return a pidfd of exactly this process; None when it is gone."""
    try:
        pidfd = os.pidfd_open(identity.pid)
    except OSError as error:
        if error.errno in _NO_SUCH_PROCESS:
            return None
        raise
    # Only with the descriptor in hand: looked at before, the pid could still change hands in between.
    if not is_alive(identity):
        os.close(pidfd)
        return None
    return pidfd


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def _stat_fields(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat from the state on, or None when there is no such process.

    They begin after the last parenthesis: the program's name before may itself hold spaces and parentheses.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def _resident(pid: int) -> int:
    """Return how many bytes of memory a process has, those that others have, too, included; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _proportional(pid: int) -> int | None:
    """Return the same with each page divided among those who have it; None where we may not look, or it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), None)


@cache
def boot_id() -> str:
    """Return the name of this boot, under which pids and start times are told."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
