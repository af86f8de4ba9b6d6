"""Every store, opened fresh: the contract tests run over each of them."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from pymongo import MongoClient
from pymongo.database import Database

from graphql_api.adapters import Backends, open_backends
from graphql_api.domain.ports import (
    Claims,
    EventLog,
    IdempotencyKeys,
    Requests,
    ResourceStore,
    Retention,
    UpdateHistory,
    UpdateStore,
)


@pytest.fixture
def mongodb_database_url(mongodb_url: str) -> Iterator[str]:
    """The URL of a database that is the test's own, and gone after it."""
    name = f"stackcast_test_{secrets.token_hex(6)}"
    yield urlsplit(mongodb_url)._replace(path=f"/{name}").geturl()
    with MongoClient[dict[str, object]](mongodb_url, timeoutMS=10_000, retryWrites=False) as client:
        client.drop_database(name)


@pytest.fixture(params=["sqlite-in-memory", "sqlite-on-disk", pytest.param("mongodb", marks=pytest.mark.external)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of each kind in turn."""
    if request.param == "mongodb":
        return str(request.getfixturevalue("mongodb_database_url"))
    return "sqlite:///:memory:" if request.param == "sqlite-in-memory" else f"sqlite:///{tmp_path / 'stackcast.db'}"


@pytest.fixture
async def backends(database_url: str) -> AsyncIterator[Backends]:
    async with open_backends(database_url) as opened:
        yield opened


@pytest.fixture
def resources(backends: Backends) -> ResourceStore:
    return backends.resources


@pytest.fixture
def updates(backends: Backends) -> UpdateStore:
    return backends.updates


@pytest.fixture
def history(backends: Backends) -> UpdateHistory:
    return backends.history


@pytest.fixture
def claims(backends: Backends) -> Claims:
    return backends.claims


@pytest.fixture
def events(backends: Backends) -> EventLog:
    return backends.events


@pytest.fixture
def requests(backends: Backends) -> Requests:
    return backends.requests


@pytest.fixture
def keys(backends: Backends) -> IdempotencyKeys:
    return backends.keys


@pytest.fixture
def retention(backends: Backends) -> Retention:
    return backends.retention


@pytest.fixture
def raw(mongodb_database_url: str) -> Iterator[Database[dict[str, Any]]]:
    """The test's own connection to the same database."""
    with MongoClient[dict[str, Any]](mongodb_database_url, tz_aware=True, timeoutMS=10_000) as client:
        yield client.get_default_database()


@pytest.fixture
async def mongo(mongodb_database_url: str) -> AsyncIterator[Backends]:
    async with open_backends(mongodb_database_url) as backends:
        yield backends
