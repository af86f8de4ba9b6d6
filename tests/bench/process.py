"""The service as a process of its own, so that its memory and its time are its own."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.service import Service, environment


@asynccontextmanager
async def serving(root: Path, **variables: str) -> AsyncIterator[tuple[Service, int]]:
    """A service, and its pid."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "graphql_api", "serve"),
        env=environment(root, **variables),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=root,
    )
    assert process.stdout is not None
    address = (await process.stdout.readline()).decode().split("http://")[1].split("/")[0]
    try:
        yield Service(address, root), process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()


def memory(pid: int, what: str = "VmRSS") -> float:
    """How many MiB of memory a process has, or had at most (VmHWM)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(what))
