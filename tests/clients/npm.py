"""The JavaScript packages of tests, installed once into the cache of built tools by their pinned versions."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from runners.toolchain import ToolchainError

INSTALL_LIMIT = 300.0  # seconds; it takes about half a minute on 2 cores

_HERE = Path(__file__).parent
_SOURCE = ("package.json", ".npmrc")


def install(cache: Path, environ: Mapping[str, str], report: Callable[[str], None], home: Path = _HERE) -> Path:
    """Return the directory `node_modules`, which is made unless it is there. Raises ToolchainError.

    ``home`` is the folder of tests whose package.json says what is installed.
    """
    sources = [home / name for name in _SOURCE]
    target = cache / f"{home.name}-{_fingerprint(sources)}"
    modules = target / "node_modules"
    if modules.exists():
        return modules
    npm = shutil.which("npm", path=environ.get("PATH", ""))
    if npm is None:
        raise ToolchainError("The tests with JavaScript clients need Node 20.19 or newer: there is no `npm` on PATH.")
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _turn(target.with_suffix(".lock")):
        if not modules.exists():  # another run may have been here while this one waited
            report(f"Installing the JavaScript packages of tests/{home.name}, which takes up to half a minute.")
            _install(npm, sources, target, environ)
    return modules


def _fingerprint(sources: Sequence[Path]) -> str:
    """Part of the target's name, so that other packages or versions are installed anew."""
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:8]


@contextmanager
def _turn(lock: Path) -> Iterator[None]:
    """Hold the lock under which the packages are installed; it ends with the process, however that ends."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _install(npm: str, sources: Sequence[Path], target: Path, environ: Mapping[str, str]) -> None:
    """Install beside the target and rename, so that a target which is there is whole."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f"{target.name}-") as place:
        for source in sources:
            shutil.copy(source, place)
        try:
            subprocess.run(
                [npm, "install", "--loglevel=error"],
                cwd=place,
                env=dict(environ),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=INSTALL_LIMIT,
                check=True,
            )
        except subprocess.CalledProcessError as error:
            raise ToolchainError(f"`npm install` for {target.name}: {error.stdout[-2000:]}") from error
        except subprocess.TimeoutExpired as error:
            raise ToolchainError(
                f"`npm install` for {target.name} took over {INSTALL_LIMIT:.0f} s. Try again."
            ) from error
        finished = Path(place) / "finished"
        finished.mkdir()
        (Path(place) / "node_modules").rename(finished / "node_modules")
        os.rename(finished, target)  # noqa: PTH104 - an empty directory in its place may be replaced
