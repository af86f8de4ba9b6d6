"""What is deployed: the manifest's spec tells the program how long it takes, what it prints and how it ends."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from random import Random

LONG = 40.0  # seconds; such a deployment is cancelled or released before


#: What of a plan the program is told by its spec.
_ASKED = ("sleep", "lines", "every", "resources", "ignore")


@dataclass(frozen=True)
class Plan:
    """What a program does: it prints ``lines``, creates ``resources`` meanwhile, sleeps, and ends well or fails.

    One that is ``held`` goes on, once it has printed its lines, until it is released.
    """

    title: str
    sleep: float = 0.0  # seconds
    lines: int = 0
    every: float = 0.0  # seconds between the lines
    resources: int = 0
    ignore: int = 0  # how many SIGTERMs it does not heed
    fails: bool = False
    held: bool = False
    timeout: int | None = None  # seconds

    @property
    def duration(self) -> float:
        """About how many seconds it runs at least."""
        return (0 if self.sleep == LONG else self.sleep) + self.lines * self.every

    @property
    def spec(self) -> str:
        """The manifest's spec."""
        asked = {name: value for name, value in asdict(self).items() if name in _ASKED and value}
        return json.dumps(asked | ({"error": "the program fails as planned", "exit": 3} if self.fails else {}))


QUICK = Plan("quick")


def slow(random: Random) -> Plan:
    return Plan("slow", sleep=random.uniform(0.2, 1.5), lines=5, resources=3)


def chatty(random: Random) -> Plan:
    return Plan("chatty", lines=random.randint(1000, 5000), resources=20)


def dripping(random: Random) -> Plan:
    return Plan("dripping", lines=random.randint(20, 120), every=0.015, resources=30)


def held(random: Random) -> Plan:
    """One that outlives the service, and another start of it, however slow that is."""
    lines, every = random.choice(((5, 0), (3000, 0), (100, 0.01)))
    return Plan("held", LONG, lines, every, resources=10, fails=random.random() < 0.2, held=True)


def failing(random: Random) -> Plan:
    return Plan("failing", sleep=random.uniform(0, 0.4), lines=10, resources=5, fails=True)


def long(random: Random) -> Plan:
    """One that does not end in time by itself; most let the first SIGTERM pass, or the second as well."""
    return Plan("long", sleep=LONG, lines=random.randint(0, 50), resources=5, ignore=random.choice((0, 1, 1, 2)))


def overdue(random: Random) -> Plan:
    """One that its deadline ends."""
    return Plan("overdue", LONG, lines=10, resources=5, ignore=random.choice((0, 0, 1)), timeout=random.randint(1, 3))


def any_plan(random: Random) -> Plan:
    return random.choice((lambda _: QUICK, slow, chatty, dripping, failing, held, overdue))(random)
