"""What a run may use: how much its commands may write, and how much memory they may take."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from runners import process
from runners.runs import supervisor_of

PAUSE = timedelta(seconds=1)  # between two looks at what a command uses
MIB = 1024 * 1024
_OUTPUT = ("stdout", "stderr", "events")


@dataclass(frozen=True, slots=True)
class RunLimits:
    """What each command of a run may use.

    ``output_bytes``: its stdout, stderr and event log together. ``memory_bytes``: all processes in its session.
    """

    output_bytes: int
    memory_bytes: int


async def exceeded(directory: Path, limits: RunLimits, pause: timedelta = PAUSE) -> str:
    """Wait until the command in this directory uses more than it may, and return a sentence that says what to do.

    It may still have to begin, and its end is not noticed here.
    """
    while True:
        # A look that is refused, such as for want of a file descriptor, is not the deployment's trouble.
        with suppress(OSError):
            if excess := await asyncio.to_thread(_excess, directory, limits):
                return excess
        await asyncio.sleep(pause.total_seconds())


def default_memory_limit(root: Path = Path("/")) -> int:
    """Return 80 % of this machine's memory in bytes, or of our cgroup's where that is less. Blocking."""
    return min((_machine_memory(root), *_cgroup_limits(root))) * 8 // 10


def _excess(directory: Path, limits: RunLimits) -> str | None:
    output = sum(_size(directory / name) for name in _OUTPUT)
    if output > limits.output_bytes:
        return (
            f"Pulumi has written {_mib(output)}, and {_mib(limits.output_bytes)} is the limit. Have the program print"
            " less, or set STACKCAST_OUTPUT_LIMIT, in MiB, higher."
        )
    memory = _memory(directory, limits.memory_bytes)
    if memory > limits.memory_bytes:
        return (
            f"Pulumi, the program and its plugins take {_mib(memory)} of memory, and {_mib(limits.memory_bytes)} is the"
            " limit. Have the program print less or deploy fewer resources at once, or set STACKCAST_MEMORY_LIMIT, in"
            " MiB, higher."
        )
    return None


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _memory(directory: Path, limit: int) -> int:
    supervisor = supervisor_of(directory)
    members = process.session_members(supervisor.pid) if supervisor else []
    # Without its supervisor a session is being ended, or its number has come to mean another one.
    return process.memory(members, precise_above=limit) if supervisor in members else 0


def _mib(size: int) -> str:
    return f"{-(-size // MIB):,} MiB"


def _machine_memory(root: Path) -> int:
    lines = (root / "proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal:"))


def _cgroup_limits(root: Path) -> Iterator[int]:
    """The limits of our cgroup and of those above it, of both versions; none where there is none."""
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "":
                yield from _limits_along(root / "sys/fs/cgroup", path, "memory.max")
            elif "memory" in controllers.split(","):
                yield from _limits_along(root / "sys/fs/cgroup/memory", path, "memory.limit_in_bytes")


def _limits_along(mount: Path, path: str, name: str) -> Iterator[int]:
    # In a container the path may be that of the host, while the cgroup itself is mounted: then only that one is found.
    below = Path(path.lstrip("/"))
    for place in (below, *below.parents):
        with suppress(OSError, ValueError):  # it is not there, or it is "max"
            yield int((mount / place / name).read_text())
