"""Cloud resources: keeping manifests."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from graphql_api.domain.errors import CloudResourceExists
from graphql_api.domain.manifest import Examination, Manifest, examine, parse
from graphql_api.domain.ports import Cursor, ResourceStore
from graphql_api.domain.records import CloudResource, CloudResourceId, new_id, utc_now


class Resources:
    """Keeps manifests, each checked before it is stored. The async methods may raise StoreUnavailable.

    ``self_managed`` says which rules Pulumi's backend has for organizations.
    """

    def __init__(self, store: ResourceStore, *, self_managed: bool) -> None:
        self._store = store
        self._self_managed = self_managed

    async def create(self, text: str) -> CloudResource:
        """Keep a new manifest. Raises InvalidManifest, or CloudResourceExists when its kind and name are taken."""
        manifest = await asyncio.to_thread(parse, text)
        resource = _first_version(manifest)
        await self._store.insert(resource)
        return resource

    async def apply(self, text: str) -> tuple[CloudResource, bool]:
        """Keep a manifest, in place of the one with its kind and name if there is one; True says it was created.

        The same text again changes nothing. Raises InvalidManifest.
        """
        manifest = await asyncio.to_thread(parse, text)
        existing = await self._store.find(manifest.kind, manifest.name)
        if existing is None:
            try:
                resource = _first_version(manifest)
                await self._store.insert(resource)
            except CloudResourceExists as refusal:  # another caller was faster: theirs becomes the older version
                existing = refusal.cloud_resource
            else:
                return resource, True
        if existing.manifest == text:
            return existing, False
        changed = replace(existing, manifest=text, updated_at=max(utc_now(), existing.updated_at))
        await self._store.replace(changed)
        return changed, False

    def examine(self, resource: CloudResource) -> Examination:
        """Its labels, and its stack or why it can't be deployed."""
        return examine(resource.manifest, self_managed=self._self_managed)

    async def get(self, id_: CloudResourceId) -> CloudResource | None:
        return await self._store.get(id_)

    async def page(self, first: int, after: Cursor | None) -> Sequence[CloudResource]:
        """Newest first."""
        return await self._store.page(first, after)

    async def count(self) -> int:
        return await self._store.count()


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
