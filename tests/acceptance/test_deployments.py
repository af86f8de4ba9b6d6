"""The main job with the real Pulumi CLI, over both stores."""

from __future__ import annotations

import asyncio
import json
import os
import signal

import pytest

from tests.acceptance.conftest import Start
from tests.runner.waiting import eventually
from tests.service import Service, manifest

pytestmark = pytest.mark.external


async def test_a_websocket_client_sees_in_progress_then_success(start: Start, database: dict[str, str]) -> None:
    """A plain websocket client is pushed IN_PROGRESS, then SUCCESS with the stack's outputs; again for an update."""
    async with start(**database) as running:
        service = running.service
        for say in ("first", "second"):
            id_ = await service.deploy(manifest(spec=f"{{say: {say}}}"))
            changes = [change async for change in service.watch(id_)]

            assert changes[0]["status"] == "IN_PROGRESS"
            assert changes[-1]["status"] == "SUCCESS", changes[-1]
            outputs = {output["name"]: output["value"] for output in changes[-1]["stackOutputs"]}
            assert outputs == {"who": "one", "say": say}
            assert changes[-1]["output"]["exit_code"] == 0
            assert "Resources:" in changes[-1]["output"]["stdout"]


@pytest.mark.parametrize(
    ("spec", "kind", "words"),
    [
        ("{fail: 'the quota is used up'}", "PROGRAM_ERROR", "the quota is used up"),
        ("{missing: true}", "PROGRAM_ERROR", "nowhere"),
    ],
)
async def test_a_failing_program_says_why(start: Start, spec: str, kind: str, words: str) -> None:
    """A program that fails, or asks for what does not exist, ends FAILED with its own words."""
    async with start() as running:
        ended = await running.service.outcome(await running.service.deploy(manifest(spec=spec)))

    assert (ended["status"], ended["failure"]["kind"]) == ("FAILED", kind), ended
    assert words in ended["failure"]["message"]
    assert ended["exitCode"] not in (0, None)


async def test_a_deployment_that_takes_too_long_is_stopped_and_the_next_one_works(
    start: Start, database: dict[str, str]
) -> None:
    """After its time Pulumi is interrupted, the record says TIMEOUT, and the stack can be deployed again."""
    async with start(**database) as running:
        service = running.service
        ended = await service.outcome(await service.deploy(manifest(spec="{sleep: 60}"), timeout=3))
        after = await service.outcome(await service.deploy(manifest()))

    assert (ended["status"], ended["failure"]["kind"]) == ("FAILED", "TIMEOUT"), ended
    assert after["status"] == "SUCCESS", after


async def test_twenty_at_once_each_get_their_own_input(start: Start, database: dict[str, str]) -> None:
    """Twenty deployments of one kind at once all succeed, each with the outputs of its own manifest."""
    names = [f"stack-{number}" for number in range(20)]
    async with start(**database, STACKCAST_MAX_CONCURRENT="8") as running:
        service = running.service
        ids = [await service.deploy(manifest(name=name, spec=f"{{say: for {name}}}")) for name in names]
        ended = await asyncio.gather(*(service.outcome(id_) for id_ in ids))

    outputs = [{output["name"]: output["value"] for output in change["stackOutputs"]} for change in ended]
    assert outputs == [{"who": name, "say": f"for {name}"} for name in names]


async def test_a_deployment_survives_the_kill_of_its_service(start: Start, database: dict[str, str]) -> None:
    """Pulumi goes on; the next start takes it over, records its own outcome, and goes on with the queue."""
    async with start(**database) as first:
        service = first.service
        ran = service.root / "tmp" / "ran-one"
        adopted = await service.deploy(manifest(spec="{sleep: 4}"))
        waiting = await service.deploy(manifest(spec="{say: next}"))
        await eventually(ran.exists)
        await first.kill()
    async with start(**database) as second:
        service = second.service
        ended, after = await service.outcome(adopted), await service.outcome(waiting)

    assert (ended["status"], ended["failure"]) == ("SUCCESS", None), ended
    assert after["status"] == "SUCCESS", after
    assert ran.read_text() == "xx"


async def test_a_lock_that_a_killed_pulumi_left_is_removed(start: Start) -> None:
    """When Pulumi itself was killed its lock stays; since its owner is proven dead, the next deployment removes it."""
    async with start(STACKCAST_INTERRUPT_GRACE="0.2", STACKCAST_TERMINATE_GRACE="0.2") as running:
        service = running.service
        ran = service.root / "tmp" / "ran-one"
        id_ = await service.deploy(manifest(spec="{sleep: 100}"))
        await eventually(ran.exists)
        kill_pulumi(service, id_)
        killed = await service.outcome(id_)
        locks = list((service.data / "state" / ".pulumi" / "locks").rglob("*.json"))
        after = await service.outcome(await service.deploy(manifest()))

    assert (killed["status"], killed["failure"]["kind"]) == ("FAILED", "INTERRUPTED"), killed
    assert len(locks) == 1
    assert after["status"] == "SUCCESS", after


async def test_a_lock_of_somebody_else_is_left_alone(start: Start) -> None:
    """A lock that names a process which is none of ours fails the deployment as STACK_LOCKED, and stays."""
    async with start() as running:
        service = running.service
        await service.outcome(await service.deploy(manifest()))
        locks = service.data / "state" / ".pulumi" / "locks" / "organization" / "tests" / "one"
        locks.mkdir(parents=True, exist_ok=True)
        lock = locks / "11111111-1111-1111-1111-111111111111.json"
        lock.write_text(
            '{"pid": 4242, "username": "kim", "hostname": "elsewhere", "timestamp": "2026-01-01T00:00:00Z"}'
        )
        ended = await service.outcome(await service.deploy(manifest(spec="{say: again}")))
        kept = lock.exists()

    assert (ended["status"], ended["failure"]["kind"]) == ("FAILED", "STACK_LOCKED"), ended
    assert "process 4242 on elsewhere" in ended["failure"]["message"]
    assert kept


def kill_pulumi(service: Service, update_id: str) -> None:
    """SIGKILL the Pulumi of a run."""
    pids = json.loads(next((service.data / "runs" / update_id).glob("*-up/pids.json")).read_text())
    os.kill(pids["command"]["pid"], signal.SIGKILL)
