"""A stack update and its events in words: the lines that the command line prints of them.

A line of what Pulumi printed is that line. Every other one begins with the time at which it happened and two blanks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

from graphql_api.cli.terminal import STATUS_STYLES, Line, clean, clean_lines

#: A record or an event as the API gives it.
Record = dict[str, Any]

_STATE_STYLES = {"FAILED": "red", "INTERRUPTED": "yellow"}
_REASONS = {
    "ASKED": "somebody asked for it",
    "SUPERSEDED": "a newer deployment takes its place",
    "TIMEOUT": "it has run for as long as it may",
    "LIMIT_EXCEEDED": "it has printed or used more than it may",
    "SHUTDOWN": "the service shuts down",
}
_STAGES = {
    "REQUESTED": "Pulumi is about to be told to finish the resources in hand",
    "INTERRUPTED": "Pulumi finishes the resources in hand",
    "TERMINATED": "Pulumi stops at once",
    "KILLED": "Pulumi is killed",
}
_NEXT_STAGES = {
    "INTERRUPTED": "told to stop at once",
    "TERMINATED": "killed",
}


def event_lines(events: Iterable[Record]) -> Iterator[Line]:
    """What to print of a log. A resource that stays as it is has no line."""
    for event in events:
        if event["__typename"] == "LogLine":
            cut = " [cut]" if event["truncated"] else ""
            yield Line(f"{clean(event['text'].expandtabs())}{cut}")
        else:
            first, *more = _told(event)
            if first.text:
                at = clean(event["at"])
                yield Line(f"{at}  {first.text}", first.style)
                yield from (Line(f"{at}    {line.text}".rstrip(), line.style) for line in more)


def status_line(at: str, status: str, phase: str, more: str = "") -> Line:
    """A stack update's status and phase, and since when; ``more`` is what else there is to say of it."""
    told = _status(status, phase)
    return Line(f"{clean(at)}  {told.text}{f'  {more}' if more else ''}", told.style)


def outcome_lines(update: Record) -> list[str]:
    """Why it failed or was ended, and the stack's outputs."""
    lines = []
    if failure := update["failure"]:
        first, *more = clean_lines(f"{failure['kind']}: {failure['message']}")
        lines += [first, *(f"  {line}" for line in more)]
    elif update["status"] == "CANCELLED" and update["cancellation"]:
        lines.append(f"It was ended, since {_reason(update['cancellation'])}.")
    if update["cancellation"] and update["cancellation"]["lockLeft"]:
        lines.append("Pulumi's lock on the stack is left; the next deployment of the stack removes it.")
    for output in update["stackOutputs"]:
        value = "[secret]" if output["secret"] else json.dumps(output["value"], ensure_ascii=False)
        lines.append(clean(f"{output['name']} = {value}"))
    return lines


def progress_words(progress: Record) -> str:
    """How many resources stand how; nothing as long as there is none."""
    begun = sum(progress[name] for name in ("inProgress", "done", "failed", "interrupted"))
    if not begun:
        return ""
    of_all = "" if progress["total"] is None else f" of {progress['total']}"
    others = [("inProgress", "in progress"), ("failed", "failed"), ("interrupted", "interrupted")]
    counts = [f"{progress[name]} {word}" for name, word in others if progress[name]]
    return clean(", ".join([f"{progress['done']}{of_all} done", *counts]))


def queue_words(place: Record | None) -> str:
    """What it waits for; nothing when it waits no longer, or is about to start."""
    if place is None or place["reason"] == "STARTING":
        return ""
    before = place["blockedBy"]
    reason = f"after stack update {before['id']} of its stack" if before else "all places at work are taken"
    return clean(f"number {place['position']} in the queue, {reason}")


def cancellation_words(cancellation: Record, now: datetime | None = None) -> str:
    """How far ending a deployment has come, and when it goes on: in how much time from ``now``, or else the time."""
    return f"ending, since {_reason(cancellation)}: {_stage(cancellation, now)}"


def cancelled_words(update: Record, now: datetime, watch: str, force: str) -> str:
    """A sentence on what asking for an end has led to; ``watch`` and ``force`` are the commands to go on with."""
    name = f"The stack update {clean(update['id'])}"
    cancellation = update["cancellation"]
    if update["status"] == "CANCELLED":
        return f"{name} is cancelled{'' if update['startedAt'] else '; Pulumi had not begun with it'}."
    if update["status"] != "IN_PROGRESS":
        return f"{name} has ended with {clean(update['status'])} before it could be cancelled."
    if cancellation is None:
        return f"{name} is to be ended, which the service has not taken up yet; {watch} shows when it does."
    since = "" if cancellation["reason"] == "ASKED" else f", since {_reason(cancellation)}"
    sooner = "" if cancellation["stage"] == "KILLED" else f"{force} takes the next step at once, and "
    return f"{name} is being ended{since}: {_stage(cancellation, now)}; {sooner}{watch} shows how it goes on."


def extended_words(update: Record, asked: timedelta) -> str:
    """A sentence on what asking for more time has led to."""
    name, seconds = f"The stack update {update['id']}", update["timeoutSeconds"]
    if update["status"] != "IN_PROGRESS":
        return clean(f"{name} has ended with {update['status']} before it got more time.")
    until = f", until {update['deadline']}" if update["deadline"] else ""
    less = ""
    if seconds != asked.total_seconds():
        less = f"; not for {asked.total_seconds():.0f} s, which the server does not give or has not taken up yet"
    return clean(f"{name} may run for {seconds} s{until}{less}.")


def resource_words(resource: Record) -> str:
    """What is done to which resource."""
    operation = resource["operation"].lower().replace("_", " ")
    return clean(f"{operation} {resource['name']} ({resource['type']})")


def moment(text: str) -> datetime:
    """A time as the API writes it."""
    return datetime.fromisoformat(text)


def duration(time: timedelta) -> str:
    """A time in whole seconds, for people; one that is negative counts as none."""
    minutes, seconds = divmod(max(int(time.total_seconds()), 0), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"


def _told(event: Record) -> list[Line]:
    """The lines of an event that is none of Pulumi's lines; an empty one when there is nothing to say."""
    match event["__typename"]:
        case "StatusChanged":
            return [_status(event["status"], event["phase"])]
        case "ResourceChanged":
            return [_resource(event["resource"])]
        case "DiagnosticReported":
            style = "red" if event["severity"] == "ERROR" else "yellow"
            lines = clean_lines(f"{event['severity'].lower()}: {event['message']}")
            return [Line(line, style) for line in lines]
        case "CancellationChanged":
            return [Line(cancellation_words(event["cancellation"]), "yellow")]
        case "DeadlineApproaching":
            return [Line(f"it is ended at {clean(event['deadline'])} unless it gets more time", "yellow")]
        case "DeadlineChanged":
            return [Line(f"it may run until {clean(event['deadline'])}", "dim")]
        case "LogOmissionStarted":
            return [Line(f"lines are left out from here on: the log has {event['limit']:.0f} bytes", "yellow")]
        case "LogOmitted":
            left_out = f"{event['lines']:.0f} lines of {event['bytes']:.0f} bytes together were left out"
            return [Line(f"{left_out}; the last lines follow", "yellow")]
        case "OwnerChanged":
            return [Line("the service was started anew and goes on with it", "yellow")]
        case other:
            return [Line(clean(other), "dim")]  # of a server that is newer than this


def _status(status: str, phase: str) -> Line:
    return Line(f"{clean(status)}  {clean(phase.lower())}", STATUS_STYLES.get(status, ""))


def _resource(resource: Record) -> Line:
    state, words = resource["state"], resource_words(resource)
    if resource["operation"] == "SAME" and state in ("IN_PROGRESS", "DONE"):
        return Line("")
    told = clean(state.lower().replace("_", " "))
    if resource["endedAt"] and state == "DONE":
        told += f" in {duration(moment(resource['endedAt']) - moment(resource['startedAt']))}"
    return Line(f"{words}: {told}", _STATE_STYLES.get(state, "dim"))


def _reason(cancellation: Record) -> str:
    if cancellation["reason"] == "ASKED" and (name := cancellation["requestedBy"]):
        return f"{clean(name)} asked for it"
    return _REASONS.get(cancellation["reason"], clean(cancellation["reason"]))


def _stage(cancellation: Record, now: datetime | None) -> str:
    stage, next_at = cancellation["stage"], cancellation["nextStageAt"]
    words = _STAGES.get(stage, clean(stage))
    if next_at is None or stage not in _NEXT_STAGES:
        return words
    when = f"at {clean(next_at)}" if now is None else f"in {duration(moment(next_at) - now)}"
    return f"{words}, and is {_NEXT_STAGES[stage]} {when}"
