"""What is MongoDB's own: the documents of the Go backend, indexes, and broken connections."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any
from urllib.parse import SplitResult, urlsplit

import pytest
from bson import ObjectId
from pymongo import MongoClient
from pymongo.database import Database

from graphql_api.adapters import Backends, open_backends
from graphql_api.domain.errors import RevisionConflict, StoreRefused, StoreUnavailable
from graphql_api.domain.ports import StackUpdateFilter
from graphql_api.domain.records import (
    CloudResource,
    CloudResourceId,
    Failure,
    FailureKind,
    Phase,
    StackUpdate,
    StackUpdateId,
    Status,
)
from tests.builders import MANIFEST, a_claim, a_cloud_resource, a_stack_update

pytestmark = pytest.mark.external

NOON = datetime(2025, 12, 3, 12, 0, 0, 123_000, tzinfo=UTC)
LATER = NOON + timedelta(minutes=1)


@pytest.fixture
def raw(mongodb_database_url: str) -> Iterator[Database[dict[str, Any]]]:
    """The test's own connection to the same database."""
    with MongoClient[dict[str, Any]](mongodb_database_url, tz_aware=True, timeoutMS=10_000) as client:
        yield client.get_default_database()


@pytest.fixture
async def mongo(mongodb_database_url: str) -> AsyncIterator[Backends]:
    async with open_backends(mongodb_database_url) as backends:
        yield backends


def go_update(status: str, **fields: object) -> dict[str, Any]:
    """A stack update as the Go backend wrote it."""
    resource_id = "65701b2c3d4e5f6071829300"
    times = {"created_at": NOON, "updated_at": LATER}
    return {"_id": ObjectId(), "cloud_resource_id": resource_id, "status": status, **times, **fields}


async def test_cloud_resources_of_the_go_backend_are_read(mongo: Backends, raw: Database[dict[str, Any]]) -> None:
    """Its documents are cloud resources as they are."""
    document = {"_id": ObjectId(), "name": "bucket", "kind": "AwsS3Bucket", "manifest": MANIFEST}
    raw["cloud_resources"].insert_one({**document, "created_at": NOON, "updated_at": LATER})

    expected = CloudResource(
        CloudResourceId(str(document["_id"])), "AwsS3Bucket", "bucket", MANIFEST, created_at=NOON, updated_at=LATER
    )
    assert await mongo.resources.find("AwsS3Bucket", "bucket") == expected
    assert await mongo.resources.page(10) == [expected]


@pytest.mark.parametrize(
    ("status", "phase"), [("success", Phase.FINISHED), ("failed", Phase.FINISHED), ("in_progress", Phase.RUNNING)]
)
async def test_stack_updates_of_the_go_backend_are_read(
    mongo: Backends, raw: Database[dict[str, Any]], status: str, phase: Phase
) -> None:
    """Its documents are stack updates at revision 1, in the phase that their status implies."""
    document = go_update(status, output=json.dumps({"status": status}))
    raw["stackupdates"].insert_one(document)

    id_ = StackUpdateId(str(document["_id"]))
    expected = StackUpdate(
        id=id_,
        cloud_resource_id=CloudResourceId("65701b2c3d4e5f6071829300"),
        stack_fqdn=None,
        timeout=timedelta(seconds=600),
        created_at=NOON,
        updated_at=LATER,
        status=Status(status),
        phase=phase,
    )
    assert await mongo.updates.get(id_) == expected
    assert await mongo.updates.page(10, where=StackUpdateFilter(statuses=frozenset({Status(status)}))) == [expected]
    assert await mongo.updates.output(id_) == json.dumps({"status": status})
    assert await mongo.updates.manifest(id_) is None
    assert await mongo.updates.next_queued() is None


async def test_what_the_go_backend_left_open_can_be_ended_once(mongo: Backends, raw: Database[dict[str, Any]]) -> None:
    """An update without our fields is saved like any other: one revision on, and never again."""
    document = go_update("in_progress", theirs="kept")
    raw["stackupdates"].insert_one(document)
    left = await mongo.updates.get(StackUpdateId(str(document["_id"])))
    assert left

    ended = left.failed(LATER, Failure(FailureKind.WORKER_LOST, "The service that ran it is gone. Deploy again."))
    await mongo.updates.save(ended, "{}")
    await mongo.updates.save(ended, "{}")

    assert await mongo.updates.get(left.id) == ended
    with pytest.raises(RevisionConflict):
        await mongo.updates.save(left.failed(LATER, Failure(FailureKind.TIMEOUT, "Another outcome.")))
    stored = raw["stackupdates"].find_one({})
    assert stored
    assert (stored["status"], stored["output"], stored["theirs"]) == ("failed", "{}", "kept")


async def test_our_documents_have_the_fields_of_the_go_backend(mongo: Backends, raw: Database[dict[str, Any]]) -> None:
    """What reads the Go backend's collections reads ours: the same names and types, no output while there is none."""
    resource, update = a_cloud_resource(created_at=NOON), a_stack_update(created_at=NOON)
    await mongo.resources.insert(resource)
    await mongo.updates.insert(update, MANIFEST)

    stored = raw["cloud_resources"].find_one({})
    assert stored == {
        "_id": ObjectId(resource.id),
        "name": resource.name,
        "kind": resource.kind,
        "manifest": resource.manifest,
        "created_at": NOON,
        "updated_at": NOON,
    }
    stored = raw["stackupdates"].find_one({})
    assert stored
    seed = {field: stored[field] for field in ("_id", "cloud_resource_id", "status", "created_at", "updated_at")}
    assert seed == {
        "_id": ObjectId(update.id),
        "cloud_resource_id": update.cloud_resource_id,
        "status": "in_progress",
        "created_at": NOON,
        "updated_at": NOON,
    }
    assert "output" not in stored


async def test_a_replaced_cloud_resource_keeps_other_programs_fields(
    mongo: Backends, raw: Database[dict[str, Any]]
) -> None:
    """A field that we don't know is not lost by a change of those that we do."""
    resource = a_cloud_resource()
    await mongo.resources.insert(resource)
    raw["cloud_resources"].update_one({}, {"$set": {"theirs": "kept"}})

    await mongo.resources.replace(resource)

    stored = raw["cloud_resources"].find_one({})
    assert stored
    assert stored["theirs"] == "kept"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"status": "pending"}, "'pending' is not a valid Status"),
        ({"created_at": "yesterday"}, "'yesterday' is no date"),
        ({"phase": "asleep"}, "'asleep' is not a valid Phase"),
        ({"failure": "{}"}, "the field 'kind' is missing"),
    ],
)
async def test_a_document_that_is_no_stack_update_is_named(
    mongo: Backends, raw: Database[dict[str, Any]], change: dict[str, object], reason: str
) -> None:
    """What can't be understood is a sentence with the document's id and what is wrong, not a crash."""
    document = {**go_update("success"), **change}
    raw["stackupdates"].insert_one(document)

    with pytest.raises(StoreRefused, match=f"{document['_id']}.*{reason}.*delete it"):
        await mongo.updates.page(10)


async def test_doubles_of_the_go_backend_are_listed_with_the_way_out(
    mongodb_database_url: str, raw: Database[dict[str, Any]]
) -> None:
    """Where (kind, name) is there twice the start names the pairs; once all but one are gone, it works."""
    for name, times in (("once", 1), ("twice", 2), ("thrice", 3)):
        for _ in range(times):
            raw["cloud_resources"].insert_one({"name": name, "kind": "Demo", "created_at": NOON, "updated_at": NOON})

    with pytest.raises(StoreRefused, match=r"Demo thrice, Demo twice\. Delete or rename all but one of each"):
        async with open_backends(mongodb_database_url):
            pass

    for name in ("twice", "thrice", "thrice"):
        raw["cloud_resources"].delete_one({"name": name})
    async with open_backends(mongodb_database_url) as backends:
        assert await backends.resources.count() == 3


async def test_indexes_are_ensured_at_every_start(mongodb_database_url: str, raw: Database[dict[str, Any]]) -> None:
    """A second start finds the indexes that the first one made, and adds none."""
    for _ in range(2):
        async with open_backends(mongodb_database_url):
            pass

    keys = {tuple(index["key"]): index.get("unique", False) for index in raw["cloud_resources"].list_indexes()}
    assert keys == {("_id",): False, ("kind", "name"): True, ("created_at", "_id"): False}
    assert {tuple(index["key"]) for index in raw["stackupdates"].list_indexes()} == {
        ("_id",),
        ("created_at", "_id"),
        ("cloud_resource_id", "created_at", "_id"),
        ("status", "created_at", "_id"),
        ("cloud_resource_id", "status", "created_at", "_id"),
        ("phase", "created_at", "_id"),
    }


async def test_a_url_without_a_name_means_the_database_stackcast(mongodb_url: str) -> None:
    """The path of the URL names the database; without one it is ``stackcast``."""
    url = urlsplit(mongodb_url)._replace(path="/").geturl()

    async with open_backends(url):
        with MongoClient[dict[str, Any]](mongodb_url, timeoutMS=10_000) as client:
            assert "stackcast" in client.list_database_names()


class Proxy(ThreadingTCPServer):
    """Stands before the server. Cuts the connection instead of passing on the answer to ``doomed_request``, and
    passes on nothing at all once it is ``silent``.
    """

    def __init__(self, server: SplitResult) -> None:
        super().__init__(("127.0.0.1", 0), ProxiedConnection)
        self.server_at = (server.hostname or "", server.port or 27017)
        self.url = server._replace(netloc=f"127.0.0.1:{self.server_address[1]}", query="directConnection=true").geturl()
        self.doomed_request: bytes | None = None
        self.cuts = 0
        self.silent = False


class ProxiedConnection(BaseRequestHandler):
    """One connection of a client: a request, then its answer, and so on."""

    server: Proxy

    def handle(self) -> None:
        client: socket.socket = self.request
        with suppress(ConnectionError), socket.create_connection(self.server.server_at) as server:
            while request := client.recv(1_000_000):
                server.sendall(request)
                answer = server.recv(1_000_000)
                if self.server.doomed_request and self.server.doomed_request in request:
                    self.server.doomed_request = None
                    self.server.cuts += 1
                    return
                if not self.server.silent:
                    client.sendall(answer)


@pytest.fixture
def proxy(mongodb_database_url: str) -> Iterator[Proxy]:
    with Proxy(urlsplit(mongodb_database_url)) as proxy:
        serving = threading.Thread(target=proxy.serve_forever, args=(0.05,))
        serving.start()
        yield proxy
        proxy.shutdown()
        serving.join()


async def test_a_lost_answer_to_a_write_is_no_failure(proxy: Proxy) -> None:
    """When the connection breaks after a write landed, the call finds out that it did: no double, no lost claim."""
    resource, update, claim = a_cloud_resource(), a_stack_update(), a_claim()
    async with open_backends(proxy.url) as backends:
        proxy.doomed_request = resource.name.encode()
        await backends.resources.insert(resource)
        proxy.doomed_request = ObjectId(update.id).binary
        await backends.updates.insert(update, MANIFEST)
        proxy.doomed_request = ObjectId(update.id).binary
        await backends.updates.save(update.started(update.created_at), "{}")
        proxy.doomed_request = claim.nonce.encode()
        assert await backends.claims.claim(claim)

        assert proxy.cuts == 4
        assert await backends.resources.page(10) == [resource]
        assert await backends.updates.page(10) == [update.started(update.created_at)]
        assert await backends.claims.current(claim.stack) == claim


async def test_a_server_that_falls_silent_holds_nothing_up(proxy: Proxy) -> None:
    """When the server stops answering, every call and the close end within the limit."""
    async with asyncio.timeout(10), open_backends(proxy.url, timedelta(seconds=0.5)) as backends:
        proxy.silent = True
        calls = [backends.claims.claim(a_claim(epoch=epoch)) for epoch in range(40)]
        async with asyncio.timeout(2):
            answers = await asyncio.gather(*calls, backends.ping(), return_exceptions=True)

    assert {type(answer) for answer in answers} == {StoreUnavailable}


async def test_wrong_credentials_are_refused_without_the_password(mongodb_database_url: str) -> None:
    """A server that doesn't know the user is refused with its reason, and the password is not shown."""
    url = urlsplit(mongodb_database_url)
    wrong = url._replace(netloc=f"nobody:hunter2@{url.hostname}:{url.port or 27017}").geturl()

    with pytest.raises(StoreRefused, match=r"MongoDB refused the call: .+") as refusal:
        async with open_backends(wrong):
            pass

    assert "hunter2" not in f"{refusal.value} {refusal.value.__cause__}"
