"""The Pulumi CLI: which one to use, and what it can do."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from graphql_api.domain.errors import PulumiNotFound
from runners.toolchain.ask import ToolchainError, ask
from runners.toolchain.go import GoProgram, go_build

#: The version in go.mod: what ``build`` makes.
BUILT_VERSION = "v3.259.0"
ANSWER_LIMIT = timedelta(seconds=20)
#: How long a CLI that did not answer is not asked again, unless its file changes.
FAILURE_MEMORY = timedelta(seconds=30)

_VERSION_VARIABLE = "github.com/pulumi/pulumi/sdk/v3/go/common/version.Version"


@dataclass(frozen=True, slots=True)
class PulumiCli:
    """An executable Pulumi CLI. ``version`` is what it says of itself, such as ``v3.259.0``; builds may say nothing."""

    path: Path
    version: str


def cache_directory(environ: Mapping[str, str]) -> Path:
    """Where built tools are kept: ``$XDG_CACHE_HOME/stackcast``, else ``~/.cache/stackcast``.

    Raises ToolchainError when the environment names no place and the user has no home directory.
    """
    cache = Path(environ.get("XDG_CACHE_HOME", ""))
    if not cache.is_absolute():  # unset, empty, or relative, which the specification tells to ignore
        cache = _home(environ) / ".cache"
    return cache / "stackcast"


async def find(search_path: str | None, cache: Path) -> PulumiCli | None:
    """The first ``pulumi`` on ``search_path`` (in the form of PATH), else the built one in ``cache``, else None.

    Raises ToolchainError when there is one that does not answer with its version in time.
    """
    path = await asyncio.to_thread(_locate, search_path, cache)
    return None if path is None else await _identify(path, search_path)


async def build(cache: Path, report: Callable[[str], None], environ: Mapping[str, str]) -> PulumiCli:
    """The pinned CLI with its YAML host, built in ``cache`` unless it is there; ``go`` is looked for on environ's PATH.

    ``report`` gets sentences on what is done. Raises ToolchainError with what to do when it can't be built.
    """
    directory = await go_build(_program(cache), environ, report)
    return await _identify(directory / "pulumi", environ.get("PATH"))


class Finder:
    """Finds the CLI for each deployment anew, but asks for its version only when the executable has changed.

    One that did not answer is asked again after ``FAILURE_MEMORY`` too: what it lacked may have been elsewhere.
    ``clock`` gives seconds that only grow.
    """

    def __init__(self, search_path: str | None, cache: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._search_path = search_path
        self._cache = cache
        self._clock = clock
        self._one_asks = asyncio.Lock()
        self._known: tuple[object, PulumiCli] | None = None
        self._failed: tuple[object, str, float] | None = None

    async def find(self) -> PulumiCli | None:
        """The CLI to use, None when there is none. Raises PulumiNotFound when the one there is does not answer."""
        async with self._one_asks:
            path = await asyncio.to_thread(_locate, self._search_path, self._cache)
            if path is None:
                return None
            identity = await asyncio.to_thread(_file_identity, path)
            if self._known is None or self._known[0] != identity:
                self._known = identity, await self._asked(path, identity)
            return self._known[1]

    async def _asked(self, path: Path, identity: object) -> PulumiCli:
        # Callers wait in a row here: were each to ask a CLI that hangs, the last would wait for minutes.
        if self._failed is not None and self._failed[0] == identity and self._clock() < self._failed[2]:
            raise PulumiNotFound(self._failed[1])
        try:
            return await _identify(path, self._search_path)
        except ToolchainError as error:
            self._failed = identity, error.message, self._clock() + FAILURE_MEMORY.total_seconds()
            raise PulumiNotFound(error.message) from error


def _program(cache: Path) -> GoProgram:
    return GoProgram(
        title=f"the Pulumi CLI {BUILT_VERSION}",
        source=Path(__file__).parent,
        packages=("tool",),
        commands=("pulumi", "pulumi-language-yaml"),
        target=cache / f"pulumi-{BUILT_VERSION}",
        reason="there is no `pulumi` on PATH",
        duration="about 5 minutes on 2 cores",
        otherwise="install the Pulumi CLI and put it on PATH",
        ldflags=f"-s -w -X {_VERSION_VARIABLE}={BUILT_VERSION}",
    )


def _locate(search_path: str | None, cache: Path) -> Path | None:
    # An absent or empty path must find nothing: for None, `which` would look at our own environment.
    if search_path and (found := shutil.which("pulumi", path=search_path)):
        return Path(found).absolute()
    program = _program(cache)
    return program.bin / "pulumi" if program.is_built() else None


async def _identify(path: Path, search_path: str | None) -> PulumiCli:
    with tempfile.TemporaryDirectory(prefix="stackcast-pulumi-") as pulumi_home:
        environment = {
            "PATH": search_path or os.defpath,  # a wrapper script has to find its interpreter
            "HOME": str(_home({}, pulumi_home)),  # and a version manager its settings
            "PULUMI_HOME": pulumi_home,  # every command writes a log there
            "PULUMI_SKIP_UPDATE_CHECK": "true",
        }
        return PulumiCli(path, await ask([str(path), "version"], environment, ANSWER_LIMIT))


def _file_identity(path: Path) -> tuple[object, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _home(environ: Mapping[str, str], otherwise: str | None = None) -> Path:
    if home := environ.get("HOME"):
        return Path(home)
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        if otherwise is not None:
            return Path(otherwise)
        raise ToolchainError(
            "There is no place for built tools: set XDG_CACHE_HOME to the absolute path of a directory."
        ) from None
