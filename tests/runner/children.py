"""The children that the tests start: `python children.py NAME ARGUMENT...`, each a few lines of bad or good manners.

They end by themselves after LIFETIME, so that a failing test leaves nothing behind for long.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LIFETIME = 60.0  # seconds


def argv_of(name: str, *arguments: object) -> list[str]:
    """Return how the child of this name is started."""
    return [sys.executable, "-IS", __file__, name, *map(str, arguments)]


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Keep a process from running, so that all signals that it gets meanwhile meet in it."""
    os.kill(pid, signal.SIGSTOP)
    status = Path(f"/proc/{pid}/stat")
    end = time.monotonic() + LIFETIME
    while status.read_text().rpartition(")")[2].split()[0] != "T" and time.monotonic() < end:
        time.sleep(0.001)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):  # it was killed meanwhile
            os.kill(pid, signal.SIGCONT)


def say(word: object) -> None:
    """Write a line to stdout, at once."""
    os.write(1, f"{word}\n".encode())


def live(until: Path | None = None) -> None:
    """Stay alive until a file exists."""
    end = time.monotonic() + LIFETIME
    while time.monotonic() < end and not (until and until.exists()):
        time.sleep(0.01)


def describe(*arguments: str) -> None:
    """Say what a command gets from its supervisor."""
    facts = {
        "arguments": arguments,
        "cwd": str(Path.cwd()),
        "stdin": str(Path("/proc/self/fd/0").readlink()),
        "session": os.getsid(0),
    }
    say(json.dumps(facts))
    os.write(2, b"to stderr\n")


def descriptors() -> None:
    """Say what the files are that were open at the start."""
    open_now = sorted((link for link in Path("/proc/self/fd").iterdir()), key=lambda link: int(link.name))
    say(json.dumps([str(link.readlink()) for link in open_now if link.exists()]))


def leave(status: str) -> None:
    """Exit with this status."""
    sys.exit(int(status))


def polite() -> None:
    """Stop at the first SIGTERM, with exit status 1."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    say("ready")
    live()


def deaf(times: str) -> None:
    """Say "SIGTERM" at each, and stop only at the one after so many, with exit status 8."""
    heard = 0

    def hear(*_: object) -> None:
        nonlocal heard
        heard += 1
        say("SIGTERM")
        if heard > int(times):
            sys.exit(8)

    signal.signal(signal.SIGTERM, hear)
    say("ready")
    live()


def finishing(events: str, until: str) -> None:
    """Write the event log of an engine that is finishing, say "SIGTERM" at each, and end well when a file exists."""
    signal.signal(signal.SIGTERM, lambda *_: say("SIGTERM"))
    Path(events).write_text('{"resourcePreEvent":{}}\n{"summaryEvent":{"result":"succeeded"}}\n')
    say("ready")
    live(Path(until))


def wait_for(until: str) -> None:
    """Say "ready", and end well, with a last word, when a file exists."""
    say("ready")
    live(Path(until))
    say("done")


def family(until: str) -> None:
    """Have a child in the same process group; both count SIGTERMs, and the child says how many, when a file exists."""
    heard: list[int] = []
    parent = os.getpid()

    def hear(number: int, _: object) -> None:
        heard.append(number)
        if os.getpid() == parent:
            say("SIGTERM")

    signal.signal(signal.SIGTERM, hear)
    child = os.fork()
    if child == 0:
        live(Path(until))
        say(f"the child heard {len(heard)}")
        os._exit(0)
    say("ready")
    os.waitpid(child, 0)


def scatter(pids: str) -> None:
    """Leave grandchildren in a group and in a session of their own, deaf to SIGTERM, and end at once."""
    code = "import os,signal,sys,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.write(1, b'.'); time.sleep(60)"
    left = []
    for own_session in (False, True):
        group = None if own_session else 0
        child = subprocess.Popen(
            [sys.executable, "-IS", "-c", code],
            stdout=subprocess.PIPE,
            process_group=group,
            start_new_session=own_session,
        )
        assert child.stdout is not None
        child.stdout.read(1)
        left.append(child.pid)
    Path(pids).write_text(json.dumps(left))


def plugins(pids: str) -> None:
    """Start a child in a group of its own, which inherits everything, as a plugin does, and live on with it."""
    child = subprocess.Popen(argv_of("polite"), process_group=0, close_fds=False)
    Path(pids).write_text(json.dumps([child.pid]))
    say("ready")
    live()


def hog(mebibytes: str, sharers: str) -> None:
    """Take memory, share it with so many forked children, and live on."""
    memory = b"x" * (int(mebibytes) * 1024 * 1024)
    for _ in range(int(sharers)):
        if os.fork() == 0:
            live()
            os._exit(0)
    say("ready")
    live()
    del memory


CHILDREN: dict[str, Callable[..., None]] = {
    "describe": describe,
    "descriptors": descriptors,
    "leave": leave,
    "polite": polite,
    "deaf": deaf,
    "finishing": finishing,
    "family": family,
    "hog": hog,
    "wait_for": wait_for,
    "scatter": scatter,
    "plugins": plugins,
}

if __name__ == "__main__":
    CHILDREN[sys.argv[1]](*sys.argv[2:])
