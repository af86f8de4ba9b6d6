"""The systems that stackcast is measured against. Each prints its URL and pushes every line that it reads."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from tests.bench.process import System, started

HERE = Path(__file__).parent


def python(name: str, root: Path, *arguments: str) -> AbstractAsyncContextManager[System]:
    """One of the modules beside this file."""
    command = (sys.executable, "-m", f"tests.bench.peers.{name}", *arguments)
    return started(command, os.environ, root / f"{name}.log")


def node(name: str, packages: Path, root: Path, *arguments: str) -> AbstractAsyncContextManager[System]:
    """One of the programs beside this file, from where its packages are installed."""
    variables = {**os.environ, "NODE_ENV": "production"}
    return started(("node", f"{name}.js", *arguments), variables, root / f"{name}.log", directory=packages)


async def install(directory: Path) -> str | None:
    """Put the programs for Node and their packages there; None, or why that can't be done."""
    if not (shutil.which("node") and shutil.which("npm")):
        return "Node is not installed"
    for file in (*HERE.glob("*.js"), HERE / "package.json"):
        shutil.copy(file, directory)
    process = await asyncio.create_subprocess_exec(
        *(
            "npm",
            "install",
            "--no-audit",
            "--no-fund",
            "--no-package-lock",
            "--ignore-scripts",
            "--prefer-offline",
            "--silent",
        ),
        cwd=directory,
        stdin=asyncio.subprocess.DEVNULL,
    )
    return None if await process.wait() == 0 else "npm could not install the packages"


async def lines() -> AsyncIterator[str]:
    """What this process, a peer, is told to push."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield line.decode().rstrip("\n")
