"""A stand-in for the Pulumi CLI, for tests of what surrounds it: a process with its arguments, files and words.

`install` puts it into a directory as `pulumi`. What it does in `up` stands in `fake.yaml` in the module:

    sleep: seconds before it ends        ignore: how many SIGTERMs it ignores
    until: a file; it ends earlier once that is there
    exit: its exit status                stdout, stderr: what it prints
    error: an error diagnostic           outputs: the stack's outputs
    lines: how many lines it prints      every: seconds between them      width: how long each is
    resources: how many it creates, one after each of the first lines
    note: a file to which it appends `begun` and, unless a signal ends it, `done`
    echo_input: true prints its stack input; echo_environment: true prints its environment

Each start appends the command to `starts` in PULUMI_HOME, so that a test can tell that nothing was started.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

VERSION = "v3.206.0"


def install(directory: Path) -> Path:
    """Make `pulumi` in the directory, run by this test's Python."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "pulumi"
    path.write_text(f"#!{sys.executable}\nimport runpy\nrunpy.run_path({__file__!r}, run_name='__main__')\n")
    path.chmod(0o755)
    return path


def main(arguments: list[str]) -> int:
    if arguments == ["version"]:
        print(VERSION)
        return 0
    home = Path(os.environ["PULUMI_HOME"])
    with (home / "starts").open("a") as starts:
        starts.write(" ".join(arguments) + "\n")
    stack = arguments[arguments.index("--stack") + 1]
    command = {"up": up, "stack": init, "cancel": cancel}[arguments[0]]
    return command(stack, arguments)


def init(stack: str, _: list[str]) -> int:
    file = state_file(stack)
    if file.exists():
        return refuse(f"error: stack '{stack}' already exists")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("{}")
    print(f"Created stack '{stack}'")
    return 0


def cancel(stack: str, _: list[str]) -> int:
    lock_file(stack).unlink(missing_ok=True)
    return 0


def up(stack: str, arguments: list[str]) -> int:
    if not state_file(stack).exists():
        return refuse(f"error: no stack named '{stack}' found")
    if (lock := lock_file(stack)).exists():
        owner = json.loads(lock.read_text())
        return refuse(
            "error: the stack is currently locked by 1 lock(s). Either wait for the other process(es) to end or "
            "delete the lock file with `pulumi cancel`.\n  file: created by "
            f"{owner['username']}@{owner['hostname']} (pid {owner['pid']}) at {owner['timestamp']}"
        )
    lock.parent.mkdir(parents=True, exist_ok=True)
    owner = {"pid": os.getpid(), "username": "fake", "hostname": os.uname().nodename, "timestamp": utc_now()}
    draft = lock.with_suffix(".draft")  # a Pulumi that is killed here leaves no half of a lock either
    draft.write_text(json.dumps(owner))
    draft.replace(lock)
    with Path(arguments[arguments.index("--event-log") + 1]).open("w") as events:
        status = act(yaml.safe_load(Path("fake.yaml").read_text()) or {}, lambda event: write_event(events, event))
    lock.unlink()
    return status


def act(plan: dict[str, Any], tell: Any) -> int:
    asked = 0

    def on_signal(*_: object) -> None:
        nonlocal asked
        asked += 1

    signal.signal(signal.SIGTERM, on_signal)
    note(plan, "begun")
    print(plan.get("stdout", ""), flush=True)
    print(plan.get("stderr", ""), file=sys.stderr, flush=True)
    if plan.get("echo_input"):
        file = os.environ.get("STACK_INPUT_YAML_FILE")
        print(os.environ.get("STACK_INPUT_YAML") or (file and Path(file).read_text()))
    if plan.get("echo_environment"):
        print(json.dumps(dict(os.environ)))
    for number in range(plan.get("lines", 0)):
        print(line(number, plan.get("width", 0)), flush="every" in plan)
        if number < plan.get("resources", 0):
            create(number, tell)
        if "every" in plan:
            time.sleep(plan["every"])
    sys.stdout.flush()
    end = time.monotonic() + plan.get("sleep", 0)
    released = Path(plan.get("until", "nowhere"))
    while time.monotonic() < end and asked <= plan.get("ignore", 0) and not released.exists():
        time.sleep(0.01)
    if asked > plan.get("ignore", 0):
        tell({"diagnosticEvent": {"message": "update canceled", "severity": "error"}})
        return finish(tell, 255)
    note(plan, "done")
    if "error" in plan:
        tell({"diagnosticEvent": {"message": plan["error"], "severity": "error"}})
        return finish(tell, plan.get("exit", 255))
    resource = {"type": "pulumi:pulumi:Stack", "urn": "urn:stack", "new": {"outputs": plan.get("outputs", {})}}
    tell({"resOutputsEvent": {"metadata": resource}})
    return finish(tell, plan.get("exit", 0))


def note(plan: dict[str, Any], word: str) -> None:
    if "note" in plan:
        with Path(plan["note"]).open("a") as file:
            file.write(f"{word}\n")


def create(number: int, tell: Any) -> None:
    urn = f"urn:pulumi:stack::project::test:index:Thing::thing-{number}"
    for event in ("resourcePreEvent", "resOutputsEvent"):
        tell({event: {"metadata": {"op": "create", "urn": urn, "type": "test:index:Thing"}}})


def line(number: int, width: int = 0) -> str:
    """A line that can be told from all others."""
    return f"line {number} ".ljust(width, ".") if width else f"line {number}"


def finish(tell: Any, status: int) -> int:
    tell({"summaryEvent": {}})
    tell({"cancelEvent": {}})
    return status


def write_event(stream: Any, event: dict[str, Any]) -> None:
    stream.write(json.dumps({"sequence": 0, "timestamp": 0, **event}, separators=(",", ":")) + "\n")
    stream.flush()


def utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def refuse(message: str) -> int:
    print(message, file=sys.stderr)
    return 255


def state_file(stack: str) -> Path:
    _, project, name = stack.split("/")
    return backend() / "stacks" / project / f"{name}.json"


def lock_file(stack: str) -> Path:
    return backend() / "locks" / stack / "lock.json"


def backend() -> Path:
    return Path(os.environ["PULUMI_BACKEND_URL"].removeprefix("file://"), ".pulumi")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
