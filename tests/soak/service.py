"""A service in a process of its own that can be asked what it holds.

It prints its address, then answers each line that it reads with what it has as JSON, and ends with its input.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from graphql_api.server import serving
from graphql_api.settings import Settings
from tests.service import PATIENCE, Service, environment


@dataclass(frozen=True)
class AskedService:
    """A running service, and its process."""

    service: Service
    process: asyncio.subprocess.Process

    async def held(self) -> Mapping[str, int]:
        """How many tasks and objects it has, once all garbage is collected."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b"\n")
        async with asyncio.timeout(PATIENCE):
            held: dict[str, int] = json.loads(await self.process.stdout.readline())
        return held


@asynccontextmanager
async def asked_service(root: Path, **variables: str) -> AsyncIterator[AskedService]:
    (root / "tmp").mkdir(exist_ok=True)
    with (root / "service.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.soak.service"),
            env=environment(root, TMPDIR=str(root / "tmp"), **variables),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            cwd=Path(__file__).parents[2],
        )
    try:
        assert process.stdout is not None
        address = (await process.stdout.readline()).decode().strip()
        assert address, (root / "service.log").read_text()
        yield AskedService(Service(address, root), process)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()


async def main() -> None:
    loop = asyncio.get_running_loop()
    asked, ending = asyncio.Event(), asyncio.Event()

    def read() -> None:
        (asked if os.read(0, 4096) else ending).set()

    loop.add_signal_handler(signal.SIGTERM, ending.set)
    loop.add_reader(0, read)
    async with serving(Settings.from_environment()) as address:
        say(address)
        answering = asyncio.create_task(answer(asked), name="answer")
        await ending.wait()
        loop.remove_reader(0)
        answering.cancel()


async def answer(asked: asyncio.Event) -> None:
    while True:
        await asked.wait()
        asked.clear()
        gc.collect()
        say(json.dumps({"tasks": len(asyncio.all_tasks()), "objects": len(gc.get_objects())}))


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


if __name__ == "__main__":
    asyncio.run(main())
