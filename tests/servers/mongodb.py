"""A server that speaks MongoDB's protocol: FerretDB, built once into the cache of built tools, and started here."""

from __future__ import annotations

import hashlib
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from pymongo import MongoClient

from runners.toolchain import GoProgram, go_build

VERSION = "v1.24.2"
START_LIMIT = 30.0  # seconds; it takes a tenth of one
STOP_LIMIT = 10.0  # seconds

_SOURCE = Path(__file__).parent / "ferretdb"


async def build(cache: Path, report: Callable[[str], None], environ: Mapping[str, str]) -> Path:
    """Return the server's executable, which is built unless it is there. Raises ToolchainError."""
    program = GoProgram(
        title=f"FerretDB {VERSION}",
        source=_SOURCE,
        packages=(".",),
        commands=("ferretdb",),
        target=cache / f"ferretdb-{VERSION}-{_fingerprint()}",
        reason="the tests need a server that speaks MongoDB's protocol",
        duration="about a minute on 2 cores",
        otherwise="set STACKCAST_TEST_MONGODB_URL to the URL of a MongoDB that the tests may use",
    )
    return await go_build(program, environ, report) / "ferretdb"


def _fingerprint() -> str:
    """Part of the target's name, so that an edit of the source is built anew."""
    content = b"".join((_SOURCE / name).read_bytes() for name in ("main.go", "go.mod", "go.sum"))
    return hashlib.sha256(content).hexdigest()[:8]


@contextmanager
def running(executable: Path, data: Path) -> Iterator[str]:
    """Start the server on a free port of 127.0.0.1, give its URL once it answers, and stop it when leaving.

    It keeps its data in ``data``, an existing directory, and would end by itself if this process were killed.
    """
    log = data.with_suffix(".log")
    with log.open("wb") as stderr:
        server = subprocess.Popen(
            [executable, "127.0.0.1:0", data], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr
        )
    try:
        assert server.stdout is not None
        url = _first_line(server.stdout)
        assert url.startswith("mongodb://"), f"FerretDB did not start: {log.read_text()[-2000:]}"
        with MongoClient[dict[str, Any]](url, timeoutMS=int(START_LIMIT * 1000)) as client:
            client.admin.command("ping")
        yield url
    finally:
        _stop(server)


def _first_line(stream: IO[bytes]) -> str:
    """Return the first line that comes within the limit, else an empty string."""
    lines: list[bytes] = []
    reading = threading.Thread(target=lambda: lines.append(stream.readline()), daemon=True)
    reading.start()
    reading.join(START_LIMIT)
    return lines[0].decode().strip() if lines else ""


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(STOP_LIMIT)
    except subprocess.TimeoutExpired:
        server.kill()
    with server:  # closes the pipes and waits
        pass
