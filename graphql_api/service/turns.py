"""One at a time: what must not happen at the same moment to one cloud resource, on one stack or under one key."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from weakref import WeakValueDictionary

from graphql_api.domain.records import CloudResourceId, StackFqdn


@dataclass(frozen=True, slots=True)
class CallersKey:
    """The key under which a caller asks for a deployment."""

    caller: str
    key: str


class Turns:
    """Takers of a turn wait for each other: none begins between another's look and its step.

    A deployment being accepted and a deletion take turns at the cloud resource, deployments at their stack, and
    repetitions of one request at their key. Whoever takes several takes the key first, the stack second and the cloud
    resource last. Only one service works on a database, so taking turns inside it is enough.
    """

    def __init__(self) -> None:
        self._locks = WeakValueDictionary[CloudResourceId | StackFqdn | CallersKey, asyncio.Lock]()

    def of(self, what: CloudResourceId | StackFqdn | CallersKey) -> AbstractAsyncContextManager[None]:
        """Wait for one's turn at it, and keep it until leaving."""
        lock = self._locks.get(what)
        if lock is None:
            lock = self._locks[what] = asyncio.Lock()
        return lock
