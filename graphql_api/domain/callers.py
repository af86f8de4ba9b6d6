"""Who asks, and what they may ask for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Right(Enum):
    """What a caller may do."""

    #: Query and subscribe.
    READ = "read"
    #: Mutate.
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends operations. ``name`` is that of their token; None where the service knows them by no name."""

    name: str | None
    rights: frozenset[Right]


#: Whoever reaches a service that asks for no token.
ANYBODY = Caller(None, frozenset(Right))
