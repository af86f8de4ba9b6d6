"""Ending a deployment from another terminal, and giving it more time, seen by whoever follows it."""

from __future__ import annotations

import asyncio
import re
import shlex
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests import fake_pulumi
from tests.acceptance.command import begin, end, on_a_terminal, stackcast, variables
from tests.runner.waiting import eventually
from tests.service import PATIENCE, Service, manifest, running_service

LONG = "3600"  # seconds


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory with the fake Pulumi, and with a manifest in `one.yaml` for the kind Thing."""
    fake_pulumi.install(tmp_path / "bin")
    (tmp_path / "one.yaml").write_text(manifest())
    return tmp_path


@asynccontextmanager
async def at_work(root: Path, ignore: int = 0, **settings: str) -> AsyncIterator[tuple[Service, str]]:
    """A service with a deployment at work, whose Pulumi ignores so many SIGTERMs."""
    async with running_service(root, **settings) as service:
        service.module("Thing", sleep=60, ignore=ignore)
        id_ = await service.deploy(manifest())
        await eventually(lambda: any(start.startswith("up ") for start in service.starts()))
        yield service, id_


async def followed(service: Service, id_: str) -> asyncio.subprocess.Process:
    """`stackcast watch`, once it has begun to show that the deployment runs."""
    process = await begin(variables(service), service.root, "watch", id_)
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        while b"running" not in await process.stdout.readline():
            pass
    return process


async def test_the_ladder_is_seen_by_who_follows(root: Path) -> None:
    """Cancelled from elsewhere, a follower sees each stage as it comes, then CANCELLED, and ends with 3."""
    async with at_work(root, ignore=1, STACKCAST_INTERRUPT_GRACE="1", STACKCAST_TERMINATE_GRACE="20") as (service, id_):
        following = await followed(service, id_)
        cancelled = await stackcast(service, "cancel", id_)
        ended = await end(following)
        log = await stackcast(service, "logs", id_, "--json")

    assert cancelled.code == 0, cancelled
    assert cancelled.err == ""
    assert cancelled.out.startswith(f"The stack update {id_} is being ended: Pulumi ")
    assert re.findall("`stackcast ([^`]*?) --server", cancelled.out) == [f"cancel {id_} --force", f"watch {id_}"]
    assert ended.code == 3, ended
    stages = [event["cancellation"]["stage"] for event in log.records if event["__typename"] == "CancellationChanged"]
    assert stages[-2:] == ["INTERRUPTED", "TERMINATED"]
    told = [line.partition("asked for it: ")[2].split(",")[0] for line in ended.out.splitlines() if "asked for" in line]
    assert told[-3:] == ["Pulumi finishes the resources in hand", "Pulumi stops at once", ""]
    assert ended.out.splitlines()[-2].endswith("  CANCELLED  finished")
    assert ended.out.splitlines()[-1] == "  It was ended, since somebody asked for it."


async def test_force_does_not_wait_for_the_next_stage(root: Path) -> None:
    """With an hour of grace, --force leads to the next stage at once; the first cancel names that command."""
    async with at_work(root, ignore=1, STACKCAST_INTERRUPT_GRACE=LONG) as (service, id_):
        first = await stackcast(service, "cancel", id_)
        await eventually_interrupted(service, id_)
        force, _ = re.findall("`stackcast (.*?)`", first.out)
        second = await stackcast(service, *shlex.split(force))
        outcome = await stackcast(service, "watch", id_)

    assert (first.code, second.code, outcome.code) == (0, 0, 3)
    assert "--force" in force


async def eventually_interrupted(service: Service, id_: str) -> None:
    """Wait until Pulumi has had its first signal."""
    watching = await begin(variables(service), service.root, "logs", id_, "--follow", "--json")
    assert watching.stdout is not None
    async with asyncio.timeout(PATIENCE):
        while b'"INTERRUPTED"' not in await watching.stdout.readline():
            pass
    watching.kill()
    await end(watching)


async def test_one_that_waits_is_cancelled_at_once(root: Path) -> None:
    """Nothing was begun, so nothing has to be ended; cancelling what has ended is refused."""
    async with at_work(root) as (service, running):
        waiting = await service.deploy(manifest())
        cancelled = await stackcast(service, "cancel", waiting)
        again = await stackcast(service, "cancel", waiting)
        as_json = await stackcast(service, "cancel", running, "--json")

    assert (cancelled.code, cancelled.out) == (
        0,
        f"The stack update {waiting} is cancelled; Pulumi had not begun with it.\n",
    )
    assert (again.code, again.out) == (2, "")
    assert "has ended with CANCELLED" in again.sentence
    assert as_json.records[0]["cancellation"]["reason"] == "ASKED"


async def test_a_terminal_counts_down_to_the_next_stage(root: Path) -> None:
    """The picture shows how far ending it has come, and in how many seconds that goes on."""
    async with at_work(root, ignore=1, STACKCAST_INTERRUPT_GRACE="4") as (service, id_):
        environ = variables(service, TERM="xterm-256color")
        watching = asyncio.create_task(on_a_terminal(environ, service.root, "watch", id_))
        await stackcast(service, "cancel", id_)
        code, printed = await watching

    assert code == 3
    assert re.search(r"IN_PROGRESS.*  cancelling  \d+ s", printed)
    words = re.sub(r"\s+", " ", re.sub(r"\x1b\[[0-9;]*m", "", printed))
    seconds = re.findall(r"and is told to stop at once in (\d) s", words)
    assert len(set(seconds)) > 1
    assert seconds == sorted(seconds, reverse=True)


async def test_the_sentence_after_ctrl_c_names_the_way_to_end_it(root: Path) -> None:
    """Who stops following reads a command that ends the deployment, and it works."""
    async with at_work(root) as (service, id_):
        following = await followed(service, id_)
        following.send_signal(signal.SIGINT)
        interrupted = await end(following)
        watch, cancel = re.findall("`stackcast (.*?)`", interrupted.sentence)
        cancelled = await stackcast(service, *shlex.split(cancel))
        outcome = await stackcast(service, *shlex.split(watch))

    assert interrupted.code == 130
    assert (cancelled.code, outcome.code) == (0, 3)


async def test_a_deployment_gets_more_time(root: Path) -> None:
    """The answer says until when it may run, and the log tells it; less time than it has is refused."""
    async with at_work(root, STACKCAST_DEPLOY_TIMEOUT_LIMIT="2000") as (service, id_):
        extended = await stackcast(service, "extend", id_, "1000")
        less = await stackcast(service, "extend", id_, "900")
        most = await stackcast(service, "extend", id_, "5000")
        as_json = await stackcast(service, "logs", id_, "--json")
        plain = await stackcast(service, "logs", id_)
        await stackcast(service, "cancel", id_)
        cancelling = await stackcast(service, "extend", id_, "1900")

    assert extended.code == 0, extended
    assert re.fullmatch(rf"The stack update {id_} may run for 1000 s, until [0-9T:.-]+Z\.\n", extended.out)
    assert (less.code, less.out) == (2, "")
    assert "must be more than the 1000" in less.sentence
    assert "may run for 2000 s" in most.out
    assert "not for 5000 s" in most.out
    deadlines = [event["deadline"] for event in as_json.records if event["__typename"] == "DeadlineChanged"]
    assert [f"it may run until {deadline}" in plain.out for deadline in deadlines] == [True, True]
    assert (cancelling.code, cancelling.out) == (2, "")


async def test_a_deadline_that_comes_near_is_told(root: Path) -> None:
    """Before its time is over a line says so; then the same ladder is seen, and the outcome is FAILED."""
    async with running_service(root) as service:
        service.module("Thing", sleep=60)
        ended = await stackcast(service, "deploy", "-f", "one.yaml", "--follow", "--timeout", "3")

    assert ended.code == 1, ended
    assert re.search(r"Z  it is ended at [0-9T:.-]+Z unless it gets more time", ended.out)
    assert "Z  ending, since it has run for as long as it may: Pulumi finishes the resources in hand" in ended.out
    assert "  TIMEOUT: " in ended.out
