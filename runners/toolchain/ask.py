"""Asking a command of the machine for a short answer, such as its version."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta

from graphql_api.domain.errors import StackcastError


class ToolchainError(StackcastError):
    """A tool that is needed is missing, too old or does not work; the message says what to install or to change."""

    code = "TOOLCHAIN"


async def ask(argv: Sequence[str], environment: Mapping[str, str], limit: timedelta) -> str:
    """Run a command to its end and return its stdout, stripped. The command runs in a session of its own.

    Raises ToolchainError when it can't be started, ends with another status than 0, or takes longer than ``limit``.
    """
    command = shlex.join(argv)
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise ToolchainError(f"`{command}` can't be started: {error.strerror}. Repair or remove it.") from error
    try:
        async with asyncio.timeout(limit.total_seconds()):
            stdout, stderr = await process.communicate()
    except TimeoutError:
        raise ToolchainError(
            f"`{command}` did not answer within {limit.total_seconds():g} s. Repair or remove it."
        ) from None
    finally:
        await end(process)
    if process.returncode != 0:
        said = (stderr or stdout).decode(errors="replace").strip().rpartition("\n")[2]
        raise ToolchainError(f"`{command}` ended with status {process.returncode}: {said}. Repair or remove it.")
    return stdout.decode(errors="replace").strip()


async def end(process: asyncio.subprocess.Process) -> None:
    """Kill the process and its whole session's group, if it still runs, and wait until it is gone."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
