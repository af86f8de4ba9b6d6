"""Where supervisors come from: a process that has loaded their program once, and forks one for each command."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from runners import process, supervisor
from runners.lock import StackLock
from runners.process import ProcessIdentity

#: How long it may take to start and to fork, on a machine that is very busy, in seconds.
PATIENCE = 10.0


class ForkServerLost(Exception):
    """The fork server ended, or got stuck, before it answered: whether a supervisor has been started is not known."""


class ForkServer:
    """Starts supervisors within a millisecond or two, where starting Python anew would take 25.

    Its process is started on entering, and again when it is needed and not there. It ends on leaving, and with the
    service, whichever way that ends; the supervisors do not. Methods block, and may be called by several threads at
    once. ``patience`` is how long an answer is waited for, in seconds.
    """

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None

    def __enter__(self) -> Self:
        with self._turn:
            self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._turn:
            self._end()

    def start_supervisor(
        self, directory: Path, environment: Mapping[str, str], lock: StackLock
    ) -> ProcessIdentity | None:
        """Start the supervisor of the command in ``directory``, with a copy of the lock; None if it has ended already.

        Its signals are held back until it heeds them. Raises OSError where it was surely not started, ForkServerLost
        where nobody knows.
        """
        with ExitStack() as opened:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            log = opened.enter_context(open(os.open(directory / "supervisor.log", flags, 0o600), "wb"))
            # In memory alone, since it holds secrets.
            variables = opened.enter_context(open(os.memfd_create("environment"), "w", encoding="utf-8"))
            json.dump(dict(environment), variables)
            variables.flush()
            os.lseek(variables.fileno(), 0, os.SEEK_SET)
            with self._turn:
                self._send(os.fsencode(directory), [log.fileno(), variables.fileno(), lock.fileno()])
                return self._answer()

    def _send(self, message: bytes, descriptors: list[int]) -> None:
        try:
            socket.send_fds(self._connected(), [message], descriptors)
        except ConnectionError:  # it is gone, and nobody has got the message
            self._end()
            socket.send_fds(self._connected(), [message], descriptors)

    def _answer(self) -> ProcessIdentity | None:
        try:
            answer = self._connected().recv(1024)
        except OSError as error:
            self._end()
            raise ForkServerLost("The process that starts supervisors gives no answer.") from error
        if not answer:
            self._end()
            raise ForkServerLost("The process that starts supervisors ended while it was to start one.")
        told = json.loads(answer)
        if number := told.get("errno"):
            raise OSError(number, os.strerror(number))
        if told["start_time"] is None:
            return None
        return ProcessIdentity(told["pid"], told["start_time"], process.boot_id())

    def _connected(self) -> socket.socket:
        return self._requests or self._start()

    def _start(self) -> socket.socket:
        """Start its process, which reads what is asked of it as soon as it can.

        Its signals are blocked, which the supervisors inherit. This is done for this thread alone, from which the
        process has it; nobody else notices.
        """
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        previous = signal.pthread_sigmask(signal.SIG_BLOCK, supervisor.HEEDED)
        try:
            with its:
                self._process = subprocess.Popen(
                    [sys.executable, "-IS", supervisor.__file__],
                    stdin=its.fileno(),
                    stdout=subprocess.DEVNULL,
                    env={},
                    start_new_session=True,
                )
        except BaseException:
            ours.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, previous)
        ours.settimeout(self._patience)
        self._requests = ours
        return ours

    def _end(self) -> None:
        if self._requests is not None:
            self._requests.close()
            self._requests = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
