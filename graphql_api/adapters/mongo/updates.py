"""Stack updates in MongoDB, one by one and in lists."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from bson import ObjectId

from graphql_api.adapters.mongo import documents, lists
from graphql_api.adapters.mongo.database import WITHOUT_TEXTS, MongoDatabase
from graphql_api.adapters.mongo.documents import Document
from graphql_api.domain.errors import RevisionConflict
from graphql_api.domain.ports import EVERY_UPDATE, Slice, StackUpdateFilter
from graphql_api.domain.records import CloudResourceId, Phase, StackFqdn, StackUpdate, StackUpdateId, Status

_FINDS_AT_ONCE = 8


class MongoUpdates:
    def __init__(self, database: MongoDatabase) -> None:
        self._database = database
        self._collection = database.updates

    async def insert(self, update: StackUpdate, manifest: str) -> None:
        document = documents.update_document(update)
        whole = {"_id": ObjectId(update.id), **document, "manifest": manifest}
        if await self._database.insert(self._collection, whole):
            return
        stored = await self.get(update.id)
        if stored is None or not documents.same_identity(documents.update_document(stored), document):
            raise RevisionConflict(f"The id {update.id} belongs to another stack update: take a new one.")

    async def save(self, update: StackUpdate, output: str | None = None) -> None:
        document = documents.update_document(update)
        expected = update.revision - 1
        key = {
            "_id": ObjectId(update.id),
            "revision": {"$in": [expected, None]} if expected == 1 else expected,  # other programs write none
            "status": Status.IN_PROGRESS.value,
        }
        change = document if output is None else {**document, "output": output}
        result = await self._database.ask(lambda: self._collection.update_one(key, {"$set": change}))
        if result.matched_count:
            return
        stored = await self.get(update.id)
        if stored is None or documents.update_document(stored) != document:
            raise RevisionConflict(f"The stack update {update.id} has changed since it was read: read it again.")

    async def get(self, id_: StackUpdateId) -> StackUpdate | None:
        key = {"_id": lists.object_id(id_)}
        found = await self._database.several(self._collection, key, lists.NEWEST_FIRST, 1)
        return documents.read_update(found[0]) if found else None

    async def manifest(self, id_: StackUpdateId) -> str | None:
        return (await self._one(id_, {"manifest": 1}) or {}).get("manifest")

    async def output(self, id_: StackUpdateId) -> str | None:
        return (await self._one(id_, {"output": 1}) or {}).get("output")

    async def next_queued(self, busy: Collection[StackFqdn] = ()) -> StackUpdate | None:
        where = {"phase": Phase.QUEUED.value, "stack_fqdn": {"$nin": list(busy)}}
        found = await self._database.several(self._collection, where, lists.OLDEST_FIRST, 1)
        return documents.read_update(found[0]) if found else None

    async def _one(self, id_: StackUpdateId, fields: Mapping[str, int]) -> Document | None:
        return await self._database.ask(lambda: self._collection.find_one({"_id": lists.object_id(id_)}, fields))


class MongoHistory:
    def __init__(self, database: MongoDatabase) -> None:
        self._database = database
        self._collection = database.updates

    async def page(self, slice_: Slice, where: StackUpdateFilter = EVERY_UPDATE) -> Sequence[StackUpdate]:
        condition = lists.in_slice(lists.of_updates(where), slice_)
        found = await self._database.several(self._collection, condition, lists.order_of(slice_), slice_.limit)
        return [documents.read_update(document) for document in (found[::-1] if slice_.from_end else found)]

    async def count(self, where: StackUpdateFilter = EVERY_UPDATE) -> int:
        return await self._database.ask(lambda: self._collection.count_documents(lists.of_updates(where)))

    async def latest(self, resources: Collection[CloudResourceId]) -> Mapping[CloudResourceId, StackUpdate]:
        """One index search for each cloud resource, some at a time, and all within the limit of one call.

        Not all servers of this protocol can pick the first document of a group (``$first``).
        """
        wanted = set(resources)
        newest = [
            documents.read_update(one) for one in await self._database.ask(lambda: self._newest_of(wanted)) if one
        ]
        return {update.cloud_resource_id: update for update in newest}

    async def _newest_of(self, resources: Collection[CloudResourceId]) -> list[Document | None]:
        at_once = asyncio.Semaphore(_FINDS_AT_ONCE)

        async def find(id_: CloudResourceId) -> Document | None:
            async with at_once:
                where = {"cloud_resource_id": id_}
                return await self._collection.find_one(where, WITHOUT_TEXTS, sort=lists.NEWEST_FIRST)

        try:
            async with asyncio.TaskGroup() as tasks:
                finding = [tasks.create_task(find(id_), name=f"newest of {id_}") for id_ in resources]
        except ExceptionGroup as group:  # of the driver's errors, which are translated one by one
            raise group.exceptions[0] from group
        return [task.result() for task in finding]

    async def changed_since(self, moment: datetime, limit: int) -> Sequence[StackUpdate]:
        order = [("updated_at", 1), ("_id", 1)]
        where = {"updated_at": {"$gte": moment}}
        return [
            documents.read_update(one) for one in await self._database.several(self._collection, where, order, limit)
        ]
