"""Cloud resources in MongoDB."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from bson import ObjectId

from graphql_api.adapters.mongo import documents, lists
from graphql_api.adapters.mongo.database import Documents, MongoDatabase
from graphql_api.adapters.mongo.documents import Document
from graphql_api.domain.errors import CloudResourceExists, CloudResourceNotFound, RevisionConflict, StoreRefused
from graphql_api.domain.ports import EVERY_RESOURCE, CloudResourceFilter, DeletedResource, Slice
from graphql_api.domain.records import CloudResource, CloudResourceId

_REMEMBERED = timedelta(days=1)


class MongoResources:
    def __init__(self, database: MongoDatabase) -> None:
        self._database = database
        self._collection = database.resources
        self._deleted = database.deleted_resources

    async def insert(self, resource: CloudResource) -> None:
        document = {"_id": ObjectId(resource.id), **documents.resource_document(resource)}
        if await self._database.insert(self._collection, document):
            return
        if await self._same_name(resource) is None:
            raise RevisionConflict(f"The id {resource.id} belongs to another cloud resource: take a new one.")

    async def replace(self, resource: CloudResource) -> None:
        key = {"_id": ObjectId(resource.id)}
        change = {"$set": documents.resource_document(resource)}  # no replacement: other programs' fields stay
        try:
            result = await self._database.ask(lambda: self._collection.update_one(key, change))
        except StoreRefused:  # servers differ in how they say that a change meets a unique key
            await self._same_name(resource)
            raise
        if not result.matched_count:
            raise CloudResourceNotFound(resource.id)

    async def get(self, id_: CloudResourceId) -> CloudResource | None:
        return await self._one({"_id": lists.object_id(id_)})

    async def find(self, kind: str, name: str) -> CloudResource | None:
        return await self._one({"kind": kind, "name": name})

    async def delete(self, id_: CloudResourceId, now: datetime) -> bool:
        """What is remembered is written first, so that no deletion is ever unknown; see changed_since.

        Of two calls for one cloud resource at once, both may be told that they deleted it.
        """
        found = False
        while resource := await self.get(id_):
            found = True
            await self._remember(DeletedResource(resource, max(now, resource.updated_at)))
            # Not what somebody else has put in its place meanwhile: that is remembered first, in the next round.
            as_read = {"_id": ObjectId(id_), "updated_at": resource.updated_at}
            await self._database.ask(lambda as_read=as_read: self._collection.delete_one(as_read))  # type: ignore[misc]
        return found

    async def page(self, slice_: Slice, where: CloudResourceFilter = EVERY_RESOURCE) -> Sequence[CloudResource]:
        condition = lists.in_slice(lists.of_resources(where), slice_)
        found = await self._database.several(self._collection, condition, lists.order_of(slice_), slice_.limit)
        return [documents.read_resource(document) for document in (found[::-1] if slice_.from_end else found)]

    async def count(self, where: CloudResourceFilter = EVERY_RESOURCE) -> int:
        return await self._database.ask(lambda: self._collection.count_documents(lists.of_resources(where)))

    async def changed_since(self, moment: datetime, limit: int) -> Sequence[CloudResource | DeletedResource]:
        # Those that are kept are read first: what is deleted between the two questions is then in both answers.
        kept = await self._since(self._collection, "updated_at", moment, limit)
        deleted = await self._since(self._deleted, "deleted_at", moment, limit)
        still_there = await self._still_there([document["_id"] for document in deleted])
        # What was deleted comes first within a millisecond: another may have got its name in the same one.
        changes = [
            *((document["deleted_at"], 0, document) for document in deleted if document["_id"] not in still_there),
            *((document["updated_at"], 1, document) for document in kept),
        ]
        changes.sort(key=lambda change: (change[0], change[1], change[2]["_id"]))
        readers = (documents.read_deleted, documents.read_resource)
        return [readers[reader](document) for _, reader, document in changes[:limit]]

    async def _since(self, collection: Documents, field: str, moment: datetime, limit: int) -> list[Document]:
        return await self._database.several(collection, {field: {"$gte": moment}}, [(field, 1), ("_id", 1)], limit)

    async def _still_there(self, ids: list[ObjectId]) -> set[ObjectId]:
        """Those of them whose deletion was begun only."""
        if not ids:
            return set()
        found = await self._database.ask(lambda: self._collection.find({"_id": {"$in": ids}}, {"_id": 1}).to_list(None))
        return {document["_id"] for document in found}

    async def _remember(self, deleted: DeletedResource) -> None:
        old = {"deleted_at": {"$lt": deleted.deleted_at - _REMEMBERED}}
        await self._database.ask(lambda: self._deleted.delete_many(old))
        key = {"_id": ObjectId(deleted.resource.id)}
        document = documents.deleted_document(deleted)
        if not await self._database.insert(self._deleted, {**key, **document}):
            await self._database.ask(lambda: self._deleted.replace_one(key, document))

    async def _same_name(self, resource: CloudResource) -> CloudResource | None:
        """The stored record with its kind and name; CloudResourceExists when that is another one."""
        existing = await self.find(resource.kind, resource.name)
        if existing and existing.id != resource.id:
            raise CloudResourceExists(existing)
        return existing

    async def _one(self, where: Document) -> CloudResource | None:
        document = await self._database.ask(lambda: self._collection.find_one(where))
        return documents.read_resource(document) if document else None
