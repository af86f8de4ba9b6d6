"""How a command of the command line runs and ends: its exit code, signals, and one sentence for what can't be done."""

from __future__ import annotations

import asyncio
import gc
import io
import os
import signal
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer

from graphql_api.cli.terminal import note
from graphql_api.domain.errors import StackcastError

REFUSED, INTERRUPTED, READER_GONE, TERMINATED = 2, 128 + signal.SIGINT, 128 + signal.SIGPIPE, 128 + signal.SIGTERM


def finish(work: Coroutine[Any, Any, int]) -> NoReturn:
    """Run a command to its end and exit with its code."""
    raise typer.Exit(asyncio.run(_until_told(work, TERMINATED)))


def finish_serving(work: Coroutine[Any, Any, int]) -> NoReturn:
    """Run a command that serves, as fast and for as many clients as can be; a SIGTERM is how it ends well."""
    import uvloop  # what only the commands that serve need is loaded by them

    from graphql_api.transport.connections import raise_descriptor_limit

    raise_descriptor_limit()
    # A thousand watchers that wake together make thousands of objects, none of them garbage in a circle: looking for
    # that at every 700th, as Python does, took a fifth of the service's time.
    gc.set_threshold(50_000, 20, 100)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        raise typer.Exit(runner.run(_until_told(work, terminated=0)))


@contextmanager
def ending() -> Iterator[None]:
    """Whatever ends a command is an exit code, and a refusal one sentence."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # not every terminal can show every name
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except StackcastError as refusal:
        note(refusal.message)
        raise typer.Exit(REFUSED) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it closes stdout
        raise typer.Exit(READER_GONE) from None


async def _until_told(command: Coroutine[Any, Any, int], terminated: int) -> int:
    """The first SIGTERM or Ctrl-C ends the command: whatever it has open is closed in order, deployments first of all.

    Another one would cut that short and leave Pulumi at work without anybody, so it is only answered.
    """
    work = asyncio.ensure_future(command)
    told: list[int] = []

    def end(number: int) -> None:
        told.append(number)
        if len(told) == 1:
            work.cancel()
        else:
            note("Already ending: what is open is being closed.")

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end, number)
    try:
        return await work
    except asyncio.CancelledError:
        if not told:
            raise
        return terminated if told[0] == signal.SIGTERM else INTERRUPTED
    finally:
        loop.remove_signal_handler(signal.SIGINT)  # Ctrl-C again ends a command whose threads still wait for a network
