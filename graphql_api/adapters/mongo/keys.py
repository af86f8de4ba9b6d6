"""Idempotency keys in MongoDB."""

from __future__ import annotations

from datetime import datetime

from graphql_api.adapters.mongo import documents, lists
from graphql_api.adapters.mongo.database import MongoDatabase
from graphql_api.domain.ports import IdempotencyKey


class MongoKeys:
    def __init__(self, database: MongoDatabase) -> None:
        self._database = database
        self._collection = database.keys

    async def find(self, caller: str, key: str, since: datetime) -> IdempotencyKey | None:
        where = {"caller": caller, "key": key, "created_at": {"$gte": lists.cut_up(since)}}
        document = await self._database.ask(lambda: self._collection.find_one(where))
        return documents.read_key(document) if document else None

    async def keep(self, key: IdempotencyKey, since: datetime) -> IdempotencyKey:
        """Each has an id of its own beside the unique (caller, key).

        A server that looks for what is to be deleted first, and then deletes it by its id, so never deletes what
        somebody else has put in its place meanwhile.
        """
        document = documents.key_document(key)
        old = {"created_at": {"$lt": lists.cut_up(since)}}
        while True:  # to the second round only when what was in the way is forgotten just now
            await self._database.ask(lambda: self._collection.delete_many(old))
            if await self._database.insert(self._collection, document):
                return documents.read_key(document)
            if kept := await self.find(key.caller, key.key, since):
                return kept
