"""Stack updates: accepting a deployment, and reading what became of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

from graphql_api.domain.errors import CloudResourceNotFound, QueueFull
from graphql_api.domain.manifest import stack_fqdn
from graphql_api.domain.ports import (
    QUEUE_TOPIC,
    UPDATES_TOPIC,
    Preflight,
    ResourceStore,
    Slice,
    StackUpdateFilter,
    UpdateHistory,
    UpdateStore,
    Wakeups,
)
from graphql_api.domain.records import (
    CloudResource,
    CloudResourceId,
    StackUpdate,
    StackUpdateId,
    Status,
    new_id,
    utc_now,
)
from graphql_api.service.manifests import Manifests
from graphql_api.service.turns import Turns

#: How many deployments may be accepted and not ended; more can only be a mistake, and each takes room in the database.
QUEUE_LIMIT = 10_000
_UNDER_WAY = StackUpdateFilter(statuses=frozenset({Status.IN_PROGRESS}))
_STEP = timedelta(milliseconds=1)


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
        self._wakeups = wakeups
        self._preflight = preflight
        self._turns = turns
        self._timeout_limit = timeout_limit
        self._timeout = min(timeout, timeout_limit)
        self._self_managed = self_managed
        self._manifests = manifests
        self._queue_limit = queue_limit

    async def deploy(self, resource_id: CloudResourceId, timeout: timedelta | None) -> StackUpdate:
        """Queue a deployment of the manifest as it is now, and answer at once.

        Raises CloudResourceNotFound, InvalidManifest when the labels name no stack that Pulumi takes, QueueFull, and
        what the preflight raises; then nothing is stored and no deployment started.
        """
        resource = await self._resources.get(resource_id)
        if resource is None:
            raise CloudResourceNotFound(resource_id)
        manifest = await self._manifests.parse(resource.manifest)
        fqdn = stack_fqdn(manifest, self_managed=self._self_managed)
        if await self._history.count(_UNDER_WAY) >= self._queue_limit:
            raise QueueFull(self._queue_limit)
        await self._preflight.check(manifest.kind)
        now = await self._accepted_at()
        update = StackUpdate(
            id=StackUpdateId(new_id(now)),
            cloud_resource_id=resource.id,
            stack_fqdn=fqdn,
            timeout=min(timeout or self._timeout, self._timeout_limit),
            created_at=now,
            updated_at=now,
        )
        async with self._turns.of(resource.id):
            if await self._resources.get(resource.id) is None:  # deleted while the preflight looked
                raise CloudResourceNotFound(resource.id)
            await self._updates.insert(update, resource.manifest)
        for topic in (QUEUE_TOPIC, UPDATES_TOPIC):
            await self._wakeups.announce(topic)
        return update

    async def _accepted_at(self) -> datetime:
        """The time, but later than all that waits: the queue keeps its order when the clock is set back."""
        waiting = await self._history.page(Slice(1), _UNDER_WAY)
        return max([utc_now(), *(newest.created_at + _STEP for newest in waiting)])

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
