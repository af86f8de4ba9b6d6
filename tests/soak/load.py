"""What a busy service is asked: deployments of all kinds one after the other, and clients that come and go."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from contextlib import aclosing

from tests.service import Service, manifest

LANES = 4
#: What the deployments do, by the kind of their cloud resource.
PLANS: dict[str, dict[str, object]] = {
    "Plain": {"outputs": {"message": "done"}},
    "Chatty": {"lines": 500, "width": 100},
    "Failing": {"error": "it is wrong", "stderr": "wrong"},
    "Slow": {"sleep": 60, "lines": 5},
}
#: Of ten deployments in a lane so many are of each kind; the slow ones are cancelled.
TURNS = ("Plain", "Failing", "Chatty", "Plain", "Slow", "Plain", "Failing", "Plain", "Plain", "Chatty")
ENDS = {"Plain": "SUCCESS", "Chatty": "SUCCESS", "Failing": "FAILED", "Slow": "CANCELLED"}

DEPLOY = """
mutation ($id: ID!, $key: String) {
  deployCloudResource(input: {cloudResourceId: $id, idempotencyKey: $key}) {
    ... on DeployCloudResourceSuccess { stackUpdate { id } }
    ... on UserError { message }
  }
}"""
CANCEL = """
mutation ($id: ID!) {
  cancelStackUpdate(input: {id: $id, force: true}) {
    ... on CancelStackUpdateSuccess { stackUpdate { id } }
    ... on UserError { message }
  }
}"""
EVENTS = """
subscription ($id: ID!) {
  stackUpdateEvents(id: $id) {
    ... on StackUpdateEventBatch { seq events { __typename seq } }
    ... on UserError { message }
  }
}"""
LISTS = {
    "stackUpdatesChanged": "subscription { stackUpdatesChanged { __typename } }",
    "cloudResourcesChanged": "subscription { cloudResourcesChanged { __typename } }",
}
LOOK = """
{ stackUpdates(first: 5) { totalCount nodes { id status output resources { nodes { name } } cloudResource { name } } }
  cloudResources(first: 5) { nodes { name latestStackUpdate { id status } } } }"""


class Load:
    """Deploys in lanes, each on stacks of its own, while others watch."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._resources: dict[tuple[int, str], str] = {}
        self._lanes = [itertools.count() for _ in range(LANES)]
        self.ended: Counter[str] = Counter()

    async def prepare(self) -> None:
        """Make the modules and keep the manifests."""
        for kind, plan in PLANS.items():
            self._service.module(kind, **plan)
            for lane in range(LANES):
                text = manifest(kind=kind, name=f"{kind.lower()}{lane}")
                self._resources[lane, kind] = await self._service.apply(text)

    async def deploy(self, count: int) -> None:
        """Deploy so many times, and return once all have ended and everybody has left."""
        shares = [len(range(lane, count, LANES)) for lane in range(LANES)]
        async with asyncio.TaskGroup() as tasks:
            for lane, share in enumerate(shares):
                tasks.create_task(self._lane(lane, share))

    async def _lane(self, lane: int, count: int) -> None:
        for _ in range(count):
            number = next(self._lanes[lane])
            kind = TURNS[number % len(TURNS)]
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._deployment(lane, number, kind))
                if number % 3 == 0:
                    tasks.create_task(self._follow_lists(number))
            if number % 5 == 0:
                await self._service.execute(LOOK)

    async def _deployment(self, lane: int, number: int, kind: str) -> None:
        key = f"{lane}-{number}" if number % 4 == 0 else None
        answer = await self._service.execute(DEPLOY, id=self._resources[lane, kind], key=key)
        id_ = answer["deployCloudResource"]["stackUpdate"]["id"]
        async with asyncio.TaskGroup() as tasks:
            outcome = tasks.create_task(self._service.outcome(id_))
            tasks.create_task(self._read_events(id_, to_the_end=number % 2 == 0))
            if kind == "Slow":
                tasks.create_task(self._cancel(id_, at_once=number % 20 < 10))
        self.ended[outcome.result()["status"]] += 1
        assert outcome.result()["status"] == ENDS[kind], outcome.result()
        if number % 6 == 0:
            await self._service.request("GET", f"/stack-updates/{id_}/log.txt")

    async def _read_events(self, id_: str, *, to_the_end: bool) -> None:
        """Read all events, or hang up after the first batch."""
        async with aclosing(self._service.subscribe(EVENTS, "stackUpdateEvents", id=id_)) as batches:
            async for _ in batches:
                if not to_the_end:
                    return

    async def _cancel(self, id_: str, *, at_once: bool) -> None:
        """Cancel it, perhaps only once it prints."""
        if not at_once:
            async with aclosing(self._service.subscribe(EVENTS, "stackUpdateEvents", id=id_)) as batches:
                async for batch in batches:
                    if "LogLine" in json.dumps(batch):
                        break
        await self._service.execute(CANCEL, id=id_)

    async def _follow_lists(self, number: int) -> None:
        """Follow a list up to its first news, and hang up."""
        field = tuple(LISTS)[number % 2]
        async with aclosing(self._service.subscribe(LISTS[field], field)) as changes:
            await anext(changes)
            if field == "stackUpdatesChanged":
                await anext(changes)
