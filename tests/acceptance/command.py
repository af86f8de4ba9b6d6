"""The command `stackcast` as a user has it: a process, whose streams are pipes or a terminal."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import re
import struct
import sys
import termios
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.service import PATIENCE, Service, environment


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it printed."""

    code: int | None
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        """Its stdout as JSON, one object in a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def sentence(self) -> str:
        """Its stderr, which must be one line."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        return lines[0]


def variables(service: Service, **more: str) -> dict[str, str]:
    return environment(service.root, **{"STACKCAST_SERVER": f"http://{service.address}", **more})


async def begin(
    environ: Mapping[str, str], directory: Path, *arguments: str, **streams: Any
) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "graphql_api", *arguments),
        env=environ,
        cwd=directory,
        **{"stdin": asyncio.subprocess.DEVNULL, "stdout": pipe, "stderr": pipe, **streams},
    )


async def end(process: asyncio.subprocess.Process, stdin: bytes | None = None) -> Ended:
    async with asyncio.timeout(2 * PATIENCE):
        out, err = await process.communicate(stdin)
    assert "Traceback" not in err.decode(), err.decode()
    return Ended(process.returncode, (out or b"").decode(), err.decode())


async def stackcast(service: Service, *arguments: str, stdin: str | None = None, **more: str) -> Ended:
    """Run the command to its end."""
    streams = {} if stdin is None else {"stdin": asyncio.subprocess.PIPE}
    process = await begin(variables(service, **more), service.root, *arguments, **streams)
    return await end(process, None if stdin is None else stdin.encode())


@asynccontextmanager
async def serving_process(
    root: Path, port: str, stderr: int | None = None, **more: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """`stackcast serve` as a process, with its address; ended on leaving."""
    process = await begin(environment(root, STACKCAST_PORT=port, **more), root, "serve", stderr=stderr)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE):
            line = (await process.stdout.readline()).decode()
        yield process, line.split("http://")[1].split("/")[0]
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(PATIENCE):
            await process.communicate()


async def on_a_terminal(environ: Mapping[str, str], directory: Path, *arguments: str) -> tuple[int | None, str]:
    """Run a command whose streams are all one terminal of 40 lines; its exit code, and what the terminal got."""
    terminal, other_side = pty.openpty()
    fcntl.ioctl(other_side, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    process = await begin(environ, directory, *arguments, stdin=other_side, stdout=other_side, stderr=other_side)
    os.close(other_side)
    printed = await asyncio.to_thread(read_all, terminal)
    os.close(terminal)
    async with asyncio.timeout(PATIENCE):
        return await process.wait(), printed


def read_all(terminal: int) -> str:
    content = b""
    try:
        while chunk := os.read(terminal, 65536):
            content += chunk
    except OSError:  # how Linux says that nobody has the other side open
        pass
    return content.decode()


def screen(printed: str) -> list[str]:
    """What is left on a terminal after the escapes that a live picture uses: up, column 1, erase the line."""
    lines, row = [""], 0
    for text in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", printed):
        if text == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif re.fullmatch(r"\x1b\[\d*A", text):
            row -= int(text[2:-1] or 1)
        elif text == "\x1b[2K":
            lines[row] = ""
        elif not text.startswith(("\x1b", "\r")):
            lines[row] += text
    return [line.rstrip() for line in lines]
