"""A full disk, and a data directory that can't be written."""

from __future__ import annotations

import subprocess
import textwrap
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.acceptance.conftest import Start
from tests.acceptance.moments import directory_of_up, reached, refused_start
from tests.runner.waiting import eventually
from tests.service import DEPLOY, manifest

pytestmark = pytest.mark.external

#: Has the service's Python started again without root's right to write where permissions forbid it.
WITHOUT_PRIVILEGE = """
import ctypes, os, sys
if os.environ.pop("DROP_PRIVILEGE", None):
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP, which all but root are refused
    os.execv(sys.executable, sys.orig_argv)
"""


class Disk:
    """A small file system of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self) -> None:
        """Leave not one byte."""
        with (self.path / "filler").open("ab", buffering=0) as filler, suppress(OSError):
            while filler.write(bytes(4096)):
                pass

    def free(self) -> None:
        (self.path / "filler").unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """One of 16 MB at the place of the data directory."""
    path = tmp_path / "data"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m,mode=0700", "tmpfs", path],  # noqa: S607
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("only root can make a file system to be filled")
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)  # noqa: S607


async def test_a_full_disk_at_the_start_is_a_sentence(
    tmp_path: Path, disk: Disk, real: dict[str, str], start: Start
) -> None:
    """With a new data directory and with a used one the start is refused, and says that it is the disk."""
    disk.fill()
    new = await refused_start(real, tmp_path)
    disk.free()
    async with start():
        pass
    disk.fill()
    used = await refused_start(real, tmp_path)
    disk.free()
    async with start() as running:
        after = await running.service.outcome(await running.service.deploy(manifest()))

    assert "can't be used: No space left on device. Free some space" in new
    assert "can't be used: the disk" in used
    assert after["status"] == "SUCCESS"


async def test_a_disk_that_fills_up_during_a_deployment_loses_nothing(disk: Disk, start: Start) -> None:
    """Meanwhile the service answers; once there is room the record ends with a reason, and the next one works."""
    async with start() as running:
        service = running.service
        await service.outcome(await service.deploy(manifest()))
        await reached(service, "ran")
        id_ = await service.deploy(manifest(spec="{sleep: 1, say: full}"))
        await reached(service, "ran")
        disk.fill()
        directory = directory_of_up(service, id_)
        assert directory
        await eventually((directory / "exit.json").exists)
        disk.fill()
        health = await service.request("GET", "/healthz")
        resource = (await service.execute("{ cloudResources { nodes { id } } }"))["cloudResources"]["nodes"][0]["id"]
        refusal = (await service.post({"query": DEPLOY, "variables": {"id": resource}})).errors
        disk.free()
        ended = await service.outcome(id_)
        after = await service.outcome(await service.deploy(manifest(spec="{say: after}")))

    assert health.status == 200
    assert [error["code"] for error in refusal] == ["STORE_UNAVAILABLE"]
    assert "the disk is full; free some space" in refusal[0]["message"]
    assert (ended["status"], bool(ended["failure"])) in (("SUCCESS", False), ("FAILED", True)), ended
    assert after["status"] == "SUCCESS", after


async def test_a_full_disk_fails_a_deployment_with_the_reason(disk: Disk, tmp_path: Path, start: Start) -> None:
    """With the records elsewhere the failure is recorded at once, and once there is room the stack works."""
    async with start(STACKCAST_DATABASE_URL=f"sqlite:///{tmp_path / 'records.db'}") as running:
        service = running.service
        await service.outcome(await service.deploy(manifest()))
        disk.fill()
        before = await service.outcome(await service.deploy(manifest(spec="{say: again}")))
        another = await service.outcome(await service.deploy(manifest(name="two")))
        disk.free()
        mark = service.root / "tmp" / "ran-one"
        mark.unlink()
        id_ = await service.deploy(manifest(spec="{sleep: 1, say: third}"))
        await eventually(mark.exists)
        disk.fill()
        during = await service.outcome(id_)
        disk.free()
        after = [await service.outcome(await service.deploy(manifest(name=name))) for name in ("one", "two")]

    for ended in (before, another):
        assert (ended["status"], ended["failure"]["kind"]) == ("FAILED", "INTERNAL")
        assert ended["failure"]["retryable"] is True
        assert "No space left on device. Free some space" in ended["failure"]["message"]
    assert (during["status"], bool(during["failure"])) in (("SUCCESS", False), ("FAILED", True)), during
    assert [ended["status"] for ended in after] == ["SUCCESS", "SUCCESS"], after


@pytest.fixture
def unprivileged(tmp_path: Path) -> dict[str, str]:
    """Variables that make the service heed permissions even where the tests run as root."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(textwrap.dedent(WITHOUT_PRIVILEGE))
    return {"PYTHONPATH": str(tmp_path / "site"), "DROP_PRIVILEGE": "yes"}


async def test_an_unwritable_data_directory_is_refused_with_a_sentence(
    tmp_path: Path, real: dict[str, str], unprivileged: dict[str, str]
) -> None:
    """The start names the directory, says what is wrong, and what to correct."""
    (tmp_path / "data").mkdir(mode=0o500)

    said = await refused_start({**real, **unprivileged}, tmp_path)

    assert said == (
        f"The data directory {tmp_path / 'data'} can't be used: Permission denied. Correct its permissions, or set "
        "STACKCAST_DATA_DIR to another one."
    )


@pytest.mark.parametrize("part", ["runs", "locks", "state/.pulumi/locks/organization/tests/one"])
async def test_a_data_directory_made_unwritable_fails_deployments_until_it_is_writable(
    start: Start, unprivileged: dict[str, str], part: str
) -> None:
    """The failure says why, the service lives, other deployments wait for nothing, and the stack works again."""
    async with start(**unprivileged) as running:
        service = running.service
        await service.outcome(await service.deploy(manifest()))
        folder = service.data / part
        id_ = await service.deploy(manifest(spec="{sleep: 1}"))
        await reached(service, "ran")
        await eventually((service.root / "tmp" / "ran-one").exists)
        folder.chmod(0o500)
        first = await service.outcome(id_)
        # Another stack, whose lock file is yet to be made.
        second = await service.outcome(await service.deploy(manifest(name="two")))
        folder.chmod(0o700)
        after = [await service.outcome(await service.deploy(manifest(name=name))) for name in ("one", "two")]

    for ended in (first, second):
        assert ended["status"] == "SUCCESS" or ended["failure"]["message"]
    if part in ("runs", "locks"):
        assert (second["status"], second["failure"]["kind"]) == ("FAILED", "INTERNAL")
        assert "Permission denied" in second["failure"]["message"]
    assert [ended["status"] for ended in after] == ["SUCCESS", "SUCCESS"], after
