"""Running a script of `scripts/` in Node, in a directory of its own from which the installed packages are found."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.service import PATIENCE, Service

_HERE = Path(__file__).parent
LINE_LIMIT = 16 * 1024 * 1024  # bytes of one printed line


@dataclass(frozen=True)
class Node:
    """A directory with a copy of the scripts, to which a test may add files."""

    directory: Path

    @classmethod
    def prepare(cls, directory: Path, packages: Path, home: Path = _HERE) -> Node:
        """``directory`` must not exist; ``packages`` is the `node_modules` of the folder of tests ``home``."""
        shutil.copytree(home / "scripts", directory)
        shutil.copy(home / "package.json", directory)
        (directory / "node_modules").symlink_to(packages)
        return cls(directory)

    async def run(self, script: str, *arguments: str) -> Any:
        """What a script prints in its one line of JSON; it must succeed."""
        async with self.running(script, *arguments) as printed:
            values = [value async for value in printed]
        (value,) = values
        return value

    @asynccontextmanager
    async def running(self, script: str, *arguments: str) -> AsyncIterator[AsyncGenerator[Any, None]]:
        """The lines of JSON that a script prints, as they come. On leaving, it must have succeeded."""
        process = await asyncio.create_subprocess_exec(
            *("node", script, *arguments),
            cwd=self.directory,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE_LIMIT,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        complaints = asyncio.create_task(process.stderr.read())
        try:
            yield _values(process.stdout)
            async with asyncio.timeout(PATIENCE):
                await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            said = (await complaints).decode()
            if process.returncode or said:
                raise AssertionError(f"{script} ended with {process.returncode} and said: {said}")


def graphql_url(service: Service) -> str:
    return f"http://{service.address}/graphql"


async def _values(stream: asyncio.StreamReader) -> AsyncGenerator[Any, None]:
    while True:
        async with asyncio.timeout(PATIENCE):
            line = await stream.readline()
        if not line:
            return
        yield json.loads(line)
