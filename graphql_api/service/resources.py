"""Cloud resources: keeping manifests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from graphql_api.domain.errors import (
    CloudResourceBusy,
    CloudResourceExists,
    CloudResourceIdentityChanged,
    CloudResourceNotFound,
)
from graphql_api.domain.manifest import Examination, Manifest
from graphql_api.domain.ports import (
    RESOURCES_TOPIC,
    CloudResourceFilter,
    ResourceStore,
    Slice,
    StackUpdateFilter,
    UpdateHistory,
    Wakeups,
)
from graphql_api.domain.records import CloudResource, CloudResourceId, Status, new_id, utc_now
from graphql_api.service.manifests import Manifests
from graphql_api.service.turns import Turns

_STEP = timedelta(milliseconds=1)


class Resources:
    """Keeps manifests, each checked before it is stored. Every method but examine may raise StoreUnavailable."""

    def __init__(
        self, store: ResourceStore, history: UpdateHistory, wakeups: Wakeups, turns: Turns, manifests: Manifests
    ) -> None:
        self._store = store
        self._history = history
        self._wakeups = wakeups
        self._turns = turns
        self._manifests = manifests

    async def create(self, text: str) -> CloudResource:
        """Keep a new manifest. Raises InvalidManifest, or CloudResourceExists when its kind and name are taken."""
        return await self._insert(await self._manifests.parse(text))

    async def apply(self, text: str) -> tuple[CloudResource, bool]:
        """Keep a manifest, in place of the one with its kind and name if there is one; True says it was created.

        The same text again changes nothing. Raises InvalidManifest.
        """
        manifest = await self._manifests.parse(text)
        existing = await self._store.find(manifest.kind, manifest.name)
        while True:
            try:
                if existing is None:
                    return await self._insert(manifest), True
                return await self._replace(existing, text), False
            except CloudResourceExists as refusal:  # another caller was faster: theirs becomes the older version
                existing = refusal.cloud_resource
            except CloudResourceNotFound:  # another caller has deleted it meanwhile: this becomes a new one
                existing = None

    async def update(self, id_: CloudResourceId, text: str) -> CloudResource:
        """Keep a manifest in place of the one that the cloud resource has. The same text again changes nothing.

        Raises InvalidManifest, CloudResourceNotFound, or CloudResourceIdentityChanged when kind or name differ.
        """
        manifest = await self._manifests.parse(text)
        existing = await self._existing(id_)
        if (manifest.kind, manifest.name) != (existing.kind, existing.name):
            raise CloudResourceIdentityChanged(existing, manifest.kind, manifest.name)
        try:
            return await self._replace(existing, text)
        except CloudResourceNotFound as gone:  # it was deleted meanwhile
            raise CloudResourceNotFound(id_, "id") from gone

    async def delete(self, id_: CloudResourceId) -> tuple[CloudResource, int]:
        """Keep it no longer; gives it as it was last and how many of its stack updates stay.

        Raises CloudResourceNotFound, or CloudResourceBusy while one of its stack updates is IN_PROGRESS.
        """
        async with self._turns.of(id_):
            resource = await self._existing(id_)
            under_way = StackUpdateFilter(cloud_resource_id=id_, statuses=frozenset({Status.IN_PROGRESS}))
            if updates := await self._history.page(Slice(1), under_way):
                raise CloudResourceBusy(resource, updates[0])
            await self._store.delete(id_, utc_now())
        await self._wakeups.announce(RESOURCES_TOPIC)
        return resource, await self._history.count(StackUpdateFilter(cloud_resource_id=id_))

    async def examine(self, resource: CloudResource) -> Examination:
        """Its labels, and its stack or why it can't be deployed."""
        return await self._manifests.examine(resource.manifest)

    async def get(self, id_: CloudResourceId) -> CloudResource | None:
        return await self._store.get(id_)

    async def page(self, slice_: Slice, where: CloudResourceFilter) -> Sequence[CloudResource]:
        """Newest first."""
        return await self._store.page(slice_, where)

    async def count(self, where: CloudResourceFilter) -> int:
        return await self._store.count(where)

    async def _existing(self, id_: CloudResourceId) -> CloudResource:
        existing = await self._store.get(id_)
        if existing is None:
            raise CloudResourceNotFound(id_, "id")
        return existing

    async def _insert(self, manifest: Manifest) -> CloudResource:
        resource = _first_version(manifest)
        await self._store.insert(resource)
        await self._wakeups.announce(RESOURCES_TOPIC)
        return resource

    async def _replace(self, existing: CloudResource, text: str) -> CloudResource:
        if existing.manifest == text:
            return existing
        # Later by a millisecond at least, so that no two versions of it bear the same time.
        changed = replace(existing, manifest=text, updated_at=max(utc_now(), existing.updated_at + _STEP))
        await self._store.replace(changed)
        await self._wakeups.announce(RESOURCES_TOPIC)
        return changed


def _first_version(manifest: Manifest) -> CloudResource:
    now = utc_now()
    return CloudResource(
        id=CloudResourceId(new_id(now)),
        kind=manifest.kind,
        name=manifest.name,
        manifest=manifest.text,
        created_at=now,
        updated_at=now,
    )
