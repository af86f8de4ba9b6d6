"""A service in small, to be killed: `python service.py RUNS LOCK ARGV...` executes one command in a run."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from pathlib import Path

from runners.fork_server import ForkServer
from runners.lock import StackLock
from runners.runs import Command, Run


async def serve(runs: Path, lock: StackLock, argv: list[str]) -> None:
    assert lock.try_acquire()
    minute = timedelta(minutes=1)
    command = Command("up", argv, cwd=runs, environment={}, limit=minute, graces=(minute, minute))
    with ForkServer() as supervisors:
        await Run.create(runs, "update").execute(command, lock, supervisors)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), StackLock(Path(sys.argv[2])), sys.argv[3:]))
