"""The queue: what runs, in which order, and what never runs at the same time."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from pathlib import Path

import pytest

from graphql_api.adapters import open_backends
from graphql_api.domain.records import StackFqdn, StackUpdate, StackUpdateId, new_id, utc_now
from tests.acceptance.conftest import Start
from tests.builders import a_cloud_resource, a_stack_update
from tests.runner.waiting import eventually
from tests.service import Service, manifest

pytestmark = pytest.mark.external

QUEUED = 500
STACKS = 25
#: A Pulumi of a few milliseconds: it makes a stack, and notes each update's stack and id as it begins and ends.
QUICK_PULUMI = """#!/bin/sh
case $1 in
version) echo v3.206.0 ;;
stack) file="${PULUMI_BACKEND_URL#file://}/.pulumi/stacks/${4#*/}.json"; mkdir -p "${file%/*}"; echo '{}' > "$file" ;;
up)
  echo "begin $3 ${10}" >> "$PULUMI_HOME/order"
  printf '{"summaryEvent":{}}\\n{"cancelEvent":{}}\\n' > "$8"
  echo "end $3 ${10}" >> "$PULUMI_HOME/order"
esac
"""
#: Moves the wall clock of the service's Python by the seconds that a file holds; what measures time stays as it is.
MOVED_CLOCK = """
import datetime, os, time
real, real_time = datetime.datetime, time.time
def offset():
    with open(os.environ["CLOCK_OFFSET"]) as file:
        return float(file.read())
class Kind(type):
    def __instancecheck__(cls, value):
        return isinstance(value, real)
class Moved(real, metaclass=Kind):
    @classmethod
    def now(cls, tz=None):
        return real.now(tz) + datetime.timedelta(seconds=offset())
datetime.datetime = Moved
time.time = lambda: real_time() + offset()
"""
HOURS = 3 * 3600


async def test_the_manifest_that_was_accepted_is_deployed(start: Start) -> None:
    """A manifest that is changed while its deployment waits does not change that deployment."""
    async with start(STACKCAST_MAX_CONCURRENT="1") as running:
        service = running.service
        first = await service.deploy(manifest(spec="{sleep: 1, say: first}"))
        second = await service.deploy(manifest(spec="{say: second}"))
        await service.apply(manifest(spec="{say: third}"))
        outputs = [(await service.outcome(id_))["stackOutputs"] for id_ in (first, second)]

    said = [next(output["value"] for output in of_one if output["name"] == "say") for of_one in outputs]
    assert said == ["first", "second"]


async def test_stacks_whose_names_differ_only_by_case_are_two_and_never_run_at_once(start: Start) -> None:
    """Each keeps its own state and outputs, and they run one after the other: not every backend tells them apart."""
    names = {"upper": "organization/tests/Dev", "lower": "organization/tests/dev"}
    async with start(STACKCAST_MAX_CONCURRENT="4") as running:
        service = running.service
        texts = [manifest(name=name, stack=stack, spec="{sleep: 0.5}") for name, stack in names.items()]
        ids = [await service.deploy(text) for text in texts * 2]
        ended = await asyncio.gather(*(service.outcome(id_) for id_ in ids))
        states = sorted(file.name for file in (service.data / "state/.pulumi/stacks/tests").glob("*.json"))

    assert [change["status"] for change in ended] == ["SUCCESS"] * 4
    assert [change["stackOutputs"][-1]["value"] for change in ended] == ["upper", "lower"] * 2
    assert states == ["Dev.json", "dev.json"]
    spans = sorted((change["startedAt"], change["finishedAt"]) for change in ended)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    outputs = [change["output"]["stdout"] for change in ended]
    assert ["created" in text for text in outputs] == [True, True, False, False]


async def queue_up(database: Path) -> list[StackUpdate]:
    """Put 500 deployments of 25 stacks into the records, as an earlier life of the service would have left them."""
    updates = []
    async with open_backends(f"sqlite:///{database}") as backends:
        resource = a_cloud_resource(kind="Thing", manifest=manifest())
        await backends.resources.insert(resource)
        for number in range(QUEUED):
            stack = StackFqdn(f"organization/tests/stack-{number % STACKS}")
            now = utc_now()
            update = a_stack_update(
                id=StackUpdateId(new_id(now)), cloud_resource_id=resource.id, stack_fqdn=stack, created_at=now
            )
            await backends.updates.insert(update, resource.manifest)
            updates.append(update)
    return updates


async def test_five_hundred_queued_deployments_survive_a_restart(tmp_path: Path, start: Start) -> None:
    """After a start, and after a crash in the middle, each runs once, in order on its stack; the API answers at once.

    Only those in hand at the crash may have failed, with the reason.
    """
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "pulumi").write_text(QUICK_PULUMI)
    (tmp_path / "bin" / "pulumi").chmod(0o755)
    (tmp_path / "data").mkdir(mode=0o700)
    updates = await queue_up(tmp_path / "data" / "stackcast.db")
    variables = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "STACKCAST_MAX_CONCURRENT": "6"}
    order = tmp_path / "data" / "pulumi" / "order"
    async with start(**variables) as first:
        await eventually(lambda: order.exists() and order.read_text().count("end") > QUEUED / 10, limit=60)
        await first.kill()
    async with start(**variables) as second:
        listening = time.monotonic()
        waiting = await in_progress(second.service)
        answered = time.monotonic() - listening
        cost = processor_time(second.process.pid)
        async with asyncio.timeout(90):
            while await in_progress(second.service):  # noqa: ASYNC110 - it is a question to another process
                await asyncio.sleep(0.2)
        failed = {node["id"] for node in (await second.service.execute(FAILED))["stackUpdates"]["nodes"]}

    assert waiting > QUEUED / 2
    assert answered < 2
    assert cost < 2  # of all that it did since its start, however busy the machine is
    starts = [line.split()[1:] for line in order.read_text().splitlines() if line.startswith("begin")]
    started = {id_ for _, id_ in starts}
    assert len(starts) == len(started)
    assert len(failed) <= 6  # those in hand as the service was killed, each either begun by then or not
    assert {update.id for update in updates} - started <= failed
    for number in range(STACKS):
        stack = f"organization/tests/stack-{number}"
        accepted = [it.id for it in updates if it.stack_fqdn == stack and it.id in started]
        assert [id_ for on, id_ in starts if on == stack] == accepted


def processor_time(pid: int) -> float:
    """The seconds that a process has computed."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


IN_PROGRESS = "{ stackUpdates(filter: {statuses: [IN_PROGRESS]}) { totalCount } }"
FAILED = "{ stackUpdates(filter: {statuses: [FAILED]}) { nodes { id } } }"


async def in_progress(service: Service) -> int:
    count: int = (await service.execute(IN_PROGRESS))["stackUpdates"]["totalCount"]
    return count


PAGE = """query ($after: String) { stackUpdates(first: 1, after: $after) {
  nodes { id } pageInfo { hasNextPage endCursor } } }"""


async def pages(service: Service) -> list[str]:
    """The ids of all stack updates, asked for one by one."""
    found: list[str] = []
    after = None
    while True:
        page = (await service.execute(PAGE, after=after))["stackUpdates"]
        found.extend(node["id"] for node in page["nodes"])
        if not page["pageInfo"]["hasNextPage"]:
            return found
        after = page["pageInfo"]["endCursor"]


async def test_the_queue_keeps_its_order_when_the_clock_is_set_back(tmp_path: Path, start: Start) -> None:
    """What was accepted later runs later on its stack, whatever the clock said."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(MOVED_CLOCK)
    offset = tmp_path / "offset"
    offset.write_text("0")
    async with start(PYTHONPATH=str(tmp_path / "site"), CLOCK_OFFSET=str(offset)) as running:
        service = running.service
        ids = [await service.deploy(manifest(spec="{sleep: 1}"))]
        ids.append(await service.deploy(manifest(spec="{say: older}")))
        set_clock(offset, -HOURS)
        ids.append(await service.deploy(manifest(spec="{say: newer}")))
        ended = [await service.outcome(id_) for id_ in ids]
        listed = await pages(service)

    stdout = [change["output"]["stdout"] for change in ended]
    assert ['+ say: "older"' in stdout[1], '"older" => "newer"' in stdout[2]] == [True, True], stdout
    assert listed == ids[::-1]


def set_clock(file: Path, seconds: int) -> None:
    """Move the service's wall clock away from the true one; the file is never half written."""
    draft = file.with_suffix(".new")
    draft.write_text(str(seconds))
    draft.replace(file)


@pytest.mark.parametrize("jump", [HOURS, -HOURS])
async def test_a_clock_that_jumps_ends_nothing_early(tmp_path: Path, start: Start, jump: int) -> None:
    """Set forward or back by hours while Pulumi runs: it goes on, times never fall, pages hold each record once."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(MOVED_CLOCK)
    offset = tmp_path / "offset"
    offset.write_text("0")
    async with start(PYTHONPATH=str(tmp_path / "site"), CLOCK_OFFSET=str(offset)) as running:
        service = running.service
        ran = service.root / "tmp" / "ran-one"
        ids = [await service.deploy(manifest(spec="{sleep: 2}"), timeout=60)]
        await eventually(ran.exists)
        set_clock(offset, jump)
        ids.append(await service.deploy(manifest(spec="{say: after}"), timeout=60))
        ended = [await service.outcome(id_) for id_ in ids]
        listed = await pages(service)

    assert [change["status"] for change in ended] == ["SUCCESS"] * 2, ended
    assert all(change["startedAt"] <= change["finishedAt"] for change in ended)
    assert sorted(listed) == sorted(ids)
    jumped = ended[1]["startedAt"] > ended[0]["startedAt"]
    assert jumped == (jump > 0)  # so the clock did jump
