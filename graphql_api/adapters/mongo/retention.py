"""Forgetting stack updates in MongoDB.

There are no transactions: that one is to be forgotten is written down first, and is the last to go.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from graphql_api.adapters.mongo import lists
from graphql_api.adapters.mongo.database import Documents, MongoDatabase, Order
from graphql_api.adapters.mongo.documents import Document
from graphql_api.domain.records import CloudResourceId, StackUpdateId, Status

_ENDED = [status.value for status in Status if status is not Status.IN_PROGRESS]
_PLACE = {"created_at": 1}  # and the id
_CHUNKS = 32  # of a log in one step


class MongoRetention:
    def __init__(self, database: MongoDatabase) -> None:
        self._database = database
        self._updates = database.updates

    async def deployed(self, after: CloudResourceId | None, limit: int) -> Sequence[CloudResourceId]:
        """One index search for each: from one to the next, without a look at the stack updates in between."""
        found = list[CloudResourceId]()
        while len(found) < limit:
            document = await self._next_resource(found[-1] if found else after)
            if document is None:
                break
            found.append(CloudResourceId(document["cloud_resource_id"]))
        return found

    async def expired(
        self, resource: CloudResourceId, before: datetime, keep: int, limit: int
    ) -> Sequence[StackUpdateId]:
        ended: Document = {"cloud_resource_id": resource, "status": {"$in": _ENDED}}
        newest = await self._newest(ended, keep)
        if newest is None:
            return []
        accepted, moment = newest["created_at"], lists.cut_up(before)
        where = {
            **ended,
            "updated_at": {"$lt": moment},
            "created_at": {"$lte": min(accepted, moment)},  # none was accepted after it ended
            "$or": [{"created_at": {"$lt": accepted}}, {"_id": {"$lte": newest["_id"]}}],
        }
        found = await self._places(self._updates, where, lists.OLDEST_FIRST, limit)
        return [StackUpdateId(str(document["_id"])) for document in found]

    async def forget(self, id_: StackUpdateId) -> bool:
        key = {"_id": lists.object_id(id_)}
        document = await self._database.ask(lambda: self._updates.find_one(key, {"status": 1}))
        if document is None or document["status"] != Status.IN_PROGRESS.value:
            await self._database.insert(self._database.half_forgotten, dict(key))
            await self._forget_record(id_)
            if not await self._forget_chunks(id_):
                return False
        await self._database.ask(lambda: self._database.half_forgotten.delete_one(key))
        return True

    async def half_forgotten(self, limit: int) -> Sequence[StackUpdateId]:
        found = await self._places(self._database.half_forgotten, {}, [("_id", 1)], limit)
        return [StackUpdateId(str(document["_id"])) for document in found]

    async def _next_resource(self, after: CloudResourceId | None) -> Document | None:
        where, order = {"cloud_resource_id": {"$gt": after or ""}}, [("cloud_resource_id", 1)]
        return await self._database.ask(lambda: self._updates.find_one(where, {"cloud_resource_id": 1}, sort=order))

    async def _newest(self, ended: Document, keep: int) -> Document | None:
        """The newest one that is not kept for being among the newest."""
        order = lists.NEWEST_FIRST
        return await self._database.ask(lambda: self._updates.find_one(ended, _PLACE, sort=order, skip=keep))

    async def _forget_record(self, id_: StackUpdateId) -> None:
        key, of_it = {"_id": lists.object_id(id_)}, {"update_id": id_}
        # First what refers to it: for a caller's key without a record another would be made under this id.
        for collection in (self._database.keys, self._database.requests):
            await self._database.ask(lambda collection=collection: collection.delete_many(of_it))  # type: ignore[misc]
        await self._database.ask(lambda: self._updates.delete_one(key))

    async def _forget_chunks(self, id_: StackUpdateId) -> bool:
        """Delete some of its log; False when there may be more."""
        found = await self._places(self._database.events, {"update_id": id_}, [("last_seq", 1)], _CHUNKS)
        chunks = {"_id": {"$in": [document["_id"] for document in found]}}
        if found:
            await self._database.ask(lambda: self._database.events.delete_many(chunks))
        return len(found) < _CHUNKS

    async def _places(self, collection: Documents, where: Document, order: Order, limit: int) -> list[Document]:
        return await self._database.ask(lambda: collection.find(where, _PLACE).sort(order).limit(limit).to_list(limit))
