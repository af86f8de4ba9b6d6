"""One at a time: what must not happen to a cloud resource at the same moment."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from weakref import WeakValueDictionary

from graphql_api.domain.records import CloudResourceId


class Turns:
    """A deployment being accepted and a deletion take turns: neither may begin between the other's look and its step.

    Only one service works on a database, so taking turns inside it is enough.
    """

    def __init__(self) -> None:
        self._locks = WeakValueDictionary[CloudResourceId, asyncio.Lock]()

    def of(self, id_: CloudResourceId) -> AbstractAsyncContextManager[None]:
        """Wait for one's turn at the cloud resource, and keep it until leaving."""
        lock = self._locks.get(id_)
        if lock is None:
            lock = self._locks[id_] = asyncio.Lock()
        return lock
