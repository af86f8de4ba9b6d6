"""The tiny process above one command: the command outlives the service, yet keeps its deadline and its exit status.

Started as ``python -IS supervisor.py DIRECTORY``, in a session of its own, with exactly the command's environment.
Standard library only: it must start fast, stay small and depend on nothing that could be replaced while it runs.

In DIRECTORY it reads ``spec.json``; ``stdout`` and ``stderr`` are the command's output; the command may write
``events``; ``pids.json`` is there before the command begins, ``exit.json`` after it and all it left have ended:

    returncode  exit status, negative for a signal; null if the command never began or its end is unknown
    reason      why it was to end: "deadline", "asked" (a SIGTERM came here) or null
    stage       the last step of the ladder that reached it: "none", "interrupted", "terminated", "killed"
    swept       how many processes that it left behind were ended
    error       a sentence, if something went wrong here, and ``errno``, where there is one
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

HEEDED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
LADDER = ((signal.SIGTERM, "interrupted"), (signal.SIGTERM, "terminated"), (signal.SIGKILL, "killed"))
KILL_LIMIT = 10.0  # seconds for a command to be gone after SIGKILL; longer only where the kernel holds it
SWEEP_LIMIT = 10.0  # seconds for everything that it left behind
WRITE_ATTEMPTS = 50
WRITE_PAUSE = 0.2  # seconds
RESERVE = 64 * 1024  # bytes, kept free for the record of the end
EVENTS_TAIL = 64 * 1024  # bytes; the lines that say "finishing" have a few hundred
PR_SET_CHILD_SUBREAPER = 36


def main(directory: Path) -> int:
    """Run the command described in ``directory`` to its end and record the end; 1 if it could not be recorded."""
    end: dict[str, Any] = dict.fromkeys(("returncode", "reason", "error", "errno")) | {"stage": "none", "swept": 0}
    try:
        end |= run(directory)
    except Exception as error:
        # A boundary: whatever happened, the sweep ends the command, and the record says that this was not its own end.
        tell_trouble()
        end |= {"error": f"The supervisor broke off: {error}.", "errno": getattr(error, "errno", None)}
    end["swept"] = sweep()
    return 0 if write_stubbornly(directory / "exit.json", end) else 1


def run(directory: Path) -> dict[str, Any]:
    """Start the command, watch it to its end, and return what there is to record."""
    wake = catch_signals()
    become_subreaper()
    spec = json.loads((directory / "spec.json").read_bytes())
    with open(os.open(directory / "reserve", os.O_WRONLY | os.O_CREAT, 0o600), "wb") as reserve:
        reserve.write(bytes(RESERVE))
    command, go, failure = fork_command(spec, directory)
    pidfd = os.pidfd_open(command)
    write_durably(directory / "pids.json", identities(command))
    # Only now, so that no command lives without a trace on disk; if we die before, it reads the pipe's end and leaves.
    os.write(go, b"g")
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HEEDED)
    reason, stage = watch(pidfd, wake, spec, directory / "events")
    return {"reason": reason, "stage": stage} | ending(command, pidfd, failure)


def catch_signals() -> int:
    """Make signals harmless for us; return a descriptor from which each arrival can be read as one byte.

    Handlers, not SIG_IGN, which the command would inherit. Bytes, not a count in a handler: Python runs a handler
    once for signals that arrive together. Blocked until the command has begun; the service starts us with them
    blocked, so that a SIGTERM sent while Python starts is kept, too.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, HEEDED)
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    for number in HEEDED:
        signal.signal(number, lambda _number, _frame: None)
    return readable


def become_subreaper() -> None:
    """Inherit every process that the command leaves behind, whichever session or group it moved to."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def fork_command(spec: dict[str, Any], directory: Path) -> tuple[int, int, int]:
    """Fork the command, which waits; return its pid, the pipe that lets it go, the pipe that tells why it could not."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    stdout, stderr = (os.open(directory / name, flags, 0o600) for name in ("stdout", "stderr"))
    go_read, go_write = os.pipe()
    failure_read, failure_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(go_write)  # or it would itself hold open the pipe whose end tells that we died
        become_command(spec, stdout, stderr, go_read, failure_write)
    for descriptor in (stdout, stderr, go_read, failure_write):
        os.close(descriptor)
    return pid, go_write, failure_read


def become_command(spec: dict[str, Any], stdout: int, stderr: int, go: int, failure: int) -> NoReturn:
    """In the child: wait for permission, undo what the supervisor changed, and become the command."""
    doing = "Preparing the command"
    try:
        if os.read(go, 1):
            os.dup2(stdout, 1)
            os.dup2(stderr, 2)
            restore_signals()
            doing = f"Entering the working directory {spec['cwd']!r:.200}"
            os.chdir(spec["cwd"].encode("utf-8", "surrogateescape"))
            doing = f"Starting {spec['argv'][0]!r:.200}"
            argv = [argument.encode("utf-8", "surrogateescape") for argument in spec["argv"]]
            os.execvpe(argv[0], argv, initial_environment())  # noqa: S606 - that no shell is started is the point
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        why = os.strerror(number) if number else str(error)
        advice = "Check that it exists and may be used, and that no argument is too large."
        os.write(failure, json.dumps({"error": f"{doing} was refused: {why}. {advice}", "errno": number}).encode())
    finally:
        os._exit(127)


def restore_signals() -> None:
    """Give the command the signals of a fresh process; Python itself ignores SIGPIPE and SIGXFSZ, for one."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def initial_environment() -> dict[bytes, bytes]:
    """Return the environment we were started with: Python adds LC_CTYPE to ``os.environ`` where no locale is set."""
    entries = Path("/proc/self/environ").read_bytes().split(b"\0")
    return {name: value for name, equals, value in (entry.partition(b"=") for entry in entries) if equals}


def identities(command: int) -> dict[str, Any]:
    """Return who we and the command are, in words that stay true when a pid is used again.

    ``hostname`` and ``started`` (seconds since 1970, now) are what Pulumi's lock will name, besides the pid.
    """
    return {
        "hostname": os.uname().nodename,
        "started": time.time(),
        "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "supervisor": {"pid": os.getpid(), "start_time": int(stat_fields(os.getpid())[19])},
        "command": {"pid": command, "start_time": int(stat_fields(command)[19])},
    }


def stat_fields(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on; the name before may hold spaces and parentheses."""
    return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()


def watch(pidfd: int, wake: int, spec: dict[str, Any], events: Path) -> tuple[str | None, str]:
    """Wait for the command's end, walking the ladder when it should end; return the reason and the last step taken.

    Signals go to the command itself, never to a group, in which we and the plugins may be.
    """
    reason, stage, markers = None, "none", spec["quiet_markers"]
    for (number, name), wait in zip(LADDER, (spec["limit"], *spec["graces"]), strict=True):
        cause = next_cause(pidfd, wake, wait, events, markers if reason else ())
        if cause == "ended":
            break
        reason = reason or cause
        # An engine that is finishing would die of the SIGTERM and leave its lock; it gets the grace without the signal.
        if number == signal.SIGKILL or not is_finishing(events, markers):
            signal.pidfd_send_signal(pidfd, number)
            stage = name
    return reason, stage


def next_cause(pidfd: int, wake: int, wait: float, events: Path, markers: Sequence[str]) -> str:
    """Wait for what comes first: the command "ended", we were "asked", or after ``wait`` seconds the "deadline".

    With ``markers``, asking does not hurry a command that is finishing: only time does.
    """
    deadline = time.monotonic() + wait
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(wake, select.POLLIN)
    while True:
        left = deadline - time.monotonic()
        ready = [descriptor for descriptor, _ in poll.poll(math.ceil(min(max(left, 0), 3600) * 1000))]
        if pidfd in ready:
            return "ended"
        # One byte at a time, so that a further SIGTERM is kept for the step after this one.
        if wake in ready and os.read(wake, 1) == bytes([signal.SIGTERM]) and not is_finishing(events, markers):
            return "asked"
        if left <= 0:
            return "deadline"


def is_finishing(events: Path, markers: Sequence[str]) -> bool:
    """Tell whether the last whole line of the event log holds one of the markers; without a log it does not."""
    if not markers:
        return False
    try:
        with events.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - EVENTS_TAIL))
            whole_lines = file.read(EVENTS_TAIL).rpartition(b"\n")[0]
    except OSError:
        return False
    _, newline, last = whole_lines.rpartition(b"\n")
    begins_here = bool(newline) or size <= EVENTS_TAIL
    return begins_here and any(marker.encode() in last for marker in markers)


def ending(command: int, pidfd: int, failure: int) -> dict[str, Any]:
    """Return how the command ended, after giving a killed one a moment to be gone."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if not poll.poll(math.ceil(KILL_LIMIT * 1000)):
        return {
            "error": "The command is not gone after SIGKILL; find out what the kernel keeps its process waiting for."
        }
    _, status = os.waitpid(command, 0)
    # Nobody writes to this pipe any more: a successful exec closed it, and so did the end of the process.
    if why := os.read(failure, select.PIPE_BUF):
        return dict(json.loads(why))
    return {"returncode": os.waitstatus_to_exitcode(status)}


def sweep() -> int:
    """Kill and reap all that became our children, until none is left or the limit has passed; return how many."""
    swept, deadline = 0, time.monotonic() + SWEEP_LIMIT
    while time.monotonic() < deadline:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                swept += 1
        except ChildProcessError:
            break
        for pid in children():
            # Only we reap our children, so that this pid cannot have come to mean someone else.
            with suppress(PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)
    return swept


def children() -> list[int]:
    """Return the pids of our children; what those leave behind comes to us once they have ended."""
    found = []
    for pid in (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()):
        with suppress(OSError):  # it ended while we were looking
            if int(stat_fields(pid)[1]) == os.getpid():
                found.append(pid)
    return found


def write_durably(path: Path, content: dict[str, Any]) -> None:
    """Write JSON so that a reader, and a power failure, finds either all of it or nothing."""
    draft = path.with_name(f"{path.name}.draft")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def tell_trouble() -> None:
    """Write the traceback to our log where that is possible: it is on the disk that may be full."""
    with suppress(OSError):
        traceback.print_exc()


def write_stubbornly(path: Path, content: dict[str, Any], attempts: int = WRITE_ATTEMPTS) -> bool:
    """Write even where the disk is full for a while: without this record nobody learns how the command ended."""
    for _ in range(attempts):
        try:
            write_durably(path, content)
        except OSError:
            with suppress(OSError):
                path.with_name("reserve").unlink(missing_ok=True)  # now is the time for it
            tell_trouble()
            time.sleep(WRITE_PAUSE)
        else:
            return True
    return False


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
