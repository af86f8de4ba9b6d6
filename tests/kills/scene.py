"""The service, and its store's server, as processes that are killed and started again on the same data."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from runners import process, supervisor
from runners.process import ProcessIdentity
from tests.kills import programs
from tests.processes import children
from tests.service import PATIENCE, Service, environment

#: How long the store's server, or the service, may take to be there.
START_LIMIT = 30.0


class Victim(StrEnum):
    """What is killed."""

    SERVICE = "service"
    PULUMI = "Pulumi"
    SUPERVISOR = "supervisor"
    FORK_SERVER = "fork server"
    STORE = "store"


@dataclass(frozen=True)
class Parts:
    """What a scene is made of: the real Pulumi, or None for the stand-in; FerretDB, or None for SQLite."""

    pulumi: Path | None = None
    ferretdb: Path | None = None


@dataclass
class Store:
    """FerretDB in a process of its own."""

    executable: Path
    data: Path
    url: str = ""
    server: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, the second time and later where it was before."""
        self.data.mkdir(exist_ok=True)
        address = self.url.removeprefix("mongodb://").rstrip("/") or "127.0.0.1:0"
        with self.data.with_suffix(".log").open("ab") as log:
            self.server = await asyncio.create_subprocess_exec(
                *(self.executable, address, self.data),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        self.url = await _first_line(self.server)
        assert self.url.startswith("mongodb://"), self.url

    async def kill(self) -> None:
        assert self.server is not None
        await _kill(self.server)


@dataclass
class Scene:
    """What is there to be killed; ``variables`` are more settings of the service."""

    root: Path
    parts: Parts
    variables: Mapping[str, str] = field(default_factory=dict)
    store: Store | None = field(init=False, default=None)
    _process: asyncio.subprocess.Process | None = field(init=False, default=None)
    _service: Service | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.tmp.mkdir(parents=True)
        programs.write_module(self.root / "modules")
        if self.parts.pulumi is None:
            programs.install(self.root / "bin")
        if self.parts.ferretdb is not None:
            self.store = Store(self.parts.ferretdb, self.root / "ferretdb")

    @property
    def tmp(self) -> Path:
        return self.root / "tmp"

    @property
    def log(self) -> Path:
        """What the service wrote to its standard error."""
        return self.root / "service.log"

    @property
    def runs(self) -> Path:
        return self.root / "data" / "runs"

    @property
    def pids(self) -> set[int]:
        """Those of what is to be there all the time."""
        running = [self._process, self.store.server if self.store else None]
        return {one.pid for one in running if one is not None} | self._fork_servers()

    @property
    def alive(self) -> bool:
        """Whether the service runs."""
        return self._process is not None and self._process.returncode is None

    @property
    def service(self) -> Service:
        """The service as it was started last; it may be away."""
        assert self._service is not None
        return self._service

    async def start(self) -> None:
        """Start the service, which takes over what an earlier one left."""
        await self.launch()
        await self.listening()

    async def launch(self) -> None:
        """Start it, and do not wait until it listens."""
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-W", "error", "-m", "graphql_api", "serve"),
                env=self._environment(),
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                cwd=self.root,
            )

    async def listening(self) -> None:
        """Wait until it does."""
        assert self._process is not None
        line = await _first_line(self._process)
        assert "/graphql" in line, f"the service did not start: {line!r}, see {self.log}"
        self._service = Service(line.split("http://")[1].split("/")[0], self.root)

    def _environment(self) -> dict[str, str]:
        pulumi = self.parts.pulumi.parent if self.parts.pulumi else self.root / "bin"
        variables = {
            "PATH": f"{pulumi}{os.pathsep}{os.environ['PATH']}",
            "TMPDIR": str(self.tmp),
            "STACKCAST_MAX_CONCURRENT": "4",
            "STACKCAST_INTERRUPT_GRACE": "1",
            "STACKCAST_TERMINATE_GRACE": "1",
            **({"STACKCAST_DATABASE_URL": f"{self.store.url}kills"} if self.store else {}),
            **self.variables,
        }
        return environment(self.root, **variables)

    def signal_service(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def kill_service(self) -> None:
        assert self._process is not None
        await _kill(self._process)

    def kill_fork_server(self) -> bool:
        """Kill the process from which the service has its supervisors; False where there is none."""
        killed = False
        for pid in self._fork_servers():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed = True
        return killed

    def has_begun(self, update_id: str) -> bool:
        """Whether the supervisor of its Pulumi is at work, or was: nobody has to be asked for another."""
        return any((self.runs / update_id).glob("[0-9][0-9]-up/pids.json"))

    def _fork_servers(self) -> set[int]:
        """The pid of the service's fork server; empty where the service is away."""
        if self._process is None or not self.alive:
            return set()
        return {pid for pid in children(self._process.pid) if _is_fork_server(pid)}

    def kill(self, victim: Victim, update_id: str) -> str | None:
        """Kill the Pulumi or the supervisor of a deployment; the command that this was, None where none is there."""
        for directory in sorted((self.runs / update_id).glob("[0-9][0-9]-*"), reverse=True):
            identity = self._identity(victim, directory)
            if identity is not None and process.send_signal(identity, signal.SIGKILL):
                return directory.name.partition("-")[2]
        return None

    def _identity(self, victim: Victim, directory: Path) -> ProcessIdentity | None:
        try:
            pids = json.loads((directory / "pids.json").read_bytes())
        except FileNotFoundError:
            return _starting(directory) if victim is Victim.SUPERVISOR else None
        who = "command" if victim is Victim.PULUMI else "supervisor"
        return ProcessIdentity(**pids[who], boot_id=pids["boot_id"])

    async def stop(self) -> int | None:
        """Ask the service to end; its exit status, None where it was away."""
        status = None
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            with suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    await self._process.wait()
            await _kill(self._process)
            status = self._process.returncode
        if self.store is not None and self.store.server is not None:
            await self.store.kill()
        return status


@asynccontextmanager
async def a_scene(root: Path, parts: Parts, **variables: str) -> AsyncIterator[Scene]:
    """A scene with its processes, for as long as nobody leaves."""
    scene = Scene(root, parts, variables)
    try:
        if scene.store is not None:
            await scene.store.start()
        await scene.start()
        yield scene
    finally:
        await scene.stop()


def _starting(directory: Path) -> ProcessIdentity | None:
    """The supervisor that starts in a directory and has not said yet who it is."""
    log = directory / "supervisor.log"
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            # Its command has the same log until it begins, and leads no session.
            if (
                entry.name.isdigit()
                and (entry / "fd/2").readlink() == log
                and os.getsid(int(entry.name)) == int(entry.name)
            ):
                return process.identify(int(entry.name))
    return None


def _is_fork_server(pid: int) -> bool:
    try:
        return os.fsencode(supervisor.__file__) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:  # it has ended
        return False


async def _first_line(started: asyncio.subprocess.Process) -> str:
    assert started.stdout is not None
    async with asyncio.timeout(START_LIMIT):
        return (await started.stdout.readline()).decode().strip()


async def _kill(victim: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        victim.kill()
    await victim.wait()
