"""What always holds, asked of what became of a deployment and of what is left on the machine."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.kills import programs
from tests.kills.plans import Plan
from tests.kills.scene import Scene, Victim
from tests.kills.watcher import Watcher
from tests.service import Service

RECORD = """
query ($id: ID!) {
  stackUpdate(id: $id) {
    id revision status phase exitCode output createdAt startedAt finishedAt deadline timeoutSeconds
    failure { kind message retryable }
    cancellation { requestedAt reason stage nextStageAt lockLeft }
    progress { total inProgress done failed interrupted }
    resources(first: 100) { nodes { name type operation state startedAt endedAt } }
    stackOutputs { name value secret }
  }
}"""
#: What the service logs of its own as an error: nothing that happens here is one.
_TROUBLE = re.compile(r" (ERROR|CRITICAL) stackcast")
#: A line of the program's, also as Pulumi shows it when it comes; at its end it repeats them without the resource.
_LINE = re.compile(r"(?: +pulumi:pulumi:Stack \S+ +)?line (\d+)")


@dataclass(frozen=True)
class Kill:
    """A kill that was a hit: when, and of a run's processes also in which command."""

    victim: Victim
    at: float  # seconds since 1970
    command: str | None = None


@dataclass
class Deployment:
    """A deployment, and all that was done to it."""

    id: str
    name: str
    stack: str
    plan: Plan
    watchers: list[Watcher] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)
    is_asked_to_end: bool = False  # or may be: no answer came

    def killed(self, *victims: Victim) -> bool:
        return any(kill.victim in victims for kill in self.kills)


@dataclass(frozen=True)
class Program:
    """What the program of a deployment told of itself; ``done_at`` in seconds since 1970, None if it never was."""

    begun: int
    done_at: float | None

    @classmethod
    def of(cls, scene: Scene, deployment: Deployment) -> Program:
        file = programs.note_of(scene.tmp, deployment.name)
        words = file.read_text().split() if file.exists() else []
        return cls(words.count("begun"), file.stat().st_mtime if "done" in words else None)


@dataclass(frozen=True)
class Ended:
    """All that can be read of a deployment that has ended."""

    deployment: Deployment
    program: Program
    record: dict[str, Any]
    events: list[dict[str, Any]]
    download: list[dict[str, Any]]

    def phase_at(self, moment: float) -> str:
        """Its phase at a moment in seconds since 1970; RECORDING from the end of its program on."""
        changes = [event for event in self.events if event["__typename"] == "StatusChanged"]
        phase = "QUEUED"
        for change in changes:
            if datetime.fromisoformat(change["at"]).timestamp() <= moment:
                phase = change["phase"]
        done = self.program.done_at
        return "RECORDING" if phase != "FINISHED" and done is not None and done <= moment else phase


async def read(scene: Scene, deployment: Deployment) -> Ended:
    """Read it anew, in every way."""
    fresh = Watcher(lambda: scene.service, deployment.id)
    await fresh.follow()
    answer = await scene.service.request("GET", f"/stack-updates/{deployment.id}/log.ndjson")
    download = [json.loads(line) for line in answer.body.splitlines()]
    record = await record_of(scene.service, deployment.id)
    return Ended(deployment, Program.of(scene, deployment), record, fresh.events, download)


async def record_of(service: Service, update_id: str) -> dict[str, Any]:
    record: dict[str, Any] = (await service.execute(RECORD, id=update_id))["stackUpdate"]
    return record


def broken(ended: Ended) -> list[str]:
    """A sentence for each rule that a deployment broke."""
    deployment = ended.deployment
    title = f"{deployment.plan.title} deployment {deployment.id}"
    found = (*_events(ended), *_words(ended), *_outcome(ended), *_program(ended))
    return [f"{title}: {sentence}" for sentence in found]


def _events(ended: Ended) -> Iterator[str]:
    """Every seq once, from 1; every reader has the same; the end is the last event, and the record's."""
    events = ended.events
    if [event["seq"] for event in events] != list(range(1, len(events) + 1)):
        yield "its log has a gap or a double"
    for number, watcher in enumerate(ended.deployment.watchers):
        yield from watcher.problems
        if not watcher.finished:
            yield f"watcher {number} never saw its end, only {len(watcher.events)} events"
        elif watcher.events != events:
            yield f"watcher {number} saw {len(watcher.events)} events that are not the {len(events)} of its log"
    if [_as_shown(line, event) for line, event in zip(ended.download, events, strict=False)] != events:
        yield "its download has other events than its log"
    if len(ended.download) != len(events):
        yield f"its download has {len(ended.download)} events, its log {len(events)}"
    statuses = [event for event in events if event["__typename"] == "StatusChanged"]
    if [event["seq"] for event in statuses if event["phase"] == "FINISHED"] != [len(events)]:
        yield "its end is not its last event, or was told more than once"
    if not statuses or statuses[-1]["status"] != ended.record["status"] or ended.record["phase"] != "FINISHED":
        yield f"its log ends with {statuses[-1:]}, its record is {ended.record['status']}"


def _as_shown(whole: Any, shown: Any) -> Any:
    """What a whole object has of the fields that are shown."""
    if not isinstance(shown, dict):
        return whole
    return {name: whole["type"] if name == "__typename" else _as_shown(whole[name], shown[name]) for name in shown}


def _words(ended: Ended) -> Iterator[str]:
    """What the program printed stands there once and in order; all of it where it came to its end."""
    texts = [event["text"] for event in ended.events if event["__typename"] == "LogLine"]
    numbers = [int(found[1]) for text in texts if (found := _LINE.fullmatch(text))]
    if numbers != list(range(len(numbers))):
        wrong = next(place for place, number in enumerate(numbers) if place != number)
        yield f"of its lines number {numbers[wrong]} stands where {wrong} should"
    is_whole = ended.program.done_at is not None and not ended.deployment.killed(Victim.PULUMI)
    if is_whole and len(numbers) != ended.deployment.plan.lines:
        yield f"it printed {ended.deployment.plan.lines} lines, and its log has {len(numbers)}"
    keys = [
        (what["name"], what["operation"], what["state"])
        for what in (event["resource"] for event in ended.events if event["__typename"] == "ResourceChanged")
    ]
    if len(keys) != len(set(keys)):
        yield "a step of a resource was told twice"


def _outcome(ended: Ended) -> Iterator[str]:
    """It ended as what was done to it lets it end."""
    record = ended.record
    outcome = record["status"], (record["failure"] or {}).get("kind")
    fitting = _fitting(ended.deployment, ended.program)
    if outcome not in fitting:
        message = (record["failure"] or {}).get("message")
        yield f"it ended {outcome} ({message}), and not as one of {sorted(fitting, key=str)}"
    if (record["exitCode"] == 0) is not (record["status"] == "SUCCESS"):
        yield f"it ended {record['status']} with exit code {record['exitCode']}"


def _fitting(deployment: Deployment, program: Program) -> set[tuple[str, str | None]]:
    is_killed = deployment.killed(Victim.PULUMI, Victim.SUPERVISOR)
    is_disturbed = is_killed or deployment.is_asked_to_end or deployment.plan.timeout is not None
    fitting: set[tuple[str, str | None]] = set()
    if program.done_at is not None or not is_disturbed:
        fitting.add(("FAILED", "PROGRAM_ERROR") if deployment.plan.fails else ("SUCCESS", None))
    if deployment.plan.timeout is not None:
        fitting.add(("FAILED", "TIMEOUT"))
    if deployment.is_asked_to_end:
        fitting.add(("CANCELLED", None))
    if deployment.killed(Victim.PULUMI):
        fitting.add(("FAILED", "INTERRUPTED"))
    if deployment.killed(Victim.FORK_SERVER):  # it may have been asked for a supervisor just then
        fitting.add(("FAILED", "INTERNAL"))
    if deployment.killed(Victim.SUPERVISOR):
        fitting |= {("FAILED", "INTERNAL"), ("FAILED", "WORKER_LOST")}
    if deployment.killed(Victim.SERVICE) and is_killed:
        fitting.add(("FAILED", "WORKER_LOST"))
    return fitting


def _program(ended: Ended) -> Iterator[str]:
    """The program ran once at most, and exactly once where it came to its end."""
    begun = ended.program.begun
    if begun > 1 or (begun == 0 and ended.record["status"] == "SUCCESS"):
        yield f"its program ran {begun} times"


def left_over(scene: Scene) -> list[str]:
    """What is there that should not be once nothing is deployed: processes, run directories, locks; and complaints."""
    found = [f"the run {run.name} is left" for run in scene.runs.iterdir()]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                found.extend(_traces(scene, entry))
    complaints = programs.complaints(scene.tmp)
    found.extend(complaints.read_text().splitlines() if complaints.exists() else ())
    found.extend(line for line in scene.log.read_text().splitlines() if _TROUBLE.search(line))
    return found


def _traces(scene: Scene, entry: Path) -> Iterator[str]:
    words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    if not words:
        return  # it has ended and waits to be reaped
    if int(entry.name) not in scene.pids and (entry / "cwd").readlink().is_relative_to(scene.root):
        yield f"process {entry.name} is left: {words}"
    for descriptor in (entry / "fd").iterdir():
        with suppress(OSError):
            if descriptor.readlink().is_relative_to(scene.root / "data" / "locks"):
                yield f"process {entry.name} has a lock: {words}"
