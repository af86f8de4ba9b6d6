"""How tests marked `external` get their parts, and what they get: each run below is a pytest of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pymongo import MongoClient

from runners import toolchain
from tests.runner.waiting import eventually
from tests.servers import mongodb

ROOT = Path(__file__).parents[2]
USES_PULUMI = """
import pytest
@pytest.mark.external
def test_uses_pulumi(pulumi_cli):
    assert pulumi_cli.version == "v3.206.0"
@pytest.mark.external
def test_uses_mongodb(mongodb_url):
    assert mongodb_url == "mongodb://db.example/"
"""


def run_pytest(place: Path, test: str, *options: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a test under our conftest, with nothing on PATH, an empty cache and the given variables."""
    (place / "conftest.py").write_text('pytest_plugins = ["tests.conftest"]')
    (place / "test_it.py").write_text(test)
    (place / "pytest.ini").write_text("[pytest]\nmarkers = external")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--basetemp={place / 'base'}", *options, place],
        env={"PATH": "/nowhere", "XDG_CACHE_HOME": str(place / "cache"), "PYTHONPATH": str(ROOT), **environ},
        cwd=place,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_without_go_and_pulumi_external_tests_fail(tmp_path: Path) -> None:
    """They name what to install; they are not skipped."""
    run = run_pytest(tmp_path, USES_PULUMI)
    assert run.returncode == 1
    assert "needs Go, and there is no `go` on PATH" in run.stdout
    assert "set STACKCAST_TEST_MONGODB_URL to the URL" in run.stdout
    assert "2 errors" in run.stdout
    assert "skipped" not in run.stdout


def test_what_is_there_is_used(tmp_path: Path) -> None:
    """A Pulumi on PATH and a MongoDB in the environment leave nothing to build."""
    cli = tmp_path / "bin" / "pulumi"
    cli.parent.mkdir()
    cli.write_text("#!/bin/sh\necho v3.206.0\n")
    cli.chmod(0o755)
    path, url = str(cli.parent), "mongodb://db.example/"
    run = run_pytest(tmp_path, USES_PULUMI, PATH=path, STACKCAST_TEST_MONGODB_URL=url)
    assert "2 passed" in run.stdout
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("option", ["-mnot external", "--collect-only"])
def test_nothing_is_built_for_tests_that_do_not_run(tmp_path: Path, option: str) -> None:
    """A run without external tests needs no Go."""
    run = run_pytest(tmp_path, USES_PULUMI + "def test_other(): pass\n", option)
    assert run.returncode == 0
    assert "Go" not in run.stdout


def test_an_unmarked_test_gets_no_external_part(tmp_path: Path) -> None:
    """Who forgets the marker is told."""
    run = run_pytest(tmp_path, "def test_unmarked(pulumi_cli): pass")
    assert "A test that uses Pulumi or MongoDB needs the marker `external`." in run.stdout
    assert run.returncode == 1


@pytest.mark.parametrize(
    "leaving",
    [
        "import subprocess; subprocess.Popen(['/bin/sleep', '600'])",
        "import os, subprocess; subprocess.run(['/bin/sh', '-c', '/bin/sleep 600 &'], cwd=tmp_path)",
    ],
    ids=["child", "orphan-in-a-test-directory"],
)
def test_a_process_that_is_left_over_fails_the_run(tmp_path: Path, leaving: str) -> None:
    """Passing tests do not hide it, and it is ended."""
    conftest = "import tests.conftest; tests.conftest.ENDING_LIMIT = 0.1"
    run = run_pytest(tmp_path, f"{conftest}\ndef test_leaves(tmp_path):\n    {leaving}\n")
    assert run.returncode == 1
    assert "Processes were left over and have been killed: " in run.stdout
    assert "/bin/sleep 600" in run.stdout


@pytest.mark.external
def test_the_mongodb_server_answers(mongodb_url: str) -> None:
    """A document that was written is read back."""
    with MongoClient[dict[str, object]](mongodb_url, timeoutMS=10_000, retryWrites=False) as client:
        documents = client["stackcast_test_external"]["documents"]
        documents.replace_one({"_id": 1}, {"word": "written"}, upsert=True)
        assert documents.find_one({"_id": 1}) == {"_id": 1, "word": "written"}
        client.drop_database("stackcast_test_external")


@pytest.mark.external
async def test_the_mongodb_server_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    """A test run that is killed leaves no server behind."""
    executable = await mongodb.build(toolchain.cache_directory(os.environ), print, os.environ)
    code = f"""
import os, signal
from pathlib import Path
from tests.servers import mongodb
with mongodb.running(Path({str(executable)!r}), Path({str(tmp_path)!r})):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = await asyncio.create_subprocess_exec(sys.executable, "-c", code, cwd=ROOT)
    assert await killed.wait() == -signal.SIGKILL
    await eventually(lambda: not _processes_with(str(tmp_path)))


def _processes_with(argument: str) -> list[str]:
    found = []
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = cmdline.read_text().split("\0")
        except OSError:
            continue
        if argument in arguments:
            found.append(cmdline.parent.name)
    return found
