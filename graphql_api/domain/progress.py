"""How far a deployment has come: its Pulumi resources, each with what is done to it and how that stands."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum


class ResourceOperation(StrEnum):
    """What Pulumi does to a resource; the values are the words of its engine, and OTHER stands for its later ones.

    A replacement is three: its CREATE_REPLACEMENT, the REPLACE that ties both, and the DELETE_REPLACED of the old one.
    """

    SAME = "same"
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    REPLACE = "replace"
    CREATE_REPLACEMENT = "create-replacement"
    DELETE_REPLACED = "delete-replaced"
    READ = "read"
    REFRESH = "refresh"
    IMPORT = "import"
    OTHER = "other"


class ResourceState(StrEnum):
    """How an operation on a resource stands. INTERRUPTED: Pulumi began it, and ended without a word of its end."""

    IN_PROGRESS = "in_progress"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class ResourceProgress:
    """One operation on one resource; ``urn`` and ``operation`` together name it."""

    urn: str
    type: str
    operation: ResourceOperation
    state: ResourceState
    started_at: datetime
    ended_at: datetime | None = None

    @property
    def name(self) -> str:
        """The resource's name in its program: what stands last in its URN."""
        return self.urn.rpartition("::")[2]


@dataclass(frozen=True, slots=True)
class ProgressCount:
    """How many operations of one kind stand so."""

    operation: ResourceOperation
    state: ResourceState
    count: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How many operations stand how, and how many there will be.

    ``total`` is a guess from the stack's last successful update until this one has ended; None when there was none.
    """

    counts: tuple[ProgressCount, ...] = ()
    total: int | None = None

    def count(self, *states: ResourceState) -> int:
        """How many operations are in one of these states."""
        return sum(entry.count for entry in self.counts if entry.state in states)

    @property
    def left(self) -> int:
        """How many resources the stack had after a success: all but those that were, or were to be, deleted."""
        return sum(entry.count for entry in self.counts if entry.operation not in _LEAVE_NONE)


NO_PROGRESS = Progress()
_LEAVE_NONE = frozenset({ResourceOperation.DELETE, ResourceOperation.DELETE_REPLACED, ResourceOperation.REPLACE})


class Resources:
    """The resources of one deployment, in the order in which Pulumi began with them."""

    def __init__(self) -> None:
        self._by_key: dict[tuple[str, ResourceOperation], ResourceProgress] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def put(self, resource: ResourceProgress) -> None:
        """Note how an operation stands now; it keeps the time at which it was first heard of."""
        key = resource.urn, resource.operation
        known = self._by_key.get(key)
        self._by_key[key] = replace(resource, started_at=known.started_at) if known else resource

    def all(self) -> list[ResourceProgress]:
        """Every one as it stands."""
        return list(self._by_key.values())

    def unfinished(self) -> list[ResourceProgress]:
        """Those whose end Pulumi has not told."""
        return [one for one in self._by_key.values() if one.state is ResourceState.IN_PROGRESS]

    def progress(self, total: int | None) -> Progress:
        """Their counts, in the order of the operations and states; ``total`` is never less than what is there."""
        counter = Counter((one.operation, one.state) for one in self._by_key.values())
        counts = tuple(
            ProgressCount(operation, state, counter[operation, state])
            for operation in ResourceOperation
            for state in ResourceState
            if (operation, state) in counter
        )
        return Progress(counts, None if total is None else max(total, len(self)))
