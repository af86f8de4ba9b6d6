"""Tidying up: what goes, what stays, that it goes on after trouble, and never without a certain claim."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from graphql_api.adapters import Backends, open_backends
from graphql_api.domain.errors import StoreUnavailable
from graphql_api.domain.ports import Slice
from graphql_api.domain.records import CloudResourceId, StackUpdateId, new_id, utc_now
from runners.lease import LEASE, Lease
from runners.past import PastOfStack, pasts
from runners.patience import beside
from runners.retention import INTERVAL, RetentionSettings, Tidying
from tests.builders import a_chunk, a_claim, a_stack_update, failed, following, kept, started
from tests.runner.children import argv_of
from tests.unit import virtual_time

DAY = timedelta(days=1)
ALL = Slice(10_000)


@dataclass
class Stage:
    """A database in memory, and Tidying with a directory of its own."""

    backends: Backends
    root: Path
    age: timedelta = 90 * DAY
    newest: int = 2
    lease: Lease = field(default_factory=lambda: Lease(a_claim()))
    troubles: list[Exception] = field(default_factory=list)
    rounds: int = 0

    @property
    def tidying(self) -> Tidying:
        settings = RetentionSettings(self.age, self.newest, self.root / "runs", self.root / "state")
        return Tidying(self, self.backends.updates, settings, self.lease)

    async def deployed(self, after: CloudResourceId | None, limit: int) -> Sequence[CloudResourceId]:
        return await self.backends.retention.deployed(after, min(limit, 2))

    async def expired(
        self, resource: CloudResourceId, before: datetime, keep: int, limit: int
    ) -> Sequence[StackUpdateId]:
        return await self.backends.retention.expired(resource, before, keep, limit)

    async def forget(self, id_: StackUpdateId) -> bool:
        return await self.backends.retention.forget(id_)

    async def half_forgotten(self, limit: int) -> Sequence[StackUpdateId]:
        self.rounds += 1
        if self.troubles:
            raise self.troubles.pop()
        return await self.backends.retention.half_forgotten(limit)

    async def ended(self, days_ago: float, resource: CloudResourceId) -> StackUpdateId:
        update = a_stack_update(created_at=utc_now() - days_ago * DAY, cloud_resource_id=resource)
        await kept(self.backends.updates, update, failed(update))
        return update.id

    async def left(self) -> set[StackUpdateId]:
        return {update.id for update in await self.backends.history.page(ALL)}


@asynccontextmanager
async def a_stage(root: Path) -> AsyncIterator[Stage]:
    async with open_backends("sqlite:///:memory:") as backends:
        yield Stage(backends, root)


def a_resource() -> CloudResourceId:
    return CloudResourceId(new_id(utc_now()))


# --- stack updates


def test_what_is_old_goes_but_for_the_newest(tmp_path: Path) -> None:
    """Of each cloud resource what ended longer ago goes, but for the newest so many; what has not ended stays."""

    async def scenario() -> None:
        async with a_stage(tmp_path) as stage:
            kept_ids, gone = set(), set()
            for resource in (a_resource() for _ in range(5)):
                gone |= {await stage.ended(days, resource) for days in (400, 300, 200, 91)}
                kept_ids |= {await stage.ended(days, resource) for days in (89, 1)}
                waiting = a_stack_update(created_at=utc_now() - 500 * DAY, cloud_resource_id=resource)
                await kept(stage.backends.updates, waiting, started(waiting))
                kept_ids.add(waiting.id)
            for resource in (a_resource() for _ in range(3)):
                kept_ids |= {await stage.ended(days, resource) for days in (400, 300)}

            await stage.tidying.tidy_up()

            assert await stage.left() == kept_ids

    virtual_time.run(scenario)


def test_more_than_a_batch_goes_in_one_round(tmp_path: Path) -> None:
    """However much has gathered, one round forgets all of it."""

    async def scenario() -> None:
        async with a_stage(tmp_path) as stage:
            resource = a_resource()
            for _ in range(250):
                await stage.ended(100, resource)

            await stage.tidying.tidy_up()

            assert len(await stage.left()) == stage.newest

    virtual_time.run(scenario)


def test_what_an_earlier_life_left_half_forgotten_is_finished(tmp_path: Path) -> None:
    """A log of which the record is gone already goes too."""

    async def scenario() -> None:
        async with a_stage(tmp_path) as stage:
            id_ = await stage.ended(100, a_resource())
            chunk = a_chunk(update_id=id_)
            for _ in range(100):
                await stage.backends.events.append(chunk)
                chunk = following(chunk)
            assert not await stage.forget(id_)

            await stage.tidying.tidy_up()

            assert await stage.backends.events.last(id_) is None
            assert await stage.backends.retention.half_forgotten(1) == []

    virtual_time.run(scenario)


def test_it_tidies_up_every_hour_whatever_goes_wrong(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An outage, and what nobody thought of, cost one round: the next one does the work."""

    async def scenario() -> None:
        async with a_stage(tmp_path) as stage:
            stage.newest = 1
            resource = a_resource()
            await stage.ended(100, resource)
            newest = await stage.ended(99, resource)
            stage.troubles = [RuntimeError("unthought of"), StoreUnavailable("The database did not answer.")]
            async with beside(stage.tidying.keep_tidy()):
                for rounds in (1, 2):
                    await asyncio.sleep(1)
                    assert (stage.rounds, len(await stage.left())) == (rounds, 2)
                    await certain_for(stage, INTERVAL)
                assert await stage.left() == {newest}

    virtual_time.run(scenario)

    assert "The database did not answer." in caplog.text
    assert "unthought of" in caplog.text


async def certain_for(stage: Stage, time: timedelta) -> None:
    """Let the time pass, while the claim on the database is renewed."""
    clock = asyncio.get_running_loop().time
    end = clock() + time.total_seconds()
    while clock() < end:
        stage.lease.confirm(clock())
        await asyncio.sleep(1)


def test_what_is_kept_for_less_than_an_hour_is_looked_at_more_often(tmp_path: Path) -> None:
    """Nothing is kept for much longer than it is to be."""

    async def scenario() -> None:
        async with a_stage(tmp_path) as stage:
            stage.age = timedelta(seconds=10)
            async with beside(stage.tidying.keep_tidy()):
                await certain_for(stage, timedelta(seconds=35))
            assert stage.rounds == 4

    virtual_time.run(scenario)


@pytest.mark.parametrize("lost", [True, False])
def test_nothing_is_forgotten_without_a_certain_claim(tmp_path: Path, lost: bool) -> None:
    """What another service may have taken over is left to it; once the claim is certain again, the work is done."""

    async def scenario() -> None:
        async with a_stage(tmp_path) as stage:
            resource = a_resource()
            for _ in range(3):
                await stage.ended(100, resource)
            run = a_run(stage, new_id(utc_now()))
            async with beside(stage.tidying.keep_tidy()):
                stage.lease.lost = lost
                if not lost:
                    stage.lease.confirm(asyncio.get_running_loop().time() - LEASE.total_seconds())
                await asyncio.sleep(1)
                assert len(await stage.left()) == 3
                assert run.exists()
                stage.lease.lost = False
                await certain_for(stage, INTERVAL)
                assert len(await stage.left()) == 2
                assert not run.exists()

    virtual_time.run(scenario)


# --- run directories


def a_run(stage: Stage, id_: str, days_ago: float = 100, pid: int | None = None) -> Path:
    """A run's directory that was made so many days ago, perhaps with a supervisor of this pid."""
    command = stage.root / "runs" / id_ / "01-up"
    command.mkdir(parents=True)
    if pid is not None:
        identity = f'{{"pid": {pid}, "start_time": 1}}'
        (command / "pids.json").write_text(
            f'{{"supervisor": {identity}, "command": {identity}, "boot_id": "", "hostname": "h", "started": 1}}'
        )
    moment = (utc_now() - days_ago * DAY).timestamp()
    os.utime(command.parent, (moment, moment))
    return command.parent


@contextmanager
def a_session() -> Iterator[int]:
    """A process that leads a session; its pid."""
    with subprocess.Popen(argv_of("polite"), start_new_session=True) as process:
        yield process.pid
        process.kill()


def test_runs_of_which_nobody_knows_go(tmp_path: Path) -> None:
    """An old run's directory goes where its stack update is gone; those of known, new and living ones stay."""

    async def scenario() -> None:
        async with a_stage(tmp_path) as stage:
            known = a_run(stage, await stage.ended(100, a_resource()))
            new = a_run(stage, new_id(utc_now()), days_ago=80)
            gone = [a_run(stage, new_id(utc_now())), a_run(stage, new_id(utc_now()), pid=2**22)]
            with a_session() as pid:
                running = a_run(stage, new_id(utc_now()), pid=pid)
                await stage.tidying.tidy_up()
                assert running.exists()

            assert known.exists()
            assert new.exists()
            assert not any(run.exists() for run in gone)

            await stage.tidying.tidy_up()
            assert not running.exists()

    virtual_time.run(scenario)


def test_a_run_that_cannot_be_removed_holds_up_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with its place, and everything behind it goes."""

    async def scenario() -> None:
        async with a_stage(tmp_path) as stage:
            behind = a_run(stage, "f" * 24)
            (tmp_path / "runs" / ("0" * 24)).symlink_to(behind)  # is not followed, so it is no directory to remove
            past = [an_update_of(tmp_path / "state", "dev", days)[0] for days in (400, 300, 200)]

            await stage.tidying.tidy_up()

            assert not behind.exists()
            assert not past[0].exists()

    virtual_time.run(scenario)
    assert "0" * 24 in caplog.text


# --- what Pulumi keeps


def an_update_of(state: Path, stack: str, days_ago: float, project: str = "demo") -> list[Path]:
    """The six files that one update of a stack leaves, and what stands beside them."""
    time = int((utc_now() - days_ago * DAY).timestamp() * 1e9)
    names = {
        "history": [f"{stack}-{time}.{kind}.json{end}" for kind in ("history", "checkpoint") for end in ("", ".attrs")],
        "backups": [f"{stack}.{time}.json{end}" for end in ("", ".attrs")],
    }
    files = [state / ".pulumi" / kind / project / stack / name for kind in names for name in names[kind]]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{}")
    return files


def test_of_what_pulumi_keeps_the_newest_stays(tmp_path: Path) -> None:
    """Of each stack what Pulumi wrote about old updates goes, but for the newest so many; the rest is untouched."""

    async def scenario() -> None:
        async with a_stage(tmp_path) as stage:
            state = tmp_path / "state"
            gone = [file for days in (300, 200) for file in an_update_of(state, "dev.x-y_1", days)]
            stay = [file for days in (100, 1) for file in an_update_of(state, "dev.x-y_1", days)]
            stay += [file for days in (300, 200) for file in an_update_of(state, "dev", days)]
            stay += [file for days in (80, 40, 20, 10) for file in an_update_of(state, "dev.x-y_1", days, "other")]
            stay += others(state)

            await stage.tidying.tidy_up()

            assert not [file for file in gone if file.exists()]
            assert [file for file in stay if not file.exists()] == []

    virtual_time.run(scenario)


def others(state: Path) -> list[Path]:
    """Files of other kinds, in all directories."""
    past = state / ".pulumi" / "history" / "demo"
    names = ["meta.yaml", "stacks/demo/dev.json", "stacks/demo/dev.json.bak", "locks/organization/demo/dev/a.json"]
    files = [state / ".pulumi" / name for name in names]
    old = "1600000000000000000"
    names = ["notes.txt", f"other-{old}.history.json", "dev-1.history.json", f"dev-{old}", f"dev-{old}.x/y"]
    files += [past / "dev" / name for name in names]
    files += [past / f"dev-{old}.history.json", state / ".pulumi" / "stacks" / "dev" / f"dev-{old}.history.json"]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{}")
    return files


@pytest.mark.parametrize("link", [".pulumi", ".pulumi/history", ".pulumi/history/demo", ".pulumi/history/demo/dev"])
def test_no_link_is_followed(tmp_path: Path, link: str) -> None:
    """What lies elsewhere is somebody else's, on every level, also where the link takes the place of a directory."""
    elsewhere = tmp_path / "elsewhere"
    files = [file for days in (300, 200) for file in an_update_of(elsewhere, "dev", days)]
    state = tmp_path / "state"
    (state / link).parent.mkdir(parents=True)
    (state / link).symlink_to(elsewhere / link)

    assert pasts(state) == []
    assert PastOfStack(state, "history", "demo", "dev").remove_old(utc_now(), 0) == 0
    assert all(file.exists() for file in files)


def test_a_link_among_the_files_is_not_touched(tmp_path: Path) -> None:
    """Nor is what it leads to."""
    *_, last = [an_update_of(tmp_path, "dev", days)[0] for days in (300, 200)]
    link, target = last.with_name("dev-1500000000000000000.history.json"), tmp_path / "target"
    target.write_text("{}")
    link.symlink_to(target)

    for past in pasts(tmp_path):
        past.remove_old(utc_now(), 0)

    assert link.is_symlink()
    assert target.exists()
    assert not last.exists()


def test_nothing_to_remove_is_no_trouble(tmp_path: Path) -> None:
    """A state directory that no Pulumi has used yet, or from which a stack has gone meanwhile."""
    assert pasts(tmp_path) == []
    assert PastOfStack(tmp_path, "history", "demo", "dev").remove_old(utc_now(), 0) == 0
