"""Whatever is killed, at whatever moment: what always holds holds, and the next deployment works.

A seed that breaks a rule is played again with `python -m tests.kills --lanes 1 --seed`: the rounds then come upon the
same deployments and the same victims, at about the same moments.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from runners import toolchain
from runners.lease import LEASE
from runners.toolchain import PulumiCli
from tests.acceptance.files import CANCEL
from tests.acceptance.test_queue import MOVED_CLOCK
from tests.kills import programs, rules
from tests.kills.moments import Moment
from tests.kills.plans import LONG, Plan
from tests.kills.rounds import Report, Rounds
from tests.kills.rules import Deployment
from tests.kills.scene import Parts, Victim, a_scene
from tests.kills.watcher import Watcher
from tests.runner.waiting import eventually
from tests.servers import mongodb
from tests.service import manifest

PHASES = ("QUEUED", "PREPARING", "RUNNING", "CANCELLING", "RECORDING")


async def play(root: Path, parts: Parts, seed: str, rounds: int) -> list[Report]:
    """Play so many rounds, or up to the first that breaks a rule."""
    reports: list[Report] = []
    async with a_scene(root, parts) as scene:
        playing = Rounds(scene, seed)
        while len(reports) < rounds and not (reports and reports[-1].problems):
            reports.append(await playing.play())
        changed = await playing.unchanged()
        assert await scene.stop() == 0

    assert reports[-1].problems == [], f"seed {seed}, round {len(reports)}: {reports[-1].blow}"
    assert changed == []
    return reports


@pytest.mark.timeout(300)
async def test_fifty_kills_at_every_phase_lose_nothing(tmp_path: Path) -> None:
    """The service, its supervisors and Pulumi are killed in every phase of three scenes: every rule holds."""
    lanes = [play(tmp_path / seed, Parts(), seed, rounds) for seed, rounds in (("a", 17), ("b", 17), ("c", 16))]
    reports = [report for lane in await asyncio.gather(*lanes) for report in lane]

    hits = Counter(phase for report in reports for _, phase in report.hits)
    assert {phase: hits[phase] for phase in PHASES if hits[phase] < 3} == {}
    assert {victim for report in reports for victim, _ in report.hits} == {*Victim} - {Victim.STORE}
    assert {report.blow.moment for report in reports} == {*Moment}


@pytest.mark.external
@pytest.mark.timeout(300)
async def test_kills_with_the_real_pulumi_lose_nothing(tmp_path: Path, pulumi_cli: PulumiCli) -> None:
    """With Pulumi itself every rule holds after each of ten kills."""
    await play(tmp_path / "real", Parts(pulumi_cli.path), "real", 10)


@pytest.mark.external
@pytest.mark.timeout(300)
async def test_a_killed_database_server_loses_nothing(tmp_path: Path) -> None:
    """The server that speaks MongoDB's protocol is killed as well, and comes back with its data: every rule holds."""
    server = await mongodb.build(toolchain.cache_directory(os.environ), lambda _: None, os.environ)
    reports = await play(tmp_path / "mongodb", Parts(ferretdb=server), "mongodb", 10)

    assert any(victim is Victim.STORE for report in reports for victim, _ in report.hits)


async def test_a_frozen_service_writes_nothing_once_another_has_taken_over(tmp_path: Path) -> None:
    """A service that comes back to life, after another has ended its deployment, leaves log and record as they are."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(MOVED_CLOCK)
    (site / "offset").write_text(str(2 * LEASE.total_seconds()))  # for the other one the claims have expired
    later = {"PYTHONPATH": str(site), "CLOCK_OFFSET": str(site / "offset")}
    async with a_scene(tmp_path / "frozen", Parts()) as frozen:
        plan = Plan("held", LONG, lines=10, held=True)
        text = manifest(spec=plan.spec)
        watcher = Watcher(lambda: frozen.service, await frozen.service.deploy(text))
        following = asyncio.create_task(watcher.follow())
        await eventually(lambda: any(event.get("text") == "line 9" for event in watcher.events))
        frozen.signal_service(signal.SIGSTOP)
        following.cancel()
        programs.release_of(frozen.tmp, "one").touch()
        (end,) = await eventually(lambda: [*frozen.runs.glob("*/*-up/exit.json")])
        with (end.parent / "stdout").open("a") as stdout:  # more than one batch, and so more than one chunk
            stdout.writelines(f"line {number}\n" for number in range(10, 5000))
        database = f"sqlite:///{frozen.root / 'data' / 'stackcast.db'}"
        async with a_scene(tmp_path / "other", Parts(), STACKCAST_DATABASE_URL=database, **later) as other:
            deployment = Deployment(watcher.id, "one", "organization/tests/one", plan)
            await other.service.execute(CANCEL, id=watcher.id, force=True)
            ended = await rules.read(other, deployment)
            frozen.signal_service(signal.SIGCONT)
            await eventually(lambda: watcher.id in frozen.log.read_text())
            after = await rules.read(other, deployment)
        await frozen.kill_service()

    assert ended.record["failure"]["kind"] == "WORKER_LOST"
    assert ended.events[: len(watcher.events)] == watcher.events
    assert (after.record, after.events) == (ended.record, ended.events)
