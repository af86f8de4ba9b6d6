"""The tiny process above one command: the command outlives the service, yet keeps its deadline and its exit status.

``python -IS supervisor.py`` forks one for each request that comes on its standard input, a socket, and ends when nobody
is left to ask; starting Python for each would take 25 ms. A request is the path of DIRECTORY, with three descriptors:
the supervisor's log, the command's environment as JSON, and the stack's lock, which the command inherits; the answer is
JSON: the supervisor's ``pid`` and ``start_time`` (null: it has ended already), or the ``errno`` that kept it from being
forked. Standard library only: it must stay small and depend on nothing that could be replaced while it runs.

In DIRECTORY, in a session of its own, a supervisor reads ``spec.json``, and at a SIGHUP ``limit.json`` (``limit``:
seconds from the command's start to its deadline); ``stdout`` and ``stderr`` are the command's output; the command may
write ``events``. It writes ``pids.json`` before the command begins, and with each step of the ladder ``stage.json``:

    stage       "interrupted", "terminated" or "killed"
    reason      why it is to end: "deadline", or "asked" (a SIGTERM or an ASK came here)
    at          when the step was taken, and ``next_at``, when the next one will be (null: never), seconds since 1970

After the command and all it left have ended it writes ``exit.json``:

    returncode  exit status, negative for a signal; null if the command never began or its end is unknown
    reason      why it was to end, as above, or null
    stage       the last step of the ladder that reached it, as above, or "none"
    swept       how many processes that it left behind were ended
    error       a sentence, if something went wrong here, and ``errno``, where there is one
"""

from __future__ import annotations

import ctypes
import errno
import json
import math
import os
import select
import signal
import socket
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

ASK = signal.SIGRTMIN  # asks for the next step now, as a SIGTERM does; but of these the kernel keeps each
HEEDED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, ASK)
LADDER = ((signal.SIGTERM, "interrupted"), (signal.SIGTERM, "terminated"), (signal.SIGKILL, "killed"))
STEP_PAUSE = 0.25  # seconds between steps at least: of two SIGTERMs at once a process sees one; Pulumi needs 0.5 ms
KILL_LIMIT = 10.0  # seconds for a command to be gone after SIGKILL; longer only where the kernel holds it
SWEEP_LIMIT = 10.0  # seconds for everything that it left behind
WRITE_ATTEMPTS = 50
WRITE_PAUSE = 0.2  # seconds
RESERVE = 64 * 1024  # bytes, kept free for the record of the end
EVENTS_TAIL = 64 * 1024  # bytes; the lines that say "finishing" have a few hundred
PR_SET_CHILD_SUBREAPER = 36
PATH_LIMIT = 4096  # bytes, the kernel's PATH_MAX


def serve(requests: socket.socket) -> None:
    """Fork a supervisor for each request, until nobody is left to ask."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them: the kernel is to reap them
    with suppress(ConnectionError):  # the service is gone, with an answer unread
        while (request := socket.recv_fds(requests, PATH_LIMIT, 3))[0]:
            path, descriptors, _, _ = request
            try:
                pid = fork_supervisor(Path(os.fsdecode(path)), *descriptors)
                answer = {"pid": pid, "start_time": start_time(pid)}
            except OSError as error:
                answer = {"errno": error.errno or errno.EAGAIN}
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)
            requests.send(json.dumps(answer).encode())


def fork_supervisor(directory: Path, log: int, environment: int, _lock: int) -> int:
    """Fork a supervisor, which leads a session of its own; return its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # what it waits for must not be reaped before
            os.dup2(os.open(os.devnull, os.O_RDWR), 0)  # in place of the socket
            os.dup2(log, 2)
            os.close(log)  # what came over the socket is inherited, as the lock is to be
            main(directory, environment)
        except Exception as error:
            tell_trouble(error)
        finally:
            os._exit(0)
    return pid


def main(directory: Path, environment: int) -> None:
    """Run the command described in ``directory`` to its end and record the end."""
    end: dict[str, Any] = dict.fromkeys(("returncode", "reason", "error", "errno")) | {"stage": "none", "swept": 0}
    try:
        end |= run(directory, environment)
    except Exception as error:
        # A boundary: whatever happened, the sweep ends the command, and the record says that this was not its own end.
        tell_trouble(error)
        end |= {"error": f"The supervisor broke off: {error}.", "errno": getattr(error, "errno", None)}
    end["swept"] = sweep()
    write_stubbornly(directory / "exit.json", end)


def run(directory: Path, environment: int) -> dict[str, Any]:
    """Start the command, watch it to its end, and return what there is to record."""
    wake = catch_signals()
    become_subreaper()
    spec = json.loads((directory / "spec.json").read_bytes())
    with open(os.open(directory / "reserve", os.O_WRONLY | os.O_CREAT, 0o600), "wb") as reserve:
        reserve.write(bytes(RESERVE))
    command, go, failure = fork_command(spec, directory, environment)
    pidfd = os.pidfd_open(command)
    write_whole(directory / "pids.json", identities(command))
    make_durable(directory / "pids.json")
    # Only now, so that no command lives without a trace on disk; if we die before, it reads the pipe's end and leaves.
    os.write(go, b"g")
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HEEDED)
    reason, stage = watch(pidfd, wake, spec, directory)
    return {"reason": reason, "stage": stage} | ending(command, pidfd, failure)


def catch_signals() -> int:
    """Make signals harmless for us; return a descriptor from which each arrival can be read as one byte.

    Handlers, not SIG_IGN, which the command would inherit. Bytes, not a count in a handler: Python runs a handler
    once for signals that arrive together. They have been blocked all along, since the service started the process that
    we were forked from, and are until the command has begun: so a SIGTERM sent at the very start is kept, too.
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


def fork_command(spec: dict[str, Any], directory: Path, environment: int) -> tuple[int, int, int]:
    """Fork the command, which waits; return its pid, the pipe that lets it go, the pipe that tells why it could not."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    stdout, stderr = (os.open(directory / name, flags, 0o600) for name in ("stdout", "stderr"))
    go_read, go_write = os.pipe()
    failure_read, failure_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(go_write)  # or it would itself hold open the pipe whose end tells that we died
        become_command(spec, environment, stdout, stderr, go_read, failure_write)
    for descriptor in (environment, stdout, stderr, go_read, failure_write):
        os.close(descriptor)
    return pid, go_write, failure_read


def become_command(spec: dict[str, Any], environment: int, stdout: int, stderr: int, go: int, failure: int) -> NoReturn:
    """In the child: wait for permission, undo what the supervisor changed, and become the command."""
    doing = "Preparing the command"
    try:
        if os.read(go, 1):
            os.dup2(stdout, 1)
            os.dup2(stderr, 2)
            restore_signals()
            doing = f"Entering the working directory {spec['cwd']!r:.200}"
            os.chdir(to_bytes(spec["cwd"]))
            doing = f"Starting {spec['argv'][0]!r:.200}"
            argv = [to_bytes(argument) for argument in spec["argv"]]
            variables = read_environment(environment)
            os.execvpe(argv[0], argv, variables)  # noqa: S606 - that no shell is started is the point
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else errno.EINVAL
        why = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
        advice = (
            "Check that it exists and may be used, and that no argument and no variable of its environment is larger "
            "than 131,071 bytes or holds a NUL."
        )
        os.write(failure, json.dumps({"error": f"{doing} was refused: {why}. {advice}", "errno": number}).encode())
    finally:
        os._exit(127)


def restore_signals() -> None:
    """Give the command the signals of a fresh process; Python itself ignores SIGPIPE and SIGXFSZ, for one."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def read_environment(descriptor: int) -> dict[bytes, bytes]:
    """Return the command's environment."""
    with open(descriptor, encoding="utf-8") as file:
        return {to_bytes(name): to_bytes(value) for name, value in json.load(file).items()}


def to_bytes(text: str) -> bytes:
    """Return the bytes as which the service had this text, whichever locale is set here."""
    return text.encode("utf-8", "surrogateescape")


def identities(command: int) -> dict[str, Any]:
    """Return who we and the command are, in words that stay true when a pid is used again.

    ``hostname`` and ``started`` (seconds since 1970, now) are what Pulumi's lock will name, besides the pid.
    """
    return {
        "hostname": os.uname().nodename,
        "started": time.time(),
        "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "supervisor": {"pid": os.getpid(), "start_time": start_time(os.getpid())},
        "command": {"pid": command, "start_time": start_time(command)},
    }


def start_time(pid: int) -> int | None:
    """Return when a child, or ourselves, started, in the kernel's clock ticks since the boot; None when it is gone."""
    try:
        return int(stat_fields(pid)[19])
    except OSError:
        return None


def stat_fields(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on; the name before may hold spaces and parentheses."""
    return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()


def watch(pidfd: int, wake: int, spec: dict[str, Any], directory: Path) -> tuple[str | None, str]:
    """Wait for the command's end, walking the ladder when it should end; return the reason and the last step taken.

    Signals go to the command itself, never to a group, in which we and the plugins may be.
    """
    events, markers = directory / "events", spec["quiet_markers"]
    reason, stage, began = None, "none", time.monotonic()
    until = began + spec["limit"]
    for (number, name), grace in zip(LADDER, (*spec["graces"], None), strict=True):
        while (cause := next_cause(pidfd, wake, until, events, markers if reason else ())) == "extended":
            if reason is None:  # else it is ending already
                until = began + extended_limit(directory, until - began)
        if cause == "ended":
            break
        reason = reason or cause
        wait = None if grace is None else max(grace, STEP_PAUSE)
        until = time.monotonic() + (wait or 0)
        # An engine that is finishing would die of the SIGTERM and leave its lock; it gets the grace without the signal.
        if number == signal.SIGKILL or not is_finishing(events, markers):
            signal.pidfd_send_signal(pidfd, number)
            stage = name
            tell_stage(directory, stage, reason, wait)
            if has_ended(pidfd, STEP_PAUSE):
                break
    return reason, stage


def next_cause(pidfd: int, wake: int, until: float, events: Path, markers: Sequence[str]) -> str:
    """Wait for what comes first: the command "ended", we were "asked", its time was "extended", or the "deadline".

    With ``markers``, asking does not hurry a command that is finishing: only time does. ``until`` is monotonic.
    """
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(wake, select.POLLIN)
    while True:
        left = until - time.monotonic()
        ready = [descriptor for descriptor, _ in poll.poll(math.ceil(min(max(left, 0), 3600) * 1000))]
        if pidfd in ready:
            return "ended"
        if wake in ready:
            # One byte at a time, so that a further one is kept for the step after this one.
            number = os.read(wake, 1)[0]
            if number == signal.SIGHUP:
                return "extended"
            if number in (signal.SIGTERM, ASK) and not is_finishing(events, markers):
                return "asked"
        if left <= 0:
            return "deadline"


def extended_limit(directory: Path, limit: float) -> float:
    """Return the limit that the service has written, or the one so far where it wrote none."""
    with suppress(OSError, ValueError):
        return float(json.loads((directory / "limit.json").read_bytes())["limit"])
    return limit


def is_finishing(events: Path, markers: Sequence[str]) -> bool:
    """Tell whether the end of the event log holds an event with one of the markers as its key.

    Not only in the last line: Pulumi may still say something after its summary, such as that a provider has crashed.
    It writes the summary when nothing is in hand any more, also where a provider was deaf to the first SIGTERM.
    """
    if not markers:
        return False
    try:
        with events.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - EVENTS_TAIL))
            lines = file.read(EVENTS_TAIL).split(b"\n")
    except OSError:
        return False
    whole_lines = lines[1 if size > EVENTS_TAIL else 0 : -1]
    return any(marker.encode() in event_key(line) for line in whole_lines for marker in markers)


def event_key(line: bytes) -> bytes:
    """Return what stands before the content of an event: within it, a marker is a word of the program's."""
    return line.partition(b"{")[2].partition(b"{")[0]


def tell_stage(directory: Path, stage: str, reason: str, wait: float | None) -> None:
    """Let the service know of a step and when the next one comes; where the disk is full, it comes untold."""
    now = time.time()
    told = {"stage": stage, "reason": reason, "at": now, "next_at": None if wait is None else now + wait}
    try:
        write_whole(directory / "stage.json", told)
    except OSError as error:
        tell_trouble(error)


def ending(command: int, pidfd: int, failure: int) -> dict[str, Any]:
    """Return how the command ended, after giving a killed one a moment to be gone."""
    if not has_ended(pidfd, KILL_LIMIT):
        return {
            "error": "The command is not gone after SIGKILL; find out what the kernel keeps its process waiting for."
        }
    _, status = os.waitpid(command, 0)
    # Nobody writes to this pipe any more: a successful exec closed it, and so did the end of the process.
    if why := os.read(failure, select.PIPE_BUF):
        return dict(json.loads(why))
    return {"returncode": os.waitstatus_to_exitcode(status)}


def has_ended(pidfd: int, within: float) -> bool:
    """Wait for a process to end; False when it still runs after so many seconds."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(math.ceil(within * 1000)))


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


def write_whole(path: Path, content: dict[str, Any]) -> None:
    """Write JSON so that a reader finds either all of it or nothing."""
    draft = path.with_name(f"{path.name}.draft")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(content, file)
    draft.replace(path)


def make_durable(path: Path) -> None:
    """Keep a file that was written whole through a power failure."""
    for part in (path, path.parent):
        descriptor = os.open(part, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def tell_trouble(error: Exception) -> None:
    """Write the traceback to our log where that is possible: it is on the disk that may be full."""
    with suppress(OSError):
        traceback.print_exception(error)


def write_stubbornly(path: Path, content: dict[str, Any], attempts: int = WRITE_ATTEMPTS) -> None:
    """Write even where the disk is full for a while: without this record nobody learns how the command ended."""
    for _ in range(attempts):
        try:
            write_whole(path, content)
            make_durable(path)
        except OSError as error:
            with suppress(OSError):
                path.with_name("reserve").unlink(missing_ok=True)  # now is the time for it
            tell_trouble(error)
            time.sleep(WRITE_PAUSE)
        else:
            return


if __name__ == "__main__":
    serve(socket.socket(fileno=0))
