"""Building commands that are written in Go: once, whole or not at all, into a cache that many may share."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import shutil
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from runners.toolchain.ask import ToolchainError, ask, end

Report = Callable[[str], None]

#: Pulumi's own go.mod asks for this version.
OLDEST_GO = (1, 25, 11)
GO_ANSWER_LIMIT = timedelta(seconds=20)
BUILD_LIMIT = timedelta(minutes=30)
PROGRESS_EVERY = timedelta(seconds=5)
#: A file lock can't be awaited, and a thread that waits for one can't be ended; so it is tried again and again.
_LOCK_POLL = 0.2  # seconds
_KEPT_LINES = 20
_LONGEST_LINE = 64 * 1024

#: Variables that would make Go build for another machine, or something else than what the module says.
_MISLEADING = frozenset({"GOOS", "GOARCH", "GOFLAGS", "GOWORK", "GOEXPERIMENT", "GO111MODULE", "GOBIN"})


@dataclass(frozen=True, slots=True)
class GoProgram:
    """What to build: ``packages`` of the module in ``source``, whose go.mod and go.sum pin everything; it is only read.

    The executables, which must be named as in ``commands``, come to ``target/bin``. ``reason`` (why it is built),
    ``duration`` (with empty caches) and ``otherwise`` (what a person can do instead) are parts of sentences.
    """

    title: str
    source: Path
    packages: tuple[str, ...]
    commands: tuple[str, ...]
    target: Path
    reason: str
    duration: str
    otherwise: str
    ldflags: str = "-s -w"

    @property
    def bin(self) -> Path:
        """The directory of the executables."""
        return self.target / "bin"

    def is_built(self) -> bool:
        """Tell whether every executable is there."""
        return all(os.access(self.bin / command, os.X_OK) for command in self.commands)


async def go_build(
    program: GoProgram,
    environ: Mapping[str, str],
    report: Report,
    limit: timedelta = BUILD_LIMIT,
    progress_every: timedelta = PROGRESS_EVERY,
) -> Path:
    """Return the directory of the executables, which are built unless they are there already.

    Builders at the same time wait for one of them. ``report`` gets sentences: what is about to be done, how it
    goes, and when it is done. Raises ToolchainError when Go is missing or too old, when the build fails (with the
    end of its output) or when it takes longer than ``limit``; then nothing is left behind and a next try starts anew.
    """
    if program.is_built():
        return program.bin
    go = await _find_go(program, environ)
    try:
        async with asyncio.timeout(limit.total_seconds()), _turn(program, report):
            if not program.is_built():  # another builder may have been here while this one waited
                await _build(go, program, environ, report, progress_every)
    except TimeoutError:
        raise ToolchainError(
            f"Building {program.title} was stopped after {_duration(limit.total_seconds())}. Try again: what was "
            f"compiled is kept; or {program.otherwise}."
        ) from None
    except OSError as error:
        raise ToolchainError(
            f"Building {program.title} in {program.target.parent}: {error}. Set XDG_CACHE_HOME to a directory that can "
            f"be written, or {program.otherwise}."
        ) from error
    return program.bin


@dataclass(frozen=True, slots=True)
class _Go:
    path: str
    version: str


async def _find_go(program: GoProgram, environ: Mapping[str, str]) -> _Go:
    oldest = ".".join(map(str, OLDEST_GO))
    ways_out = f"Install Go {oldest} or newer, or {program.otherwise}."
    path = shutil.which("go", path=environ.get("PATH", ""))
    if path is None:
        raise ToolchainError(f"Building {program.title} needs Go, and there is no `go` on PATH. {ways_out}")
    words = await ask([path, "version"], _go_environment(environ, program.target.parent), GO_ANSWER_LIMIT)
    match = re.search(r"\bgo(\d+)\.(\d+)(?:\.(\d+))?", words)
    if match is None:
        raise ToolchainError(f"`{path} version` answered {words[:200]!r}, which names no version of Go. {ways_out}")
    if tuple(int(part or 0) for part in match.groups()) < OLDEST_GO:
        raise ToolchainError(f"Building {program.title} needs a newer Go than {path}, which is {match[0]}. {ways_out}")
    return _Go(path, match[0])


def _go_environment(environ: Mapping[str, str], cache: Path) -> dict[str, str]:
    """The caller's environment, less what misleads, with Go's caches where Go would not know where to keep them."""
    settings = {"GOWORK": "off", "GOFLAGS": "-mod=readonly", "CGO_ENABLED": "0"}
    places = {} if environ.get("HOME") else {"GOCACHE": str(cache / "go-build"), "GOMODCACHE": str(cache / "go-mod")}
    return places | {name: value for name, value in environ.items() if name not in _MISLEADING} | settings


@asynccontextmanager
async def _turn(program: GoProgram, report: Report) -> AsyncIterator[None]:
    """Hold the lock under which this program is built; it ends with the process, however that ends."""
    program.target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(program.target.with_name(f"{program.target.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not _try_lock(lock):
            report(f"Waiting for another process that builds {program.title}.")
            while not _try_lock(lock):  # noqa: ASYNC110 (nothing tells when another process lets go)
                await asyncio.sleep(_LOCK_POLL)
        yield
    finally:
        os.close(lock)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _build(go: _Go, program: GoProgram, environ: Mapping[str, str], report: Report, every: timedelta) -> None:
    """Build into a draft beside the target, and give it the target's name when it is whole."""
    report(
        f"Building {program.title} with {go.version}, because {program.reason}. This is done once and takes "
        f"{program.duration}; the result goes to {program.target}."
    )
    clock = asyncio.get_running_loop().time
    started = clock()
    draft = _new_draft(program.target)
    try:
        output = _Output()
        status = await _compile(
            [go.path, *_arguments(program, draft)],
            _go_environment(environ, program.target.parent) | {"GOTMPDIR": str(draft / "tmp")},
            output,
            lambda: report(f"Building {program.title}: {_duration(clock() - started)}, {output.summary()}."),
            every,
        )
        if status != 0:
            raise ToolchainError(
                f"Building {program.title} ended with status {status}. Correct what the output below says, or "
                f"{program.otherwise}.\n{output.tail()}"
            )
        _finish(draft, program)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    report(f"Built {program.title} in {_duration(clock() - started)}.")


def _arguments(program: GoProgram, draft: Path) -> list[str]:
    return [
        *("build", "-C", str(program.source)),  # -C has to come first
        *("-v", "-trimpath", "-buildvcs=false", "-ldflags", program.ldflags),
        *("-o", f"{draft / 'bin'}/", *program.packages),
    ]


def _new_draft(target: Path) -> Path:
    """Make a directory for the build, and remove those of builders that were killed."""
    prefix = f".{target.name}-"
    for abandoned in target.parent.glob(f"{prefix}*"):
        shutil.rmtree(abandoned, ignore_errors=True)
    draft = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    (draft / "tmp").mkdir()
    return draft


def _finish(draft: Path, program: GoProgram) -> None:
    shutil.rmtree(draft / "tmp")
    missing = [command for command in program.commands if not os.access(draft / "bin" / command, os.X_OK)]
    if missing:
        raise ToolchainError(f"Go built {program.title} without {', '.join(missing)}. Please report this as a bug.")
    shutil.rmtree(program.target, ignore_errors=True)  # an incomplete one, if there is any
    draft.rename(program.target)


async def _compile(
    argv: list[str],
    environment: Mapping[str, str],
    output: _Output,
    progress: Callable[[], None],
    every: timedelta,
) -> int:
    """Return the compiler's exit status. Cancelling ends it with all that it started."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout is not None  # noqa: S101 (PIPE says so)
    reading = asyncio.create_task(output.follow(process.stdout), name="output of go build")
    try:
        while not (await asyncio.wait({reading}, timeout=every.total_seconds()))[0]:
            progress()
        reading.result()
        return await process.wait()
    finally:
        reading.cancel()
        await end(process)


@dataclass(slots=True)
class _Output:
    """What ``go build -v`` says: a line with only a package's name for each one compiled, sentences for the rest."""

    compiled: int = 0
    downloaded: int = 0
    _kept: deque[str] = field(default_factory=lambda: deque(maxlen=_KEPT_LINES))

    async def follow(self, stream: asyncio.StreamReader) -> None:
        """Read until the end."""
        rest = b""
        while chunk := await stream.read(_LONGEST_LINE):
            *lines, rest = (rest + chunk).split(b"\n")
            rest = rest[-_LONGEST_LINE:]
            for line in lines:
                self._take(line.decode(errors="replace"))
        self._take(rest.decode(errors="replace"))

    def summary(self) -> str:
        """Say how far it is."""
        if self.compiled:
            return f"{self.compiled} packages compiled"
        return f"{self.downloaded} modules downloaded" if self.downloaded else "nothing compiled yet"

    def tail(self) -> str:
        """The last lines that are no progress."""
        return "\n".join(self._kept)

    def _take(self, line: str) -> None:
        if line.startswith("go: downloading "):
            self.downloaded += 1
        elif line and not re.search(r"\s", line):
            self.compiled += 1
        elif line.strip():
            self._kept.append(line[:1000])


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
