"""One service on a database: who may start, who has to wait, and what one does that was replaced."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from graphql_api.adapters import Backends, open_backends
from graphql_api.domain.errors import StartRefused
from graphql_api.domain.records import Phase, utc_now
from runners.changes import FileChanges
from runners.deployment import Deployer
from runners.fork_server import ForkServer
from runners.job import JobSettings
from runners.lease import LEASE, THE_SERVICE, Lease, claim_stack, the_only_service
from runners.limits import RunLimits
from runners.pulumi import PulumiSettings
from runners.toolchain import PulumiCli
from runners.worker import Worker, WorkerPorts, WorkerSettings
from runners.workspace import Modules
from tests.builders import MANIFEST, a_claim, a_stack_update
from tests.unit import virtual_time

HERE = "/data on here (1234)"
OTHER = "/data on elsewhere (5678)"


@pytest.fixture
async def backends() -> AsyncIterator[Backends]:
    async with open_backends("sqlite:///:memory:") as opened:
        yield opened


async def test_another_is_refused_while_one_serves_and_may_start_after_it(backends: Backends) -> None:
    """The refusal names who serves, until when at the latest, and what to do; a clean end lets the other in at once."""
    async with the_only_service(backends.claims, HERE) as lease:
        with pytest.raises(StartRefused) as refusal:
            async with the_only_service(backends.claims, OTHER):
                pass
    async with the_only_service(backends.claims, OTHER):
        pass

    assert refusal.value.message == (
        f"Another stackcast works on this database: {HERE}. Stop it, or set STACKCAST_DATABASE_URL to another "
        "database. If it has crashed, start again with its data directory, or wait until "
        f"{lease.claim.expires_at:%H:%M:%S} UTC, when its claim ends."
    )


async def test_a_cancelled_service_lets_the_next_in_at_once(backends: Backends) -> None:
    """SIGTERM cancels the service; that is a clean end, too."""

    serves = asyncio.Event()

    async def serve() -> None:
        async with the_only_service(backends.claims, HERE):
            serves.set()
            await asyncio.Event().wait()

    serving = asyncio.create_task(serve())
    async with asyncio.timeout(10):
        await serves.wait()
    serving.cancel()
    await asyncio.wait([serving])
    async with the_only_service(backends.claims, OTHER) as lease:
        assert lease.claim.epoch == 2


@pytest.mark.parametrize(
    ("owner", "left", "starts"),
    [(HERE, LEASE, True), (OTHER, LEASE, False), (OTHER, -timedelta(seconds=1), True)],
)
async def test_a_crashed_service_is_succeeded_by_its_own_at_once_and_by_others_when_its_claim_expired(
    backends: Backends, owner: str, left: timedelta, starts: bool
) -> None:
    """The same data directory proves by its lock that the other is dead; nobody else can know before the expiry."""
    crashed = a_claim(stack=THE_SERVICE, owner=HERE, expires_at=utc_now() + left)
    assert await backends.claims.claim(crashed)

    if starts:
        async with the_only_service(backends.claims, owner) as lease:
            assert (lease.claim.epoch, lease.claim.owner) == (2, owner)
    else:
        with pytest.raises(StartRefused, match="Another stackcast works"):
            async with the_only_service(backends.claims, owner):
                pass


def test_a_service_notices_that_it_was_replaced() -> None:
    """Whatever made another believe that its claim had expired, an outage or a clock, it finds the newer claim with
    the next renewal, and does not end that one as it leaves.
    """

    async def scenario() -> None:
        async with open_backends("sqlite:///:memory:") as backends:
            async with the_only_service(backends.claims, HERE) as lease:
                await backends.claims.renew(lease.claim, utc_now() - LEASE)
                theirs = await claim_stack(backends.claims, THE_SERVICE, lease.claim.update_id, OTHER)
                assert theirs
                await asyncio.sleep(LEASE.total_seconds())
                assert lease.lost
            assert await backends.claims.current(THE_SERVICE) == theirs

    virtual_time.run(scenario)


async def no_cli() -> PulumiCli | None:
    return None


async def test_a_replaced_service_starts_nothing_more(
    backends: Backends, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker ends and says why; what is queued stays for the other."""
    update = a_stack_update()
    await backends.updates.insert(update, MANIFEST)
    settings = PulumiSettings("file:///nowhere", tmp_path, None, None, {})
    lease = Lease(a_claim(stack=THE_SERVICE))
    lease.lost = True
    second = timedelta(seconds=1)
    jobs = JobSettings((second, second), RunLimits(10**9, 10**9))
    ports = WorkerPorts(
        *(backends.updates, backends.history, backends.claims, backends.events, backends.requests, backends.wakeups)
    )
    worker = Worker(
        ports,
        Deployer(Modules(None, None), settings, no_cli, ForkServer()),
        FileChanges(),
        WorkerSettings("1234", tmp_path / "runs", tmp_path / "locks", jobs, log_limit=10**6, max_concurrent=2),
        lease,
    )

    with caplog.at_level(logging.ERROR):
        await worker.run()

    stored = await backends.updates.get(update.id)
    assert stored is not None
    assert stored.phase is Phase.QUEUED
    assert "another service took over this database" in caplog.text
