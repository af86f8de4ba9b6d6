"""What the service and the runners ask of the outside. The docstrings are the contract; tests/contracts holds
every adapter to it.

All methods of the stores may raise StoreUnavailable; after it, the call may or may not have taken effect, and
the same call may be made again. Lists are in one order, newest first: by ``created_at``, then by id, both falling.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from graphql_api.domain.records import (
    Claim,
    CloudResource,
    CloudResourceId,
    Operation,
    StackFqdn,
    StackUpdate,
    StackUpdateId,
    Status,
)

#: The topic on which a newly queued stack update, or a stack that became free, is announced.
QUEUE_TOPIC = "queue"
#: The topic on which any change of any stack update is announced; each is announced under its own id as well.
UPDATES_TOPIC = "stack updates"
#: The topic on which any change, or the deletion, of any cloud resource is announced.
RESOURCES_TOPIC = "cloud resources"


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a list: after the record with this ``created_at`` and id, whether or not it is still there."""

    created_at: datetime
    id: str


@dataclass(frozen=True, slots=True)
class Slice:
    """The part of a list to give: of the records after ``after`` and before ``before`` (in the list's order, the
    cursors themselves excluded) the first ``limit``, or the last ``limit`` when ``from_end``.

    Either way they come in the list's order.
    """

    limit: int
    after: Cursor | None = None
    before: Cursor | None = None
    from_end: bool = False


@dataclass(frozen=True, slots=True)
class CloudResourceFilter:
    """Which cloud resources to list; None does not restrict. Kind and name are compared exactly."""

    kind: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class StackUpdateFilter:
    """Which stack updates to list; None does not restrict, an empty set allows none.

    ``created_after`` and ``created_before`` exclude the moment itself.
    """

    cloud_resource_id: CloudResourceId | None = None
    statuses: frozenset[Status] | None = None
    operations: frozenset[Operation] | None = None
    stack_fqdn: StackFqdn | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


EVERY_RESOURCE = CloudResourceFilter()
EVERY_UPDATE = StackUpdateFilter()


@dataclass(frozen=True, slots=True)
class DeletedResource:
    """A cloud resource that is no longer kept, as it was last."""

    resource: CloudResource
    deleted_at: datetime


class ResourceStore(Protocol):
    """Keeps cloud resources, and for a day the memory of those that were deleted."""

    async def insert(self, resource: CloudResource) -> None:
        """Add it. Raises CloudResourceExists when the (kind, name) is taken by another id.

        Inserting the same record again does nothing; another record under its id raises RevisionConflict.
        """

    async def replace(self, resource: CloudResource) -> None:
        """Put it in the place of the record with its id.

        Raises CloudResourceNotFound when there is none, CloudResourceExists when its (kind, name) is another's.
        """

    async def get(self, id_: CloudResourceId) -> CloudResource | None: ...

    async def find(self, kind: str, name: str) -> CloudResource | None: ...

    async def delete(self, id_: CloudResourceId, now: datetime) -> bool:
        """Keep it no longer; False when there was none. Its stack updates stay. Its (kind, name) is free again."""

    async def page(self, slice_: Slice, where: CloudResourceFilter = EVERY_RESOURCE) -> Sequence[CloudResource]: ...

    async def count(self, where: CloudResourceFilter = EVERY_RESOURCE) -> int: ...

    async def changed_since(self, moment: datetime, limit: int) -> Sequence[CloudResource | DeletedResource]:
        """What was created, replaced or deleted at or after the moment, in the order in which that happened.

        At most ``limit``, the earliest first; a caller that gets ``limit`` asks again from the last one's moment.
        """


class UpdateStore(Protocol):
    """Keeps stack updates, and beside each the manifest it was accepted with and its output."""

    async def insert(self, update: StackUpdate, manifest: str) -> None:
        """Add it. Inserting the same record again does nothing; another under its id raises RevisionConflict."""

    async def save(self, update: StackUpdate, output: str | None = None) -> None:
        """Put it in the place of the stored record, which must be one revision older and not ended.

        ``output`` is stored when given. Saving the same record again does nothing. Raises RevisionConflict when
        the stored record is any other, and then nothing has changed.
        """

    async def get(self, id_: StackUpdateId) -> StackUpdate | None: ...

    async def manifest(self, id_: StackUpdateId) -> str | None:
        """The manifest as accepted; None when the update is unknown or was written without one."""

    async def output(self, id_: StackUpdateId) -> str | None:
        """The output's JSON; None when the update is unknown or has none yet."""

    async def next_queued(self, busy: Collection[StackFqdn] = ()) -> StackUpdate | None:
        """The oldest update in phase QUEUED whose stack is not among ``busy``; None when there is none."""


class UpdateHistory(Protocol):
    """Reads stack updates in lists."""

    async def page(self, slice_: Slice, where: StackUpdateFilter = EVERY_UPDATE) -> Sequence[StackUpdate]: ...

    async def count(self, where: StackUpdateFilter = EVERY_UPDATE) -> int: ...

    async def latest(self, resources: Collection[CloudResourceId]) -> Mapping[CloudResourceId, StackUpdate]:
        """The newest stack update of each of these cloud resources that has one, in one question to the store."""

    async def changed_since(self, moment: datetime, limit: int) -> Sequence[StackUpdate]:
        """Every stack update whose ``updated_at`` is at or after the moment, by ``updated_at``, then id, both rising.

        At most ``limit``, the earliest first; a caller that gets ``limit`` asks again from the last one's moment.
        """


class Claims(Protocol):
    """Who may start or end updates of a stack. The only atomic step is the insert under (stack, epoch)."""

    async def current(self, stack: StackFqdn) -> Claim | None:
        """The claim with the highest epoch, ended or not; None when the stack was never claimed."""

    async def claim(self, claim: Claim) -> bool:
        """Insert it; False when its (stack, epoch) is taken by another nonce.

        Of any number of concurrent calls for one (stack, epoch) exactly one answers True. Claiming again with
        the same nonce answers True.
        """

    async def renew(self, claim: Claim, expires_at: datetime) -> None:
        """Move its expiry."""

    async def end(self, claim: Claim) -> None:
        """Mark it ended. Ending it again does nothing."""


class Wakeup(Protocol):
    """A place to wait at until something on a topic may have changed."""

    async def wait(self, limit: timedelta = timedelta(seconds=1)) -> None:
        """Return when the topic was announced since the last return, or after ``limit``; re-read in any case."""


class Wakeups(Protocol):
    """Announces that something changed. An announcement may be lost or doubled, so listeners also re-read."""

    async def announce(self, topic: str) -> None:
        """Wake everyone who listens to the topic. Never waits for them."""

    def listen(self, topic: str) -> AbstractAsyncContextManager[Wakeup]:
        """Listen from entering to leaving. Listen first, read second, wait third: so nothing is missed."""


class Preflight(Protocol):
    """Asks, before a deployment is accepted, whether it could start at all."""

    async def check(self, kind: str) -> None:
        """Raises ModuleNotFound, ModuleInvalid or PulumiNotFound; starts no deployment and writes nothing.

        It may start ``pulumi version`` and wait for its answer.
        """
