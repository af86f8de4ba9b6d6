"""Requests to the owners of stack updates in MongoDB."""

from __future__ import annotations

from collections.abc import Sequence

from graphql_api.adapters.mongo import documents, lists
from graphql_api.adapters.mongo.database import MongoDatabase, Order
from graphql_api.domain.ports import Request

_OLDEST_FIRST: Order = [("made_at", 1), ("_id", 1)]


class MongoRequests:
    def __init__(self, database: MongoDatabase) -> None:
        self._database = database
        self._collection = database.requests

    async def make(self, request: Request) -> None:
        await self._database.insert(self._collection, documents.request_document(request))

    async def open(self, limit: int) -> Sequence[Request]:
        found = await self._database.several(self._collection, {}, _OLDEST_FIRST, limit)
        return [documents.read_request(document) for document in found]

    async def settle(self, id_: str) -> None:
        key = {"_id": lists.object_id(id_)}
        await self._database.ask(lambda: self._collection.delete_one(key))
