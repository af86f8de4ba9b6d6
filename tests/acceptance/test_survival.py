"""Deployments that outlive their service: watchers go on without a gap, and a Pulumi that died is told."""

from __future__ import annotations

import asyncio
import secrets
import signal
from contextlib import aclosing
from typing import Any

import pytest

from runners import process
from runners.lease import LEASE
from tests.acceptance.conftest import Start
from tests.acceptance.files import EVENTS, Files
from tests.acceptance.moments import pids_of_up
from tests.contracts.outage import Away, outage_before
from tests.provider import Log
from tests.runner.waiting import eventually
from tests.service import PATIENCE, Service

pytestmark = pytest.mark.external

FOREVER = 4 * PATIENCE
GRACES = {"STACKCAST_INTERRUPT_GRACE": "2", "STACKCAST_TERMINATE_GRACE": "2"}


async def read_until(service: Service, id_: str, kind: str) -> list[Any]:
    """The events up to the first of this kind."""
    seen = []
    async with aclosing(service.subscribe(EVENTS, "stackUpdateEvents", id=id_, after=0)) as pushes:
        async for batch in pushes:
            seen += batch["events"]
            if any(event["__typename"] == kind for event in batch["events"]):
                return seen
    raise AssertionError(seen)


async def test_a_watcher_goes_on_over_the_death_of_the_service(start: Start) -> None:
    """What was read before the kill and what comes after it, from the last seq on, is the whole log, gapless."""
    async with start() as first:
        files = Files(first.service)
        slow = files.file("slow", create_seconds=FOREVER)
        id_ = await files.deploy(slow, outputs={"size": "${slow.size}"})
        await files.begun(slow)
        before = await read_until(first.service, id_, "ResourceChanged")
        await first.kill()
    async with start() as second:
        files = Files(second.service)
        slow.go.touch()
        after = [event async for event in files.events(id_, after=before[-1]["seq"])]
        whole = [event async for event in files.events(id_)]
        ended = await files.ended(id_)

    assert before + after == whole
    assert [event["seq"] for event in whole] == list(range(1, len(whole) + 1))
    assert [event["__typename"] for event in whole].count("OwnerChanged") == 1
    assert (ended["status"], ended["failure"]) == ("SUCCESS", None)
    assert ended["stackOutputs"] == [{"name": "size", "value": 0, "secret": False}]
    assert [(it["name"], it["state"]) for it in ended["resources"]["nodes"]] == [("slow", "DONE")]
    assert ended["resources"]["nodes"][0]["startedAt"] < ended["resources"]["nodes"][0]["endedAt"]


async def test_a_handover_leaves_runs_to_the_next_start(start: Start) -> None:
    """SIGTERM ends the service at once and leaves the deployment alone; the next start takes it over."""
    async with start(STACKCAST_SHUTDOWN="handover") as first:
        files = Files(first.service)
        slow = files.file("slow", create_seconds=FOREVER)
        id_ = await files.deploy(slow)
        await files.begun(slow)
        pids = pids_of_up(first.service, id_)
        assert pids
        pulumi = process.identify(pids["command"])
    assert pulumi
    assert process.is_alive(pulumi)
    async with start() as second:
        slow.go.touch()
        ended = await Files(second.service).ended(id_)

    assert ended["status"] == "SUCCESS"


async def test_what_is_taken_over_can_be_cancelled(start: Start) -> None:
    """The ladder is walked, and seen, as for any other deployment."""
    async with start(**GRACES) as first:
        files = Files(first.service)
        deaf = files.file("deaf", create_seconds=FOREVER, ignore_cancel=True)
        id_ = await files.deploy(deaf)
        await files.begun(deaf)
        await first.kill()
    async with start(**GRACES) as second:
        files = Files(second.service)
        seen = []
        async for event in files.events(id_):
            seen.append(event)
            if event["__typename"] == "OwnerChanged":
                await files.cancel(id_)
        ended = await files.ended(id_)
        after = await files.ended(await files.deploy(files.file("deaf")))

    stages = [event["cancellation"]["stage"] for event in seen if event["__typename"] == "CancellationChanged"]
    assert stages == ["REQUESTED", "INTERRUPTED", "TERMINATED"]
    assert (ended["status"], ended["progress"]["interrupted"]) == ("CANCELLED", 1)
    assert after["status"] == "SUCCESS"


async def test_a_cancel_goes_on_over_the_death_of_the_service(start: Start) -> None:
    """The supervisor walks the ladder on its own; the next start records CANCELLED with its last stage."""
    async with start(**GRACES) as first:
        files = Files(first.service)
        deaf = files.file("deaf", create_seconds=FOREVER, ignore_cancel=True)
        id_ = await files.deploy(deaf)
        await files.begun(deaf)
        await files.cancel(id_)
        await first.kill()
    async with start(**GRACES) as second:
        files = Files(second.service)
        ended = await files.ended(id_)
        after = await files.ended(await files.deploy(files.file("deaf")))

    assert (ended["status"], ended["cancellation"]["reason"]) == ("CANCELLED", "ASKED")
    assert ended["cancellation"]["stage"] == "TERMINATED"
    assert after["status"] == "SUCCESS"


async def test_the_deadline_holds_without_the_service(start: Start) -> None:
    """The supervisor alone ends what runs too long; the next start records TIMEOUT."""
    async with start(**GRACES) as first:
        files = Files(first.service)
        await files.ended(await files.deploy(files.file("quick")))
        slow = files.file("slow", create_seconds=FOREVER)
        id_ = await files.deploy(slow, timeout=6)
        await files.begun(slow)
        pids = pids_of_up(first.service, id_)
        assert pids
        supervisor = process.identify(pids["supervisor"])
        await first.kill()
    assert supervisor
    async with start(**GRACES) as second:
        ended = await Files(second.service).ended(id_)

    assert (ended["status"], ended["failure"]["kind"]) == ("FAILED", "TIMEOUT")
    assert ended["cancellation"]["reason"] == "TIMEOUT"


@pytest.mark.parametrize("victims", [["command"], ["supervisor", "command"]])
async def test_a_pulumi_that_died_with_its_service_was_lost(start: Start, victims: list[str]) -> None:
    """Nobody knows how it ended: WORKER_LOST, what was in hand is INTERRUPTED, nothing lives, and the next works."""
    async with start() as first:
        files = Files(first.service)
        slow = files.file("slow", create_seconds=FOREVER)
        id_ = await files.deploy(slow)
        await files.begun(slow)
        pids = pids_of_up(first.service, id_)
        assert pids
        await first.kill()
    for victim in victims:
        if identity := process.identify(pids[victim]):
            process.send_signal(identity, signal.SIGKILL)
    async with start() as second:
        files = Files(second.service)
        ended = await files.ended(id_)
        after = await files.ended(await files.deploy(files.file("slow")))
        await eventually(lambda: not any((second.service.data / "runs").iterdir()))

    assert (ended["status"], ended["failure"]["kind"]) == ("FAILED", "WORKER_LOST")
    assert [(it["name"], it["state"]) for it in ended["resources"]["nodes"]] == [("slow", "INTERRUPTED")]
    assert after["status"] == "SUCCESS"


async def test_a_killed_supervisor_does_not_hide_what_pulumi_did(start: Start) -> None:
    """When only the supervisor dies, its Pulumi is ended, the record says so, and the next deployment works."""
    async with start(**GRACES) as running:
        files = Files(running.service)
        slow = files.file("slow", create_seconds=FOREVER)
        id_ = await files.deploy(slow)
        await files.begun(slow)
        pids = pids_of_up(running.service, id_)
        assert pids
        supervisor = process.identify(pids["supervisor"])
        assert supervisor
        process.send_signal(supervisor, signal.SIGKILL)
        ended = await files.ended(id_)
        after = await files.ended(await files.deploy(files.file("slow")))

    assert ended["status"] == "FAILED"
    assert ended["failure"]["message"].endswith((".", "!"))
    assert after["status"] == "SUCCESS"


@pytest.mark.parametrize("how", [Away.SILENT, Away.REFUSING])
async def test_a_store_that_is_away_longer_than_a_lease_costs_only_time(
    start: Start, mongodb_url: str, how: Away
) -> None:
    """Pulumi is unhurt, what it says meanwhile waits on disk and is told once, and nothing is deployed twice."""
    async with (
        outage_before(f"{mongodb_url}test{secrets.token_hex(6)}") as outage,
        start(STACKCAST_DATABASE_URL=outage.url) as running,
    ):
        files = Files(running.service)
        slow = files.file("slow", create_seconds=FOREVER)
        late = files.file("late", log=[Log("warning", "said meanwhile")], depends_on=["slow"])
        id_ = await files.deploy(slow, late)
        await files.begun(slow)
        await outage.begin(how)
        slow.go.touch()
        await asyncio.sleep(LEASE.total_seconds() + 5)
        await outage.end()
        events = [event async for event in files.events(id_)]
        ended = await files.ended(id_)

    assert ended["status"] == "SUCCESS"
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [event["message"] for event in events if event["__typename"] == "DiagnosticReported"] == ["said meanwhile"]
    assert [event["__typename"] for event in events].count("OwnerChanged") == 0
