"""Reading manifests away from the event loop: a long one takes a second, and everyone else is served meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from graphql_api.domain.manifest import Examination, Manifest, examine, parse

#: What has more characters than this waits for its turn among the long ones, not before the short ones.
SHORT = 8 * 1024

T = TypeVar("T")


class Manifests:
    """Reads one short and one long manifest at a time, each kind in the order in which they came.

    So whoever lists many long ones takes one thread at most, and none of those that the stores work in. What is
    cancelled while it waits is not read. ``self_managed`` says which rules Pulumi's backend has for organizations.
    """

    def __init__(self, *, self_managed: bool) -> None:
        self._self_managed = self_managed
        self._short, self._long = (ThreadPoolExecutor(1, f"{kind}-manifests") for kind in ("short", "long"))

    async def parse(self, text: str) -> Manifest:
        """Raises InvalidManifest with everything that is wrong with it."""
        return await self._read(text, partial(parse, text))

    async def examine(self, text: str) -> Examination:
        """Its labels, and its stack or why it can't be deployed. The domain remembers what was asked last."""
        return await self._read(text, partial(examine, text, self_managed=self._self_managed))

    async def _read(self, text: str, read: Callable[[], T]) -> T:
        thread = self._short if len(text) <= SHORT else self._long
        return await asyncio.get_running_loop().run_in_executor(thread, read)
