"""What others did to the stack or the database: another passphrase, somebody else's lock, a second service."""

from __future__ import annotations

import json
import secrets
import socket
from pathlib import Path

import pytest

from tests.acceptance.conftest import Start
from tests.acceptance.moments import STACK, refused_start
from tests.service import manifest

pytestmark = pytest.mark.external


async def test_a_wrong_passphrase_is_refused_and_changes_nothing(start: Start) -> None:
    """A stack whose secrets were encrypted with another passphrase is left as it is, and the record says why."""
    right, wrong = ({"PULUMI_CONFIG_PASSPHRASE": f"the-{which}-passphrase"} for which in ("right", "wrong"))
    async with start(**right) as first:
        made = await first.service.outcome(await first.service.deploy(manifest(spec="{secret: hush}")))
        state = first.service.data / "state" / ".pulumi" / "stacks" / "tests" / "one.json"
        before = state.read_bytes()
    async with start(**wrong) as second:
        refused = await second.service.outcome(await second.service.deploy(manifest(spec="{say: new}")))
        unchanged = state.read_bytes() == before
    async with start(**right) as third:
        after = await third.service.outcome(await third.service.deploy(manifest(spec="{say: new}")))

    assert made["status"] == "SUCCESS"
    assert (refused["status"], refused["failure"]["kind"]) == ("FAILED", "PASSPHRASE_REFUSED"), refused
    assert "PULUMI_CONFIG_PASSPHRASE_FILE" in refused["failure"]["message"]
    assert "the-wrong-passphrase" not in json.dumps(refused)
    assert unchanged
    assert after["status"] == "SUCCESS"


@pytest.mark.parametrize("hostname", ["elsewhere", "here"])
async def test_the_lock_of_somebody_else_names_its_holder_and_stays(start: Start, hostname: str) -> None:
    """Neither another host's lock nor one of an unknown process on this host is removed; when it is gone, it works."""
    host = socket.gethostname() if hostname == "here" else hostname
    async with start() as running:
        service = running.service
        await service.outcome(await service.deploy(manifest()))
        lock = service.data / "state" / ".pulumi" / "locks" / STACK / "11111111-1111-1111-1111-111111111111.json"
        lock.parent.mkdir(parents=True, exist_ok=True)
        holder = {"pid": 4194305, "username": "kim", "hostname": host, "timestamp": "2026-01-01T00:00:00Z"}
        lock.write_text(json.dumps(holder))
        refused = [await service.outcome(await service.deploy(manifest(spec=f"{{say: {n}}}"))) for n in range(2)]
        kept = json.loads(lock.read_text()) == holder
        lock.unlink()
        after = await service.outcome(await service.deploy(manifest()))

    for ended in refused:
        assert (ended["status"], ended["failure"]["kind"]) == ("FAILED", "STACK_LOCKED")
        assert ended["failure"]["retryable"] is True
        assert f"process 4194305 on {host}" in ended["failure"]["message"]
    assert kept
    assert after["status"] == "SUCCESS"


@pytest.fixture
def shared(request: pytest.FixtureRequest, database: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The settings of a database that is in no data directory."""
    return database or {"STACKCAST_DATABASE_URL": f"sqlite:///{tmp_path / f'{secrets.token_hex(4)}.db'}"}


async def test_a_second_service_on_one_database_is_refused(
    tmp_path: Path, start: Start, real: dict[str, str], shared: dict[str, str]
) -> None:
    """It names the data directory that works there; after a clean end another may start, after a crash the same one."""
    other = {**shared, "STACKCAST_DATA_DIR": str(tmp_path / "other")}
    async with start(**shared) as first:
        refusal = await refused_start({**real, **other}, tmp_path)
        worked = await first.service.outcome(await first.service.deploy(manifest()))
    async with start(**other):
        pass
    async with start(**shared) as crashing:
        await crashing.kill()
    async with start(**shared) as same:
        again = await same.service.outcome(await same.service.deploy(manifest()))
        await same.kill()
    too_early = await refused_start({**real, **other}, tmp_path)

    for sentence in (refusal, too_early):
        assert sentence.startswith(
            f"Another stackcast works on this database: {tmp_path / 'data'} on {socket.gethostname()} ("
        )
        assert "Stop it, or set STACKCAST_DATABASE_URL" in sentence
        assert "start again with its data directory, or wait until" in sentence
    assert [worked["status"], again["status"]] == ["SUCCESS", "SUCCESS"]


async def test_a_second_service_on_one_data_directory_is_refused(
    tmp_path: Path, start: Start, real: dict[str, str]
) -> None:
    """The lock of the data directory refuses it, and says what to do."""
    async with start():
        refusal = await refused_start(real, tmp_path)

    assert refusal == (
        f"Another stackcast uses the data directory {tmp_path / 'data'}. Stop it, or set STACKCAST_DATA_DIR to another "
        "one."
    )
