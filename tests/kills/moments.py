"""When which of the processes is killed: every phase has its turn, and any time has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from tests.kills.rules import Deployment, Program
from tests.kills.scene import Scene, Victim

#: How long a moment is waited for, in seconds; a deployment that has missed it is killed then.
LIMIT = 15.0
_POLL = 0.001


class Moment(StrEnum):
    """Where a deployment is to be when the kill comes."""

    QUEUED = "QUEUED"
    PREPARING = "PREPARING"
    STARTING = "RUNNING, as its first commands start"
    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"
    RECORDING = "RECORDING"
    ANY_TIME = "any time"


@dataclass(frozen=True)
class Blow:
    """The moment, and who is killed then, one shortly after the other."""

    moment: Moment
    victims: tuple[Victim, ...]


_RUN = 4 * ((Victim.PULUMI,), (Victim.SUPERVISOR,))
_SERVICE = ((Victim.SERVICE,), (Victim.SERVICE, Victim.SERVICE))
_FORK_SERVER = ((Victim.FORK_SERVER,), (Victim.FORK_SERVER, Victim.SERVICE), (Victim.FORK_SERVER, Victim.SUPERVISOR))
#: Where the service is away, or the supervisor, nobody sees how a run ends.
_UNSEEN = (
    (Victim.SUPERVISOR, Victim.PULUMI),
    (Victim.SUPERVISOR, Victim.SERVICE),
    (Victim.PULUMI, Victim.SERVICE),
    (Victim.SERVICE, Victim.PULUMI),
    (Victim.SERVICE, Victim.SUPERVISOR),
    (Victim.SERVICE, Victim.SUPERVISOR, Victim.PULUMI),
    (Victim.SERVICE, Victim.PULUMI, Victim.SERVICE),
)
_VICTIMS = {
    Moment.QUEUED: _SERVICE,
    Moment.PREPARING: (*_SERVICE, *_FORK_SERVER),  # nothing else is there then
    Moment.STARTING: (*_SERVICE, *_RUN, *_UNSEEN, *_FORK_SERVER),
    Moment.RUNNING: (*_SERVICE, *_RUN, *_UNSEEN),
    Moment.CANCELLING: (*_SERVICE, *_RUN, *_UNSEEN),
    Moment.RECORDING: (*_SERVICE, (Victim.SUPERVISOR,), (Victim.SERVICE, Victim.SUPERVISOR)),
    Moment.ANY_TIME: (*_SERVICE, *_RUN, *_UNSEEN, *_FORK_SERVER),
}


def blows(random: Random, *, store: bool) -> Iterator[Blow]:
    """Blows without end: all moments in turn, those that are easily missed more often."""
    while True:
        moments = [*Moment, Moment.RECORDING, Moment.PREPARING]
        random.shuffle(moments)
        for moment in moments:
            victims = random.choice(_VICTIMS[moment])
            yield Blow(moment, (Victim.STORE,) if store and random.random() < 0.4 else victims)


async def reached(scene: Scene, deployment: Deployment, moment: Moment, random: Random) -> None:
    """Wait until the deployment is there, and then for a part of the time that it usually is."""
    run = scene.runs / deployment.id

    def program() -> Program:
        return Program.of(scene, deployment)

    match moment:
        case Moment.QUEUED:
            await asyncio.sleep(random.uniform(0, 0.3))
        case Moment.PREPARING:
            await _until(run.exists)
            await asyncio.sleep(random.choice((0, random.uniform(0, 0.02))))
        case Moment.STARTING:
            await _until(lambda: any(run.glob("[0-9][0-9]-*")))
            await asyncio.sleep(random.choice((0, random.uniform(0, 0.1), random.uniform(0, 0.5))))
        case Moment.RUNNING:
            await _until(lambda: any(run.glob("[0-9][0-9]-up")))
            await asyncio.sleep(random.uniform(0, 0.3 + deployment.plan.duration))
        case Moment.CANCELLING:
            await asyncio.sleep(random.choice((0, random.uniform(0, 0.1), random.uniform(0, 1))))
        case Moment.RECORDING:
            await _until(lambda: program().done_at is not None)
            await asyncio.sleep(random.choice((0, random.uniform(0, 0.02), random.uniform(0, 0.2))))
        case Moment.ANY_TIME:
            await asyncio.sleep(random.uniform(0, 1.5))


async def _until(state: Callable[[], bool]) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(LIMIT):
            while not state():  # noqa: ASYNC110 - other processes set no event of ours
                await asyncio.sleep(_POLL)
