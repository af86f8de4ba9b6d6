"""Queries that a client sends once and then names by their hash, in the way of Apollo's automatic persisted queries."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graphql_api.schema.operations import RequestRefused
from graphql_api.transport.request import BadRequest

#: How many bytes of queries are kept; of more, those that were used least recently go.
KEPT_BYTES = 4 * 1024 * 1024


class PersistedQueries:
    """Keeps queries by their SHA-256, up to ``limit`` bytes, for as long as the service runs."""

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        self._limit = limit
        self._size = 0
        self._queries = OrderedDict[str, str]()

    def find(self, query: str | None, extensions: Mapping[str, Any]) -> NamedQuery:
        """The query of a request: its own, or the one that it names. Raises RequestRefused."""
        if extensions.get("persistedQuery") is None:
            return NamedQuery(query or "")
        name = _name(extensions["persistedQuery"])
        if query is not None:
            if _hash(query) != name:
                raise BadRequest("'sha256Hash' is not the SHA-256 of 'query'. Send the right one.")
            return NamedQuery(query, name, self)
        if name not in self._queries:
            # Apollo's clients look for this very message, and then send the query with its hash.
            raise RequestRefused.saying("PERSISTED_QUERY_NOT_FOUND", "PersistedQueryNotFound")
        self._queries.move_to_end(name)
        return NamedQuery(self._queries[name])

    def keep(self, name: str, query: str) -> None:
        """Keep a query under its hash."""
        if name not in self._queries and len(query.encode()) <= self._limit:
            self._queries[name] = query
            self._size += len(query.encode())
            while self._size > self._limit:
                _, oldest = self._queries.popitem(last=False)
                self._size -= len(oldest.encode())


@dataclass(frozen=True, slots=True)
class NamedQuery:
    """A query, and where to keep it under which name if it turns out to be right."""

    query: str
    name: str | None = None
    store: PersistedQueries | None = None

    def keep(self) -> None:
        """Keep it for those who name it: it is right."""
        if self.store is not None and self.name is not None:
            self.store.keep(self.name, self.query)


def _name(given: object) -> str:
    if not isinstance(given, dict) or given.get("version") != 1 or not isinstance(given.get("sha256Hash"), str):
        raise BadRequest("'persistedQuery' must be an object with 'version' 1 and the string 'sha256Hash'.")
    name: str = given["sha256Hash"]
    return name


def _hash(query: str) -> str:
    return hashlib.sha256(query.encode(errors="surrogatepass")).hexdigest()
