"""A question to a MongoDB that changes nothing there."""

from __future__ import annotations

from datetime import timedelta

from graphql_api.adapters.mongo.database import open_mongo


async def probe_mongo(url: str, limit: timedelta) -> str:
    """What is there, in a sentence.

    Raises StartRefused, StoreRefused or StoreUnavailable, with what to do and without the URL.
    """
    async with open_mongo(url, limit) as database:
        await database.ping()
        await database.ask(lambda: database.resources.find_one({}, {"_id": 1}))
    return "MongoDB answers."
