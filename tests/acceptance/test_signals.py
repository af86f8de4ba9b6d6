"""Signals and sudden ends: to Pulumi, to its language host, and to the service, at every moment of a deployment."""

from __future__ import annotations

import signal
from contextlib import aclosing
from pathlib import Path

import pytest

from runners import process
from runners.lock import StackLock
from tests.acceptance.conftest import Start
from tests.acceptance.moments import STACK, children_by_name, directory_of_up, mark, pids_of_up, reached, signal_at
from tests.runner.waiting import eventually
from tests.service import Service, manifest

pytestmark = pytest.mark.external

#: The moments at which Pulumi answers a SIGTERM differently, each with what the program does meanwhile.
MOMENTS = {
    "as it starts": "{}",
    "as it takes its lock": "{}",
    "in the program's first call": "{discover: 0.5}",
    "as the program runs": "{sleep: 3}",
    "just after its summary": "{}",
    "just after its last event": "{}",
}


def has_come(service: Service, moment: str, update_id: str) -> bool:
    """Whether Pulumi has reached it."""
    match moment:
        case "as it starts":
            return True
        case "as it takes its lock":
            return any((service.data / "state" / ".pulumi" / "locks" / STACK).glob("*.json"))
        case "in the program's first call":
            return mark(service, "discovered").exists()
        case "as the program runs":
            return mark(service, "ran").exists()
    directory = directory_of_up(service, update_id)
    events = directory / "events" if directory else Path("nowhere")
    word = b'"summaryEvent"' if "summary" in moment else b'"cancelEvent"'
    return events.exists() and word in events.read_bytes()


async def test_a_sigterm_from_outside_is_recorded_as_what_it_did(start: Start) -> None:
    """Whenever somebody else ends Pulumi the record is SUCCESS if Pulumi was done, else INTERRUPTED; the next works."""
    async with start() as running:
        service = running.service
        await service.outcome(await service.deploy(manifest()))
        seen, after = {}, {}
        for moment, spec in MOMENTS.items():
            for call in ("discovered", "ran"):
                mark(service, call).unlink(missing_ok=True)
            id_ = await service.deploy(manifest(spec=spec))
            await signal_at(service, id_, lambda moment=moment, id_=id_: has_come(service, moment, id_))  # type: ignore[misc]
            seen[moment] = await service.outcome(id_)
            after[moment] = (await service.outcome(await service.deploy(manifest())))["status"]

    for moment, ended in seen.items():
        if ended["status"] == "SUCCESS":
            assert (ended["exitCode"], ended["failure"]) == (0, None), moment
        else:
            assert (ended["failure"]["kind"], ended["failure"]["retryable"]) == ("INTERRUPTED", True), (moment, ended)
            assert "Something outside the service ended Pulumi" in ended["failure"]["message"]
    interrupted = [moment for moment, ended in seen.items() if ended["status"] == "FAILED"]
    assert {"as it starts", "in the program's first call", "as the program runs"} <= set(interrupted)
    assert after == dict.fromkeys(MOMENTS, "SUCCESS")


async def test_a_killed_language_host_is_a_failure_with_a_sentence(start: Start) -> None:
    """When the language host is killed in the middle the record says so, a retry is advised, and it works."""
    async with start() as running:
        service = running.service
        id_ = await service.deploy(manifest(spec="{sleep: 20}"))
        await reached(service, "ran")
        pids = pids_of_up(service, id_)
        assert pids
        host = next(it for name, it in children_by_name(pids["command"]).items() if name.startswith("pulumi-lang"))
        process.send_signal(host, signal.SIGKILL)
        ended = await service.outcome(id_)
        after = await service.outcome(await service.deploy(manifest()))

    assert (ended["status"], ended["failure"]["retryable"]) == ("FAILED", True), ended
    assert "A plugin of Pulumi, the program's language host or a provider, ended" in ended["failure"]["message"]
    assert after["status"] == "SUCCESS"


async def test_a_program_that_ignores_signals_is_ended_with_all_it_left(start: Start) -> None:
    """After its time a deaf program is killed, nothing of its session or with its lock lives, and the next works."""
    async with start(STACKCAST_INTERRUPT_GRACE="0.5", STACKCAST_TERMINATE_GRACE="0.5") as running:
        service = running.service
        id_ = await service.deploy(manifest(spec="{deaf: true, sleep: 100}"), timeout=3)
        await reached(service, "ran")
        pids = pids_of_up(service, id_)
        assert pids
        ended = await service.outcome(id_)
        left = process.session_members(pids["supervisor"])
        lock = StackLock.of_stack(service.data / "locks", STACK)
        await eventually(lock.try_acquire)
        lock.release()
        after = await service.outcome(await service.deploy(manifest()))

    assert (ended["status"], ended["failure"]["kind"]) == ("FAILED", "TIMEOUT"), ended
    assert left == []
    assert after["status"] == "SUCCESS"


async def phase_reached(service: Service, update_id: str, phase: str) -> None:
    if phase == "PREPARING":  # too short to be pushed by itself
        await eventually((service.data / "runs" / update_id / "module").exists)
        return
    async with aclosing(service.watch(update_id)) as changes:
        async for change in changes:
            if change["phase"] == phase:
                return
    raise AssertionError(f"never {phase}")


@pytest.mark.parametrize(
    ("phase", "spec", "status", "kind"),
    [
        ("QUEUED", "{}", "SUCCESS", None),
        ("PREPARING", "{}", "SUCCESS", None),
        ("RUNNING", "{sleep: 0.5}", "SUCCESS", None),
        ("RUNNING", "{sleep: 100}", "FAILED", "SERVICE_STOPPED"),
        ("FINISHED", "{}", "SUCCESS", None),
    ],
)
async def test_a_service_that_is_stopped_at_any_phase_leaves_a_right_record(
    start: Start, phase: str, spec: str, status: str, kind: str | None
) -> None:
    """SIGTERM to the service: what was queued runs after the restart, what ran ends, what had ended stays so."""
    variables = {"STACKCAST_SHUTDOWN_GRACE": "6", "STACKCAST_MAX_CONCURRENT": "1"}
    async with start(**variables) as first:
        service = first.service
        for number in range(1000):  # so that preparing, which copies them, takes a moment
            (service.root / "modules" / "thing" / f"file-{number}").touch()
        if phase == "QUEUED":
            await service.deploy(manifest(name="before", spec="{sleep: 0.5}"))
        id_ = await service.deploy(manifest(spec=spec))
        await phase_reached(service, id_, phase)
        first.process.send_signal(signal.SIGTERM)
        assert await first.process.wait() == 0
    async with start(**variables) as second:
        service = second.service
        ended = await service.outcome(id_)
        after = await service.outcome(await service.deploy(manifest(spec="{say: after}")))
        await eventually(lambda: not any((service.data / "runs").iterdir()))

    assert (ended["status"], (ended["failure"] or {}).get("kind")) == (status, kind), ended
    assert after["status"] == "SUCCESS"
