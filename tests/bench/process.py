"""Systems as processes of their own, so that their memory and their time are their own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.service import Service, environment

PROJECT = Path(__file__).parents[2]
#: How long a system may take to start, in seconds.
PATIENCE = 30
_CORES = sorted(os.sched_getaffinity(0))
#: A server has one core for itself, and who asks it another, where there are two.
EVERY_CORE, SERVER_CORE, CLIENT_CORE = set(_CORES), {_CORES[0]}, {_CORES[-1]}


@dataclass(frozen=True)
class System:
    """A system that listens: where, and its process."""

    address: str
    process: asyncio.subprocess.Process

    @property
    def pid(self) -> int:
        return self.process.pid

    def tell(self, line: str) -> None:
        """Have it push this line to all who have subscribed; for peers only."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())


@asynccontextmanager
async def started(
    command: Sequence[str],
    variables: Mapping[str, str],
    errors: Path,
    cores: Collection[int] = SERVER_CORE,
    directory: Path = PROJECT,
) -> AsyncIterator[System]:
    """A system that first prints a line with its URL, on these cores. What it has to complain of goes to a file."""
    with errors.open("wb") as file, on_cores(cores):
        process = await asyncio.create_subprocess_exec(
            *command,
            env=dict(variables),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=file,
            cwd=directory,
        )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            line = (await process.stdout.readline()).decode()
        yield System(_address(line, errors), process)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await _ended(process)


def _address(line: str, errors: Path) -> str:
    assert "http://" in line, f"It did not start, and says {line!r}:\n{errors.read_text()}"
    return line.split("http://")[1].split("/")[0].strip()


async def _ended(process: asyncio.subprocess.Process) -> None:
    try:
        async with asyncio.timeout(PATIENCE):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


@asynccontextmanager
async def serving(
    root: Path, cores: Collection[int] = EVERY_CORE, **variables: str
) -> AsyncIterator[tuple[Service, int]]:
    """A service as the command line starts it, and its pid."""
    (root / "modules").mkdir(parents=True, exist_ok=True)
    command = (sys.executable, "-m", "graphql_api", "serve")
    async with started(command, environment(root, **variables), root / "service.log", cores) as system:
        yield Service(system.address, root), system.pid


@contextmanager
def on_cores(cores: Collection[int]) -> Iterator[None]:
    """This thread, and what it starts, on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


#: What CPU time is counted in, in seconds.
TICK = 1 / os.sysconf("SC_CLK_TCK")


def cpu(pid: int) -> float:
    """How many seconds of a core all threads of a process have used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK


def memory(pid: int, what: str = "VmRSS") -> float:
    """How many MiB of memory a process has, or had at most (VmHWM)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(what))
