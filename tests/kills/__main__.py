"""Plays rounds and tells what broke, with the directory in which everything is left then."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from runners import toolchain
from tests.kills.rounds import Report, Rounds
from tests.kills.scene import Parts, a_scene
from tests.servers import mongodb


class Tally:
    """Counts what the rounds did, and tells it."""

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self._began = time.monotonic()
        self.begun = 0
        self.played = 0
        self.failed = 0
        self._deployments = 0
        self._hits: Counter[tuple[str, str]] = Counter()

    def goes_on(self) -> bool:
        """Whether another round is to be played, which has begun then."""
        self.begun += 1
        return self.begun <= self._rounds

    def take(self, report: Report, place: Path) -> None:
        self.played += 1
        self.failed += bool(report.problems)
        self._deployments += report.deployments
        self._hits.update((victim.value, phase) for victim, phase in report.hits)
        victims = " then ".join(report.blow.victims)
        hits = ", ".join(f"{victim} in {phase}" for victim, phase in report.hits) or "nothing"
        say(f"{self.played}/{self._rounds} {report.blow.moment}: {victims}; hit {hits}")
        for problem in report.problems:
            say(f"  BROKEN in round {report.number} of {place}: {problem}")

    def summary(self) -> str:
        """The kills by victim and phase."""
        seconds = time.monotonic() - self._began
        victims, phases = ({key[index] for key in self._hits} for index in (0, 1))
        lines = [
            f"{self.played} rounds with {self._deployments} deployments in {seconds:.0f} s, {self._hits.total()} kills",
            f"{self.failed} rounds broke a rule",
            *(
                f"  {phase:<12}"
                + "".join(f"{victim} {self._hits[victim, phase]:<6}" for victim in sorted(victims))
                + f"in all {sum(self._hits[victim, phase] for victim in victims)}"
                for phase in sorted(phases)
            ),
        ]
        return "\n".join(lines)


async def main(arguments: argparse.Namespace) -> bool:
    """Play; whether no rule was broken."""
    parts = await _parts(arguments)
    tally = Tally(arguments.rounds)
    place = Path(tempfile.mkdtemp(prefix="stackcast-kills-"))
    try:
        async with asyncio.timeout(arguments.limit), asyncio.TaskGroup() as lanes:
            for lane in range(arguments.lanes):
                seed = f"{arguments.seed}-{lane}" if lane else arguments.seed
                lanes.create_task(_play(place, parts, seed, tally, arguments))
    except TimeoutError:
        say(f"the limit of {arguments.limit} s has passed")
    say(tally.summary())
    if not tally.failed:
        shutil.rmtree(place)
    return not tally.failed


async def _play(place: Path, parts: Parts, seed: str, tally: Tally, arguments: argparse.Namespace) -> None:
    """Play in one scene after the other: where a rule is broken the scene is left as it is."""
    for number in itertools.count(1):
        name = f"{seed}.{number}" if number > 1 else seed
        root = place / name
        async with a_scene(root, parts) as scene:
            rounds = Rounds(scene, name)
            is_right = True
            while is_right:
                if not tally.goes_on():
                    return
                report = await rounds.play()
                tally.take(report, root)
                is_right = not report.problems
        if arguments.stop:
            return


async def _parts(arguments: argparse.Namespace) -> Parts:
    cache = toolchain.cache_directory(os.environ)
    pulumi = None
    if arguments.real:
        pulumi = await toolchain.find(os.environ.get("PATH"), cache) or await toolchain.build(cache, say, os.environ)
    ferretdb = await mongodb.build(cache, say, os.environ) if arguments.mongodb else None
    return Parts(pulumi.path if pulumi else None, ferretdb)


def say(sentence: str) -> None:
    print(sentence, flush=True)  # noqa: T201 - it is a command


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored for what runs behind
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", default=str(int(time.time())), help="the same seed makes the same decisions")
    parser.add_argument("--real", action="store_true", help="with the real Pulumi")
    parser.add_argument("--mongodb", action="store_true", help="with FerretDB, which is killed as well")
    parser.add_argument("--lanes", type=int, default=2, help="how many scenes go on beside each other")
    parser.add_argument("--limit", type=float, default=None, help="seconds after which it ends")
    parser.add_argument("--stop", action="store_true", help="end a lane at the first broken rule")
    sys.exit(not asyncio.run(main(parser.parse_args())))
