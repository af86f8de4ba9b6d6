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
from typing import Any, Protocol

from graphql_api.domain.events import Event, EventKind
from graphql_api.domain.records import (
    CancellationReason,
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
#: The topic on which a request to the owner of a stack update is announced.
REQUESTS_TOPIC = "requests"


def events_topic(update_id: StackUpdateId) -> str:
    """The topic on which each append to a stack update's log is announced."""
    return f"events of {update_id}"


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


#: About how many bytes of events one read of a log brings at most.
READ_LIMIT = 1024 * 1024

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
        the same nonce answers True. An epoch below the current one may be free again: whoever was told True reads
        ``current`` before acting on it.
        """

    async def renew(self, claim: Claim, expires_at: datetime) -> None:
        """Move its expiry."""

    async def end(self, claim: Claim) -> None:
        """Mark it ended, and keep those of its stack with a lower epoch no longer. Ending it again does nothing."""


@dataclass(frozen=True, slots=True)
class Closing:
    """What the record of an ended stack update is to be, and its output; the last chunk of its log carries it.

    So the log alone decides how a stack update ended, and a record that was not written any more can be made from it.
    """

    update: StackUpdate
    output: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """One append to the log of a stack update; (update_id, number) is unique.

    Numbers and seqs count from 1 without a gap over all owners. ``events`` is never empty. ``epoch`` and ``nonce`` are
    those of the writer's claim. ``place`` says where the writer stands in what it reads, in JSON's values, for its
    successor. After a chunk with a ``closing`` no other follows.
    """

    update_id: StackUpdateId
    number: int
    epoch: int
    nonce: str
    events: tuple[Event, ...]
    place: Mapping[str, Any]
    closing: Closing | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """What is kept of a log: from ``first_seq`` to ``last_seq``."""

    first_seq: int
    last_seq: int


@dataclass(frozen=True, slots=True)
class LogPage:
    """A part of a log. ``seq`` is where to go on: the last that was looked at, also where it was not asked for."""

    events: Sequence[Event]
    seq: int
    has_more: bool


class EventLog(Protocol):
    """Keeps the events of each stack update. The only atomic step is the insert under (update, number)."""

    async def append(self, chunk: Chunk) -> bool:
        """Insert it; False when its (update, number) is taken by a chunk of another nonce.

        Of any number of concurrent calls for one (update, number) with different nonces exactly one answers True.
        Appending again with the same nonce answers True and changes nothing.
        """

    async def last(self, update_id: StackUpdateId) -> Chunk | None:
        """The chunk with the highest number; None when the log is empty."""

    async def span(self, update_id: StackUpdateId) -> Span | None:
        """The first and the last seq that are kept; None when the log is empty."""

    async def read(
        self, update_id: StackUpdateId, after: int, limit: int, kinds: frozenset[EventKind] | None = None
    ) -> LogPage:
        """The events with a seq over ``after``, in their order, at most ``limit``, of these kinds or of all.

        It may stop earlier, at READ_LIMIT bytes or so, but never at none where there is one.
        """


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """End the stack update; ``force`` skips the wait for the next stage, where it is being ended already.

    ``requested_by`` is the name of the caller who asks, where they have one.
    """

    reason: CancellationReason
    force: bool = False
    requested_by: str | None = None


@dataclass(frozen=True, slots=True)
class ExtendRequest:
    """Let the stack update run for this time, from its start."""

    timeout: timedelta


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody asks of the owner of a stack update; ``id`` is made like those of records."""

    id: str
    update_id: StackUpdateId
    made_at: datetime
    what: CancelRequest | ExtendRequest


class Requests(Protocol):
    """Carries what others ask to the owner, also over its death."""

    async def make(self, request: Request) -> None:
        """Add it. Making the same again does nothing."""

    async def open(self, limit: int) -> Sequence[Request]:
        """Those that are not settled, the oldest first (by ``made_at``, then id), at most ``limit``."""

    async def settle(self, id_: str) -> None:
        """Keep it no longer: it was heeded, or came too late. Settling it again does nothing."""


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """That a caller has asked under this key before, with this input, and what became of it.

    ``caller`` is the caller's name, and empty for all who have none. ``fingerprint`` tells inputs apart; ``update_id``
    is the stack update that the caller was answered with.
    """

    caller: str
    key: str
    fingerprint: str
    update_id: StackUpdateId
    created_at: datetime


class IdempotencyKeys(Protocol):
    """Remembers for a day what was asked under which key; (caller, key) is unique."""

    async def find(self, caller: str, key: str, since: datetime) -> IdempotencyKey | None:
        """The one that was kept at or after ``since``; None when there is none."""

    async def keep(self, key: IdempotencyKey, since: datetime) -> IdempotencyKey:
        """Insert it and return it, or the one that was kept under its (caller, key) at or after ``since``.

        All that is older than ``since`` is forgotten first. Of any number of concurrent calls for one (caller, key)
        all return the same.
        """


class Retention(Protocol):
    """Forgets ended stack updates, a little with each call.

    Nobody is told: what is forgotten ended long ago, is the oldest of its list, and is just not found any more.
    """

    async def deployed(self, after: CloudResourceId | None, limit: int) -> Sequence[CloudResourceId]:
        """Cloud resources that have stack updates, deleted ones too, by id: at most ``limit`` behind ``after``."""

    async def expired(
        self, resource: CloudResourceId, before: datetime, keep: int, limit: int
    ) -> Sequence[StackUpdateId]:
        """The stack updates of this cloud resource that ended before the moment, but for the newest that ended.

        Of those that ended, the newest ``keep`` are left out, however old. At most ``limit``, the oldest first.
        """

    async def forget(self, id_: StackUpdateId) -> bool:
        """Forget the stack update: its record, manifest and output, what refers to it, and a part of its log.

        From the first call on it is not found any more. True once nothing is left; until then call again. One that
        has not ended stays as it is, which answers True.
        """

    async def half_forgotten(self, limit: int) -> Sequence[StackUpdateId]:
        """Those of which ``forget`` has not yet answered True, such as after a crash."""


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
