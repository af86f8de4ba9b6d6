"""Stack updates: accepting a deployment, and reading what became of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from graphql_api.domain.errors import (
    BadUserInput,
    CloudResourceNotFound,
    IdempotencyKeyReused,
    QueueFull,
    RevisionConflict,
    StackBusy,
)
from graphql_api.domain.manifest import stack_fqdn
from graphql_api.domain.ports import (
    QUEUE_TOPIC,
    REQUESTS_TOPIC,
    UPDATES_TOPIC,
    CancelRequest,
    IdempotencyKey,
    IdempotencyKeys,
    Preflight,
    Request,
    Requests,
    ResourceStore,
    Slice,
    StackUpdateFilter,
    UpdateHistory,
    UpdateStore,
    Wakeups,
)
from graphql_api.domain.records import (
    CancellationReason,
    CloudResource,
    CloudResourceId,
    Phase,
    StackFqdn,
    StackUpdate,
    StackUpdateId,
    Status,
    new_id,
    utc_now,
)
from graphql_api.service.manifests import Manifests
from graphql_api.service.queue import under_way
from graphql_api.service.turns import CallersKey, Turns

#: How many deployments may be accepted and not ended; more can only be a mistake, and each takes room in the database.
QUEUE_LIMIT = 10_000
#: How long a caller's key stands for what was asked under it.
KEY_LIFE = timedelta(hours=24)
KEY_LENGTH = 200
_UNDER_WAY = StackUpdateFilter(statuses=frozenset({Status.IN_PROGRESS}))
_STEP = timedelta(milliseconds=1)


class WhenBusy(StrEnum):
    """What becomes of a request to deploy to a stack that has stack updates under way already.

    It waits for them; it is refused; it waits, and those before it that wait as well are cancelled; or it joins the
    newest of them, where that deploys the same manifest of the same cloud resource.
    """

    QUEUE = "queue"
    REJECT = "reject"
    SUPERSEDE_PENDING = "supersede_pending"
    JOIN = "join"


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a request to deploy led to; ``joined`` when the stack update was there before."""

    update: StackUpdate
    joined: bool = False


@dataclass(frozen=True, slots=True)
class _Wish:
    """A request to deploy as it came, with the key under which it came; that may be kept already."""

    resource_id: CloudResourceId
    timeout: timedelta | None
    when_busy: WhenBusy
    caller: str | None = None
    key: IdempotencyKey | None = None
    key_is_kept: bool = False

    @property
    def fingerprint(self) -> str:
        """What tells it from other requests under one key."""
        seconds = "-" if self.timeout is None else str(self.timeout // timedelta(seconds=1))
        return f"{self.resource_id} {seconds} {self.when_busy}"


class Updates:
    """Accepts deployments and reads stack updates. Every method may raise StoreUnavailable.

    ``timeout`` is what a deployment gets that asks for none, ``timeout_limit`` the most that one can get;
    ``self_managed`` says which rules Pulumi's backend has for organizations. ``queue_limit`` is how many deployments
    may be accepted and not ended; those that are accepted at the same moment may exceed it.
    """

    def __init__(
        self,
        resources: ResourceStore,
        updates: UpdateStore,
        history: UpdateHistory,
        requests: Requests,
        keys: IdempotencyKeys,
        wakeups: Wakeups,
        preflight: Preflight,
        turns: Turns,
        manifests: Manifests,
        *,
        timeout: timedelta,
        timeout_limit: timedelta,
        self_managed: bool,
        queue_limit: int = QUEUE_LIMIT,
    ) -> None:
        self._resources = resources
        self._updates = updates
        self._history = history
        self._requests = requests
        self._keys = keys
        self._wakeups = wakeups
        self._preflight = preflight
        self._turns = turns
        self._timeout_limit = timeout_limit
        self._timeout = min(timeout, timeout_limit)
        self._self_managed = self_managed
        self._manifests = manifests
        self._queue_limit = queue_limit

    async def deploy(
        self,
        resource_id: CloudResourceId,
        timeout: timedelta | None = None,
        when_busy: WhenBusy = WhenBusy.QUEUE,
        idempotency_key: str | None = None,
        caller: str | None = None,
    ) -> Accepted:
        """Queue a deployment of the manifest as it is now, and answer at once.

        A caller's key stands for one request: within KEY_LIFE the same request under it gets the same answer, also
        when the first one's answer was lost. ``caller`` is the caller's name; those without one share their keys.

        Raises CloudResourceNotFound, InvalidManifest when the labels name no stack that Pulumi takes, StackBusy,
        IdempotencyKeyReused, QueueFull, BadUserInput for a malformed key, and what the preflight raises; then nothing
        is stored and no deployment started.
        """
        wish = _Wish(resource_id, timeout, when_busy, caller)
        if idempotency_key is None:
            return await self._accept(wish)
        _check_key(idempotency_key)
        owner = caller or ""
        async with self._turns.of(CallersKey(owner, idempotency_key)):
            now = utc_now()
            kept = await self._keys.find(owner, idempotency_key, now - KEY_LIFE)
            if kept is None:
                key = IdempotencyKey(owner, idempotency_key, wish.fingerprint, StackUpdateId(new_id(now)), now)
                return await self._accept(replace(wish, key=key))
            if kept.fingerprint != wish.fingerprint:
                raise IdempotencyKeyReused(kept.update_id)
            if update := await self._updates.get(kept.update_id):
                return Accepted(update, joined=True)
            # The service died in between, or the store did not answer.
            return await self._accept(replace(wish, key=kept, key_is_kept=True))

    async def _accept(self, wish: _Wish) -> Accepted:
        resource = await self._existing(wish.resource_id)
        manifest = await self._manifests.parse(resource.manifest)
        stack = stack_fqdn(manifest, self_managed=self._self_managed)
        await self._preflight.check(manifest.kind)
        async with self._turns.of(stack):
            if joined := await self._joined(wish, resource, stack):
                return Accepted(joined, joined=True)
            accepted = await self._queue(wish, resource, stack)
            if wish.when_busy is WhenBusy.SUPERSEDE_PENDING and not accepted.joined:
                await self._supersede(accepted.update, stack)
        return accepted

    async def _existing(self, id_: CloudResourceId) -> CloudResource:
        resource = await self._resources.get(id_)
        if resource is None:
            raise CloudResourceNotFound(id_)
        return resource

    async def _joined(self, wish: _Wish, resource: CloudResource, stack: StackFqdn) -> StackUpdate | None:
        """The stack update that the wish joins; None when it gets one of its own. Raises StackBusy."""
        if wish.when_busy not in (WhenBusy.REJECT, WhenBusy.JOIN):
            return None
        on_stack = StackUpdateFilter(statuses=_UNDER_WAY.statuses, stack_fqdn=stack)
        newest = next(iter(await self._history.page(Slice(1), on_stack)), None)
        if newest is None:
            return None
        if wish.when_busy is WhenBusy.REJECT:
            raise StackBusy(newest)
        if wish.key_is_kept or newest.cancellation is not None or newest.cloud_resource_id != resource.id:
            return None
        if await self._updates.manifest(newest.id) != resource.manifest:
            return None
        if wish.key is not None:
            await self._keep(replace(wish.key, update_id=newest.id))
        return newest

    async def _queue(self, wish: _Wish, resource: CloudResource, stack: StackFqdn) -> Accepted:
        if await self._history.count(_UNDER_WAY) >= self._queue_limit:
            raise QueueFull(self._queue_limit)
        now = await self._accepted_at()
        update = StackUpdate(
            id=StackUpdateId(new_id(now)) if wish.key is None else wish.key.update_id,
            cloud_resource_id=resource.id,
            stack_fqdn=stack,
            timeout=min(wish.timeout or self._timeout, self._timeout_limit),
            created_at=now,
            updated_at=now,
            requested_by=wish.caller,
        )
        async with self._turns.of(resource.id):
            await self._existing(resource.id)  # it may have been deleted while the preflight looked
            if wish.key is not None:  # kept first: whoever finds it without its stack update adds that
                await self._keep(wish.key)
            try:
                await self._updates.insert(update, resource.manifest)
            except RevisionConflict:
                if not wish.key_is_kept or (late := await self._updates.get(update.id)) is None:
                    raise
                return Accepted(late, joined=True)  # what the store was given earlier took effect only now
        for topic in (QUEUE_TOPIC, UPDATES_TOPIC):
            await self._wakeups.announce(topic)
        return Accepted(update)

    async def _keep(self, key: IdempotencyKey) -> None:
        await self._keys.keep(key, utc_now() - KEY_LIFE)

    async def _accepted_at(self) -> datetime:
        """The time, but later than all that waits: the queue keeps its order when the clock is set back."""
        waiting = await self._history.page(Slice(1), _UNDER_WAY)
        return max([utc_now(), *(newest.created_at + _STEP for newest in waiting)])

    async def _supersede(self, update: StackUpdate, stack: StackFqdn) -> None:
        """Ask for the end of all that wait on the stack beside this one, where nobody has asked for it yet."""
        others = await under_way(self._history, stack)
        requests = await self._requests.open(QUEUE_LIMIT)
        asked = {request.update_id for request in requests if isinstance(request.what, CancelRequest)}
        for other in others:
            if other.phase is Phase.QUEUED and other.id != update.id and other.id not in asked:
                now = utc_now()
                what = CancelRequest(CancellationReason.SUPERSEDED, requested_by=update.requested_by)
                await self._requests.make(Request(new_id(now), other.id, now, what))
        await self._wakeups.announce(REQUESTS_TOPIC)

    async def can_deploy_again(self, update: StackUpdate, resource: CloudResource | None) -> bool:
        """True when the update has ended and its cloud resource is still kept and names a stack."""
        if not update.ended or resource is None:
            return False
        found = await self._manifests.examine(resource.manifest)
        return found.stack_fqdn is not None

    async def get(self, id_: StackUpdateId) -> StackUpdate | None:
        return await self._updates.get(id_)

    async def output(self, id_: StackUpdateId) -> str | None:
        """The output's JSON text; None while the update runs."""
        return await self._updates.output(id_)

    async def page(self, slice_: Slice, where: StackUpdateFilter) -> Sequence[StackUpdate]:
        """Newest first."""
        return await self._history.page(slice_, where)

    async def count(self, where: StackUpdateFilter) -> int:
        return await self._history.count(where)

    async def latest(self, resources: Collection[CloudResourceId]) -> Mapping[CloudResourceId, StackUpdate]:
        """The newest stack update of each of these cloud resources that has one."""
        return await self._history.latest(resources)


def _check_key(key: str) -> None:
    if not (1 <= len(key) <= KEY_LENGTH and key.isprintable()):
        raise BadUserInput(
            f"idempotencyKey must have from 1 to {KEY_LENGTH} characters, all printable, such as a UUID.",
            "idempotencyKey",
        )
