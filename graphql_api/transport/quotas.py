"""How much one caller may have going on at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from graphql_api.domain.callers import Caller


class QuotaExceeded(Exception):
    """The caller has as much going on as it may: something has to end first. Says so in a sentence."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How many sockets, and operations on all its ways together, a caller may have open at once."""

    sockets: int = 5_000
    operations: int = 10_000


class Quotas:
    """Counts for each caller: by the name of its token, or else by where it asks from."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._sockets = Counter[str]()
        self._operations = Counter[str]()

    def socket(self, caller: str) -> AbstractContextManager[None]:
        """Counts a socket while it is open. Entering raises QuotaExceeded."""
        return _counted(self._sockets, caller, self._limits.sockets, "websockets")

    def operation(self, caller: str) -> AbstractContextManager[None]:
        """Counts an operation while it is under way. Entering raises QuotaExceeded."""
        return _counted(self._operations, caller, self._limits.operations, "operations")

    @property
    def open(self) -> int:
        """How many sockets and operations there are, of all callers."""
        return self._sockets.total() + self._operations.total()


@contextmanager
def _counted(counts: Counter[str], caller: str, limit: int, what: str) -> Iterator[None]:
    if counts[caller] >= limit:
        raise QuotaExceeded(f"This caller has {limit} {what} open, which is as many as it may. End some of them first.")
    counts[caller] += 1
    try:
        yield
    finally:
        counts[caller] -= 1
        if counts[caller] == 0:
            del counts[caller]


def quota_name(caller: Caller, client: tuple[str, int] | None) -> str:
    """Under which name a caller is counted."""
    return f"token {caller.name}" if caller.name is not None else f"host {client[0] if client else ''}"
