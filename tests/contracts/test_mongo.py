"""What is MongoDB's own: documents, indexes, broken connections, and deletions that break off."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any
from urllib.parse import SplitResult, urlsplit

import pytest
from bson import ObjectId
from pymongo import MongoClient
from pymongo.database import Database

from graphql_api.adapters import Backends, open_backends
from graphql_api.domain.errors import StoreRefused, StoreUnavailable
from graphql_api.domain.events import LINE_LIMIT, EventKind, StatusChanged
from graphql_api.domain.ports import READ_LIMIT, DeletedResource, LogPage, Slice
from graphql_api.domain.records import Phase, Status
from tests.builders import (
    CANCELLATION,
    MANIFEST,
    NOON,
    SECOND,
    a_chunk,
    a_claim,
    a_cloud_resource,
    a_line,
    a_request,
    a_stack_update,
    an_idempotency_key,
    cancelled,
    failed,
    following,
    kept,
    started,
)
from tests.contracts.outage import outage_before

pytestmark = pytest.mark.external


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


async def test_indexes_are_ensured_at_every_start(mongodb_database_url: str, raw: Database[dict[str, Any]]) -> None:
    """A second start finds the indexes that the first one made, and adds none."""
    for _ in range(2):
        async with open_backends(mongodb_database_url):
            pass

    def keys(collection: str) -> dict[tuple[str, ...], bool]:
        return {tuple(index["key"]): index.get("unique", False) for index in raw[collection].list_indexes()}

    place = ("created_at", "_id")
    course = ("operation", "status", *place)
    assert keys("cloud_resources") == {
        ("_id",): False,
        ("kind", "name"): True,
        **dict.fromkeys([place, ("kind", *place), ("name", *place), ("updated_at", "_id")], False),
    }
    assert set(keys("deleted_cloud_resources")) == {("_id",), ("deleted_at", "_id")}
    assert set(keys("stack_update_events")) == {
        ("_id",),
        ("update_id", "last_seq", "first_seq", "kinds", "size"),
    }
    assert set(keys("stack_update_requests")) == {("_id",), ("made_at", "_id"), ("update_id",)}
    assert keys("idempotency_keys") == {
        ("_id",): False,
        ("caller", "key"): True,
        ("created_at",): False,
        ("update_id",): False,
    }
    assert set(keys("stackupdates")) == {
        ("_id",),
        place,
        ("cloud_resource_id", *place),
        ("stack_fqdn", *place),
        course,
        ("cloud_resource_id", *course),
        ("stack_fqdn", *course),
        ("cloud_resource_id", "stack_fqdn", *course),
        ("phase", *place),
        ("updated_at", "_id"),
    }


async def test_records_from_before_logs_have_no_progress(mongo: Backends, raw: Database[dict[str, Any]]) -> None:
    """Documents without our newest fields are read as what they are, and saved like any other."""
    update = a_stack_update(created_at=NOON)
    await mongo.updates.insert(update, MANIFEST)
    raw["stackupdates"].update_one({}, {"$unset": {"progress": "", "cancellation": ""}})

    assert await mongo.updates.get(update.id) == update

    for revision in (started(update), started(update).cancelling(NOON + SECOND, CANCELLATION), cancelled(update)):
        await mongo.updates.save(revision)
        assert await mongo.updates.get(update.id) == revision


async def test_chunks_without_what_is_asked_for_are_not_read(mongo: Backends, raw: Database[dict[str, Any]]) -> None:
    """Whoever asks for a few kinds of a long log gets those only: the rest does not leave the server."""
    first = a_chunk()
    status = following(first, StatusChanged(Status.IN_PROGRESS, Phase.RUNNING))
    for chunk in (first, status, following(status)):
        await mongo.events.append(chunk)
    raw["stack_update_events"].update_many({"number": {"$ne": 2}}, {"$set": {"events": "unreadable"}})

    page = await mongo.events.read(first.update_id, 0, 10, frozenset({EventKind.STATUS_CHANGED}))

    assert page == LogPage(list(status.events), 3, has_more=False)


async def test_a_log_of_very_many_chunks_is_read_to_its_end(mongo: Backends, raw: Database[dict[str, Any]]) -> None:
    """Also where there are more of them than are looked for at once, and the last one only is asked for."""
    first = a_chunk()
    await mongo.events.append(first)
    chunk = raw["stack_update_events"].find_one({}) or {}
    raw["stack_update_events"].insert_many(
        {**chunk, "_id": f"{first.update_id}:{number}", "number": number, "first_seq": number, "last_seq": number}
        for number in range(2, 2501)
    )
    status = a_chunk(
        StatusChanged(Status.SUCCESS, Phase.FINISHED), first_seq=2501, update_id=first.update_id, number=2501
    )
    await mongo.events.append(status)

    everything = await mongo.events.read(first.update_id, 0, 10_000)
    statuses = await mongo.events.read(first.update_id, 0, 10, frozenset({EventKind.STATUS_CHANGED}))

    assert [event.seq for event in everything.events] == list(range(1, 2502))
    assert (everything.seq, everything.has_more) == (2501, False)
    assert statuses == LogPage(list(status.events), 2501, has_more=False)


async def test_no_more_chunks_are_brought_than_a_page_holds(mongodb_database_url: str) -> None:
    """However long a log is and however much is asked for, a read keeps no more of it in memory than it gives."""
    lines = [a_line("x" * LINE_LIMIT)] * 10
    chunk = a_chunk(*lines)
    async with outage_before(mongodb_database_url) as server, open_backends(server.url) as backends:
        for _ in range(10):
            await backends.events.append(chunk)
            chunk = following(chunk, *lines)
        before = server.passed

        page = await backends.events.read(chunk.update_id, 0, 1000)

        assert page.has_more
        assert server.passed - before < 1.1 * READ_LIMIT


async def test_a_chunk_that_no_document_can_hold_is_refused(mongo: Backends) -> None:
    """The sentence says so, and the log is as it was."""
    first = a_chunk()
    await mongo.events.append(first)

    with pytest.raises(StoreRefused, match="MongoDB can't hold what was to be stored"):
        await mongo.events.append(following(first, *[a_line("x" * LINE_LIMIT)] * 260))

    assert await mongo.events.last(first.update_id) == first


async def test_a_deletion_that_broke_off_is_no_deletion(mongo: Backends, raw: Database[dict[str, Any]]) -> None:
    """What was remembered before the cloud resource was gone is not told as long as it is there."""
    kept, gone = a_cloud_resource(created_at=NOON), a_cloud_resource(created_at=NOON)
    for resource in (kept, gone):
        await mongo.resources.insert(resource)
        await mongo.resources.delete(resource.id, NOON + SECOND)
    await mongo.resources.insert(kept)

    assert await mongo.resources.changed_since(NOON, 10) == [kept, DeletedResource(gone, NOON + SECOND)]

    assert await mongo.resources.delete(kept.id, NOON + 2 * SECOND)
    deletions = [DeletedResource(gone, NOON + SECOND), DeletedResource(kept, NOON + 2 * SECOND)]
    assert await mongo.resources.changed_since(NOON, 10) == deletions
    assert raw["deleted_cloud_resources"].count_documents({}) == 2


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
    chunk, request, key = a_chunk(), a_request(), an_idempotency_key()
    async with open_backends(proxy.url) as backends:
        proxy.doomed_request = resource.name.encode()
        await backends.resources.insert(resource)
        proxy.doomed_request = ObjectId(update.id).binary
        await backends.updates.insert(update, MANIFEST)
        proxy.doomed_request = ObjectId(update.id).binary
        await backends.updates.save(update.started(update.created_at), "{}")
        proxy.doomed_request = claim.nonce.encode()
        assert await backends.claims.claim(claim)
        proxy.doomed_request = chunk.nonce.encode()
        assert await backends.events.append(chunk)
        proxy.doomed_request = ObjectId(request.id).binary
        await backends.requests.make(request)
        proxy.doomed_request = b"\x02insert\x00\x11\x00\x00\x00idempotency_keys\x00"
        assert await backends.keys.keep(key, NOON) == key

        doomed_resource = a_cloud_resource()
        await backends.resources.insert(doomed_resource)
        proxy.doomed_request = b"\x02delete\x00\x10\x00\x00\x00cloud_resources\x00"
        assert await backends.resources.delete(doomed_resource.id, NOON)

        assert proxy.cuts == 8
        assert await backends.resources.page(Slice(10)) == [resource]
        assert await backends.history.page(Slice(10)) == [update.started(update.created_at)]
        assert await backends.claims.current(claim.stack) == claim
        assert await backends.events.last(chunk.update_id) == chunk
        assert await backends.requests.open(10) == [request]
        assert await backends.keys.find(key.caller, key.key, NOON) == key


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


async def test_forgetting_that_breaks_off_is_finished(mongo: Backends, raw: Database[dict[str, Any]]) -> None:
    """Whoever dies after a stack update was marked, before or after its record went, leaves it to be found."""
    updates = [a_stack_update(created_at=NOON) for _ in range(2)]
    for update in updates:
        await kept(mongo.updates, update, failed(update))
        await mongo.events.append(a_chunk(update_id=update.id))
        raw["half_forgotten_stack_updates"].insert_one({"_id": ObjectId(update.id)})
    raw["stackupdates"].delete_one({"_id": ObjectId(updates[0].id)})

    assert await mongo.retention.half_forgotten(10) == [update.id for update in updates]
    for update in updates:
        assert await mongo.retention.forget(update.id)

        assert await mongo.updates.get(update.id) is None
        assert await mongo.events.last(update.id) is None
    assert await mongo.retention.half_forgotten(10) == []
