"""One round: some deployments, a blow to one of them, and what became of all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from random import Random
from typing import Any

from tests.acceptance.files import CANCEL
from tests.kills import moments, plans, programs, rules
from tests.kills.moments import Blow, Moment
from tests.kills.plans import LONG, QUICK, Plan
from tests.kills.rules import Deployment, Ended, Kill, Program
from tests.kills.scene import Scene, Victim
from tests.kills.watcher import PAUSE, Watcher
from tests.runner.waiting import eventually
from tests.service import manifest

#: How long all deployments of a round may take to end, in seconds, on a slow machine: less than a long one by itself.
END_LIMIT = LONG - 5
#: How long reading one that has ended may take, and how long it may take to leave nothing.
READ_LIMIT = 10.0
STACKS = 3
#: How many of those that ended in earlier rounds are looked at again after each.
LOOKED_AT_AGAIN = 5

_ENDING = (plans.held, plans.slow, plans.dripping, plans.chatty, plans.failing)
#: What is deployed to be there at a moment; at another it may be anything.
_PLANS = {
    Moment.RUNNING: (*_ENDING, plans.held, plans.overdue),
    Moment.CANCELLING: (plans.long,),
    Moment.RECORDING: _ENDING,
}


@dataclass
class Report:
    """What a round did: each hit with the phase that the deployment was in, and a sentence for each broken rule."""

    number: int
    blow: Blow
    deployments: int = 0
    hits: list[tuple[Victim, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class Rounds:
    """Plays rounds in one scene, one after the other; the same ``seed`` makes the same decisions."""

    def __init__(self, scene: Scene, seed: str) -> None:
        self._scene = scene
        self._random = Random(seed)  # noqa: S311 - nothing is kept secret with it
        self._blows = moments.blows(self._random, store=scene.store is not None)
        self._number = 0
        self._count = 0
        self._ended: dict[str, dict[str, Any]] = {}

    async def play(self) -> Report:
        """Play the next round."""
        self._number += 1
        report = Report(self._number, next(self._blows))
        async with self._watching() as follow:
            deployments, target = await self._deploy_some(report.blow.moment)
            follow(deployments)
            await self._strike(report.blow, deployments, target)
            await self._release(deployments)
            for stack in sorted({deployment.stack for deployment in deployments}):
                deployments.append(await self._deploy(QUICK, stack))
            follow(deployments)
            if not await _have_ended(deployments):
                report.problems.append("not all deployments end")
        report.deployments = len(deployments)
        await self._judge(report, deployments, target)
        return report

    async def unchanged(self, ids: list[str] | None = None) -> list[str]:
        """A sentence for each of those that had ended and are not as they were; None looks at all."""
        found = []
        for id_ in self._ended if ids is None else ids:
            now = await rules.record_of(self._scene.service, id_)
            if now != self._ended[id_]:
                found.append(f"{id_} had ended as {self._ended[id_]} and is {now}")
        return found

    # --- deployments

    @asynccontextmanager
    async def _watching(self) -> AsyncIterator[Callable[[list[Deployment]], None]]:
        tasks: list[asyncio.Task[None]] = []

        def follow(deployments: list[Deployment]) -> None:
            for deployment in deployments:
                if not deployment.watchers:
                    deployment.watchers.extend(self._watchers(deployment))
                    tasks.extend(asyncio.create_task(one.follow()) for one in deployment.watchers)

        try:
            yield follow
            await asyncio.sleep(0)
            with suppress(TimeoutError):
                async with asyncio.timeout(READ_LIMIT):
                    await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _watchers(self, deployment: Deployment) -> Iterator[Watcher]:
        """One that stays, and some that come and go."""
        for number in range(self._random.randint(1, 3)):
            random = Random(self._random.random()) if number else None  # noqa: S311 - as above
            yield Watcher(lambda: self._scene.service, deployment.id, random)

    async def _deploy_some(self, moment: Moment) -> tuple[list[Deployment], Deployment]:
        """Deploy the target of a blow, and with luck others before it, beside it and behind it."""
        stack = f"organization/tests/new-{self._count}" if moment is Moment.STARTING else self._a_stack()
        deployments = []
        if moment is Moment.QUEUED:
            deployments.append(await self._deploy(plans.slow(self._random), stack))
        target = await self._deploy(self._plan_for(moment), stack)
        deployments.append(target)
        if self._random.random() < 0.4:
            deployments.append(await self._deploy(plans.any_plan(self._random), stack))
        if self._random.random() < 0.5:
            other = self._a_stack()
            if other != stack:
                deployments.append(await self._deploy(plans.any_plan(self._random), other))
        return deployments, target

    def _a_stack(self) -> str:
        """One that was deployed before, or a new one."""
        number = self._random.randint(0, STACKS)
        return f"organization/tests/stack-{number or f'new-{self._count}'}"

    def _plan_for(self, moment: Moment) -> Plan:
        return self._random.choice(_PLANS.get(moment, (plans.any_plan,)))(self._random)

    async def _deploy(self, plan: Plan, stack: str) -> Deployment:
        self._count += 1
        name = f"thing-{self._count}"
        text = manifest(name=name, stack=stack, spec=plan.spec)
        return Deployment(await self._scene.service.deploy(text, plan.timeout), name, stack, plan)

    async def _cancel(self, deployment: Deployment, *, force: bool = False) -> bool:
        """Cancel it; False where no answer came, so that nobody knows."""
        deployment.is_asked_to_end = True
        body = {"query": CANCEL, "variables": {"id": deployment.id, "force": force}}
        try:
            answer = await self._scene.service.post(body)
        except (OSError, HTTPException):
            return False
        return answer.status == 200 and "errors" not in answer.json

    async def _cancel_surely(self, deployment: Deployment) -> None:
        while not await self._cancel(deployment):  # noqa: ASYNC110 - it is a question to another process
            await asyncio.sleep(PAUSE)

    # --- the blow

    async def _strike(self, blow: Blow, deployments: list[Deployment], target: Deployment) -> None:
        async with asyncio.TaskGroup() as beside:
            if blow.moment is Moment.CANCELLING:
                with suppress(TimeoutError):
                    await eventually(lambda: Program.of(self._scene, target).begun, limit=moments.LIMIT)
                await self._cancel_surely(target)
            elif blow.moment is Moment.RECORDING and target.plan.held:
                programs.release_of(self._scene.tmp, target.name).touch()
            elif self._random.random() < 0.2:
                one = self._random.choice(deployments)
                beside.create_task(self._cancel_sometime(one, self._random.uniform(0, 1)))
            await moments.reached(self._scene, target, blow.moment, self._random)
            if Victim.STORE not in blow.victims and self._random.random() < 0.3:
                beside.create_task(self._deploy_perhaps(deployments))
                await asyncio.sleep(self._random.uniform(0, 0.02))
            await self._kill(blow.victims, deployments, target)

    async def _release(self, deployments: list[Deployment]) -> None:
        """Let those that are held end, or have one of them cancelled, soon after the service is there again."""
        await asyncio.sleep(self._random.choice((0, self._random.uniform(0, 0.5))))
        held = [deployment for deployment in deployments if deployment.plan.held]
        if held and self._random.random() < 0.2:
            await self._cancel_surely(held[0])
        for deployment in held:
            programs.release_of(self._scene.tmp, deployment.name).touch()

    async def _deploy_perhaps(self, deployments: list[Deployment]) -> None:
        """Deploy something while the service may be dying: what was accepted counts, as the others do."""
        with suppress(OSError, HTTPException):
            deployments.append(await self._deploy(QUICK, self._random.choice(deployments).stack))

    async def _cancel_sometime(self, deployment: Deployment, after: float) -> None:
        await asyncio.sleep(after)
        await self._cancel(deployment)

    async def _kill(self, victims: tuple[Victim, ...], deployments: list[Deployment], target: Deployment) -> None:
        is_up = True
        for victim in victims:
            if not is_up and victim is not Victim.SERVICE and self._random.random() < 0.3:
                await self._scene.start()  # so that it is hit while the service takes it over
                is_up = True
            if victim is Victim.STORE:
                await self._kill_store(deployments)
            elif victim is Victim.FORK_SERVER:
                self._kill_fork_server(deployments)
            elif victim is Victim.SERVICE or not self._hit(victim, target):
                if not is_up:
                    await self._begin_to_serve()
                await self._kill_service(deployments)
                is_up = False
            await asyncio.sleep(self._random.choice((0, self._random.uniform(0, 0.3))))
        if not is_up:
            await asyncio.sleep(self._random.choice((0, 0, self._random.uniform(0, 1.2))))
            await self._scene.start()

    def _hit(self, victim: Victim, target: Deployment) -> bool:
        moment = time.time()
        command = self._scene.kill(victim, target.id)
        if command is not None:
            target.kills.append(Kill(victim, moment, command))
        return command is not None

    def _kill_fork_server(self, deployments: list[Deployment]) -> None:
        moment = time.time()
        touched = [deployment for deployment in deployments if not self._scene.has_begun(deployment.id)]
        if self._scene.kill_fork_server():
            for deployment in touched:
                deployment.kills.append(Kill(Victim.FORK_SERVER, moment))

    async def _kill_service(self, deployments: list[Deployment]) -> None:
        moment = time.time()
        await self._scene.kill_service()
        for deployment in deployments:
            deployment.kills.append(Kill(Victim.SERVICE, moment))

    async def _begin_to_serve(self) -> None:
        """Start the service, and let it come so far as it does in a moment: it may not listen yet."""
        await self._scene.launch()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._random.uniform(0, 1.5)):
                await self._scene.listening()
                await asyncio.sleep(self._random.uniform(0, 0.5))

    async def _kill_store(self, deployments: list[Deployment]) -> None:
        store = self._scene.store
        assert store is not None
        moment = time.time()
        await store.kill()
        for deployment in deployments:
            deployment.kills.append(Kill(Victim.STORE, moment))
        await asyncio.sleep(self._random.uniform(0, 1.5))
        await store.start()

    # --- what became of it

    async def _judge(self, report: Report, deployments: list[Deployment], target: Deployment) -> None:
        for deployment in deployments:
            try:
                async with asyncio.timeout(READ_LIMIT):
                    ended = await rules.read(self._scene, deployment)
            except TimeoutError:
                report.problems.append(f"{deployment.plan.title} deployment {deployment.id} can't be read to its end")
                continue
            report.problems.extend(rules.broken(ended))
            if deployment is target:
                report.hits.extend(_hits(ended))
            self._ended[deployment.id] = ended.record
        if not self._scene.alive:
            report.problems.append("the service has ended by itself")
        ids = self._random.sample(list(self._ended), min(LOOKED_AT_AGAIN, len(self._ended)))
        report.problems.extend(await self.unchanged(ids))
        report.problems.extend(await self._left_over())

    async def _left_over(self) -> list[str]:
        with suppress(TimeoutError):
            await eventually(lambda: not rules.left_over(self._scene), limit=READ_LIMIT)
        return rules.left_over(self._scene)


def _hits(ended: Ended) -> list[tuple[Victim, str]]:
    return [(kill.victim, ended.phase_at(kill.at)) for kill in ended.deployment.kills]


async def _have_ended(deployments: list[Deployment]) -> bool:
    """Wait until the watchers that stay have seen the end of all; False where that takes too long."""
    try:
        await eventually(lambda: all(one.watchers[0].finished for one in deployments), limit=END_LIMIT)
    except TimeoutError:
        return False
    return True
