"""What all tests share: the real Pulumi CLI and the MongoDB-protocol server, and that no process outlives the run.

Tests marked ``external`` use them. Both are found or built once, as soon as it is known that such a test will run, and
so outside any test's time limit. Where that can't be done those tests fail with the reason; they are never skipped.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from runners import toolchain
from runners.toolchain import PulumiCli, ToolchainError
from tests.servers import mongodb

MONGODB_URL = "STACKCAST_TEST_MONGODB_URL"
ENDING_LIMIT = 10.0  # seconds that a process may still take to end after the last test

T = TypeVar("T")
Report = Callable[[str], None]


@dataclass(frozen=True)
class ExternalParts:
    """What the external tests run against, or why it is not to be had. A MongoDB is a URL, or a server to start."""

    pulumi: PulumiCli | ToolchainError
    mongodb: str | Path | ToolchainError


_PARTS = pytest.StashKey[ExternalParts]()


def pytest_configure() -> None:
    # A shell starts background jobs with SIGINT ignored, and children inherit that: no Ctrl-C would end them.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish(session: pytest.Session) -> None:
    config = session.config
    if config.option.collectonly or not any(item.get_closest_marker("external") for item in session.items):
        return
    config.stash[_PARTS] = asyncio.run(_external_parts(reporting(config)))


def reporting(config: pytest.Config) -> Report:
    """Writes a sentence at once, on a line of its own."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")

    def report(sentence: str) -> None:
        if terminal is not None:
            terminal.ensure_newline()
            terminal.write_line(sentence)
            terminal.flush()

    return report


async def _external_parts(report: Report) -> ExternalParts:
    cache = toolchain.cache_directory(os.environ)
    pulumi = await _or_reason(_pulumi(cache, report))
    if url := os.environ.get(MONGODB_URL):
        return ExternalParts(pulumi, url)
    return ExternalParts(pulumi, await _or_reason(mongodb.build(cache, report, os.environ)))


async def _pulumi(cache: Path, report: Report) -> PulumiCli:
    found = await toolchain.find(os.environ.get("PATH"), cache)
    return found or await toolchain.build(cache, report, os.environ)


async def _or_reason(making: Awaitable[T]) -> T | ToolchainError:
    try:
        return await making
    except ToolchainError as error:
        return error


@pytest.fixture(scope="session")
def _external(pytestconfig: pytest.Config) -> ExternalParts:
    if _PARTS not in pytestconfig.stash:
        pytest.fail("A test that uses Pulumi or MongoDB needs the marker `external`.", pytrace=False)
    return pytestconfig.stash[_PARTS]


@pytest.fixture(scope="session")
def pulumi_cli(_external: ExternalParts) -> PulumiCli:
    """The Pulumi CLI that all external tests use: the one on PATH, else the built one."""
    if isinstance(_external.pulumi, ToolchainError):
        pytest.fail(_external.pulumi.message, pytrace=False)
    return _external.pulumi


@pytest.fixture(scope="session")
def mongodb_url(_external: ExternalParts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL, without a database's name, of a server that speaks MongoDB's protocol. Use a database of your own."""
    match _external.mongodb:
        case ToolchainError() as error:
            pytest.fail(error.message, pytrace=False)
        case str() as url:
            yield url
        case executable:
            with mongodb.running(executable, tmp_path_factory.mktemp("mongodb")) as url:
                yield url


@pytest.fixture(scope="session", autouse=True)
def _no_process_is_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """When all other fixtures are gone, so are our children and whatever works in the tests' directories."""
    place = tmp_path_factory.getbasetemp()
    yield
    end = time.monotonic() + ENDING_LIMIT
    while (left := _left_over(place)) and time.monotonic() < end:
        time.sleep(0.05)
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if left:
        pytest.fail(f"Processes were left over and have been killed: {left}", pytrace=False)


def _left_over(place: Path) -> dict[int, str]:
    """Return the command lines, by pid, of our running children and of processes that work below a directory."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if _is_ours(entry, place):
                    found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ").strip()
            except (OSError, ValueError):  # it has just ended
                continue
    return found


def _is_ours(process: Path, place: Path) -> bool:
    state, parent = (process / "stat").read_text().rpartition(")")[2].split()[:2]
    if state in "ZX":
        return False
    return int(parent) == os.getpid() or (process / "cwd").readlink().is_relative_to(place)
