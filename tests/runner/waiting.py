"""Waiting for a state instead of sleeping for luck."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

LIMIT = 20.0  # seconds; only a failing test waits that long


async def eventually(state: Callable[[], T], limit: float = LIMIT) -> T:
    """Return the first true value of ``state``, which is asked again and again; TimeoutError when none comes."""
    async with asyncio.timeout(limit):
        while not (value := state()):  # noqa: ASYNC110 - other processes set no event of ours
            await asyncio.sleep(0.01)
    return value


async def has_said(file: Path, word: str) -> None:
    """Wait until a child has written a whole line with this word."""
    await eventually(lambda: file.exists() and any(word in line for line in file.read_text().split("\n")[:-1]))
