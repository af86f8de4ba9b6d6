"""Stopping real deployments: the ladder of signals, what is left behind, time-outs and their extension."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from runners import process
from tests.acceptance.conftest import Start
from tests.acceptance.files import Files
from tests.acceptance.moments import children_by_name, pids_of_up
from tests.service import PATIENCE

pytestmark = pytest.mark.external

SHORT = {"STACKCAST_INTERRUPT_GRACE": "2", "STACKCAST_TERMINATE_GRACE": "2"}
#: Longer than any test takes, so that only a signal can have ended it.
LONG = {"STACKCAST_INTERRUPT_GRACE": "100", "STACKCAST_TERMINATE_GRACE": "100"}
FOREVER = 4 * PATIENCE


def stages(events: list[Any]) -> list[str]:
    return [event["cancellation"]["stage"] for event in events if event["__typename"] == "CancellationChanged"]


def phases(events: list[Any]) -> list[str]:
    return [event["phase"] for event in events if event["__typename"] == "StatusChanged"]


async def test_a_provider_that_listens_ends_at_the_first_signal(start: Start) -> None:
    """The cancelled create fails at once, nothing is pending, and the next deployment makes the file."""
    async with start(**LONG) as running:
        files = Files(running.service)
        slow = files.file("slow", create_seconds=FOREVER)
        id_ = await files.deploy(slow)
        await files.begun(slow)
        answer = await files.cancel(id_)
        events = [event async for event in files.events(id_)]
        ended = await files.ended(id_)
        again = await files.cancel(id_)
        after = await files.ended(await files.deploy(files.file("slow")))

    assert answer["stackUpdate"]["phase"] == "CANCELLING"
    assert answer["stackUpdate"]["cancellation"]["reason"] == "ASKED"
    assert stages(events) == ["REQUESTED", "INTERRUPTED"]
    assert phases(events) == ["QUEUED", "PREPARING", "RUNNING", "CANCELLING", "FINISHED"]
    assert (ended["status"], ended["failure"], ended["exitCode"]) == ("CANCELLED", None, 1)
    assert ended["cancellation"] == {
        "reason": "ASKED",
        "stage": "INTERRUPTED",
        "nextStageAt": None,
        "lockLeft": False,
    }
    assert [(it["name"], it["state"]) for it in ended["resources"]["nodes"]] == [("slow", "FAILED")]
    assert ended["output"]["status"] == "cancelled"
    assert ended["actions"] == {"canCancel": False, "canForceCancel": False, "canExtendDeadline": False}
    assert again["code"] == "STACK_UPDATE_ENDED"
    assert after["status"] == "SUCCESS"


async def test_a_deaf_provider_meets_the_whole_ladder(start: Start) -> None:
    """After the grace comes the second signal; the operation in hand is INTERRUPTED, and the next deployment works."""
    async with start(**SHORT) as running:
        files = Files(running.service)
        deaf = files.file("deaf", create_seconds=FOREVER, ignore_cancel=True)
        id_ = await files.deploy(deaf)
        await files.begun(deaf)
        await files.cancel(id_)
        events = [event async for event in files.events(id_)]
        ended = await files.ended(id_)
        after = await files.ended(await files.deploy(files.file("deaf")))

    told = [event["cancellation"] for event in events if event["__typename"] == "CancellationChanged"]
    assert [it["stage"] for it in told] == ["REQUESTED", "INTERRUPTED", "TERMINATED"]
    assert told[1]["nextStageAt"] < told[2]["nextStageAt"]
    assert (ended["status"], ended["cancellation"]["stage"]) == ("CANCELLED", "TERMINATED")
    assert [(it["name"], it["state"]) for it in ended["resources"]["nodes"]] == [("deaf", "INTERRUPTED")]
    assert ended["progress"]["interrupted"] == 1
    assert after["status"] == "SUCCESS"


async def test_force_takes_the_next_step_at_once(start: Start) -> None:
    """However long the graces are, each forced cancel is a step further."""
    async with start(**LONG) as running:
        files = Files(running.service)
        deaf = files.file("deaf", create_seconds=FOREVER, ignore_cancel=True)
        id_ = await files.deploy(deaf)
        await files.begun(deaf)
        seen = []
        async for event in files.events(id_):
            seen.append(event)
            if event["__typename"] == "ResourceChanged" and event["resource"]["state"] == "IN_PROGRESS":
                await files.cancel(id_)
            elif event["__typename"] == "CancellationChanged" and event["cancellation"]["stage"] == "INTERRUPTED":
                await files.cancel(id_, force=True)
        ended = await files.ended(id_)
        after = await files.ended(await files.deploy(files.file("deaf")))

    assert stages(seen) == ["REQUESTED", "INTERRUPTED", "TERMINATED"]
    assert ended["status"] == "CANCELLED"
    assert after["status"] == "SUCCESS"


async def test_a_program_that_ignores_signals_is_killed_and_its_lock_removed_later(start: Start) -> None:
    """At the ladder's end comes SIGKILL; that Pulumi's lock may be left is said, and the next deployment removes it."""
    async with start(**SHORT) as running:
        files = Files(running.service)
        deaf = files.file("deaf", create_seconds=FOREVER, ignore_cancel=True)
        id_ = await files.deploy(deaf)
        await files.begun(deaf)
        pids = pids_of_up(running.service, id_)
        assert pids
        identity = process.identify(pids["command"])
        assert identity
        process.send_signal(identity, signal.SIGSTOP)  # now it handles no signal but the last
        await files.cancel(id_)
        ended = await files.ended(id_)
        after = await files.ended(await files.deploy(files.file("deaf")))

    assert (ended["status"], ended["exitCode"]) == ("CANCELLED", None)
    assert (ended["cancellation"]["stage"], ended["cancellation"]["lockLeft"]) == ("KILLED", True)
    assert ended["progress"]["interrupted"] == 1
    assert after["status"] == "SUCCESS"


async def test_a_timeout_is_announced_and_walks_the_same_ladder(start: Start) -> None:
    """A warning comes before the deadline; the outcome is FAILED with TIMEOUT, not CANCELLED."""
    async with start(**SHORT) as running:
        files = Files(running.service)
        await files.ended(await files.deploy(files.file("quick")))
        slow = files.file("slow", create_seconds=FOREVER)
        id_ = await files.deploy(slow, timeout=8)
        events = [event async for event in files.events(id_)]
        ended = await files.ended(id_)

    kinds = [event["__typename"] for event in events]
    assert kinds.index("DeadlineApproaching") < kinds.index("CancellationChanged")
    assert stages(events) == ["INTERRUPTED"]
    assert (ended["status"], ended["failure"]["kind"]) == ("FAILED", "TIMEOUT")
    assert ended["cancellation"]["reason"] == "TIMEOUT"


async def test_a_deadline_can_be_moved_while_it_runs(start: Start) -> None:
    """A deployment that would time out ends SUCCESS with more time; every client sees the new deadline."""
    async with start() as running:
        files = Files(running.service)
        await files.ended(await files.deploy(files.file("quick")))
        slow = files.file("slow", create_seconds=FOREVER)
        id_ = await files.deploy(slow, timeout=10)
        await files.begun(slow)
        extended = await files.extend(id_, 300)
        seen = []
        async for event in files.events(id_):
            seen.append(event)
            if event["__typename"] == "DeadlineChanged":
                slow.go.touch()
        ended = await files.ended(id_)

    assert extended["stackUpdate"]["timeoutSeconds"] == 300
    assert [event["deadline"] for event in seen if event["__typename"] == "DeadlineChanged"] == [
        extended["stackUpdate"]["deadline"]
    ]
    assert ended["status"] == "SUCCESS"


async def test_a_killed_provider_is_a_failure_with_a_sentence(start: Start) -> None:
    """When the provider is killed in mid-run the record says so, a retry is advised, and it works."""
    async with start() as running:
        files = Files(running.service)
        slow = files.file("slow", create_seconds=FOREVER)
        id_ = await files.deploy(slow)
        await files.begun(slow)
        pids = pids_of_up(running.service, id_)
        assert pids
        (plugin,) = [it for name, it in children_by_name(pids["command"]).items() if not name.startswith("pulumi-lang")]
        process.send_signal(plugin, signal.SIGKILL)
        ended = await files.ended(id_)
        after = await files.ended(await files.deploy(files.file("slow")))

    assert (ended["status"], ended["failure"]["retryable"]) == ("FAILED", True)
    assert [(it["name"], it["state"]) for it in ended["resources"]["nodes"]] == [("slow", "FAILED")]
    assert after["status"] == "SUCCESS"
