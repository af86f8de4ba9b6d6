"""Data of the Go backend: what it left in its two collections is used like our own."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId
from pymongo.database import Database

from graphql_api.adapters import open_backends
from graphql_api.domain.errors import CloudResourceExists, RevisionConflict, StoreRefused
from graphql_api.domain.ports import CloudResourceFilter, DeletedResource, Slice, StackUpdateFilter
from graphql_api.domain.records import (
    CloudResource,
    CloudResourceId,
    Failure,
    FailureKind,
    Operation,
    Phase,
    StackFqdn,
    StackUpdate,
    StackUpdateId,
    Status,
)
from tests.builders import MANIFEST, STACK, a_cloud_resource, a_stack_update, kept, to_success

pytestmark = pytest.mark.external

Raw = Database[dict[str, Any]]

NOON = datetime(2025, 12, 3, 12, 0, 0, 123_000, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
DEV, PROD = StackFqdn("acme/buckets/dev"), StackFqdn("acme/buckets/prod.eu-1")
WHOLE = Slice(100)


def go_resource(number: int, **fields: object) -> dict[str, Any]:
    """A cloud resource as the Go backend wrote it."""
    created_at = NOON + number * MINUTE
    return {
        "_id": ObjectId(f"65701b2c3d4e5f60718293{number:02x}"),
        "name": f"bucket-{number}",
        "kind": "AwsS3Bucket" if number % 2 else "GcpGcsBucket",
        "manifest": MANIFEST,
        "created_at": created_at,
        "updated_at": created_at,
        **fields,
    }


def go_output(status: str, stack: str, **fields: object) -> str:
    """The output of a stack update as the Go backend wrote it."""
    output = {"status": status, "timestamp": "2025-12-03T12:01:00Z", "stack_fqdn": stack, "stdout": "Updating ß\n"}
    return json.dumps({**output, "stderr": "", "exit_code": 0, **fields})


def go_update(number: int, status: str, **fields: object) -> dict[str, Any]:
    """A stack update as the Go backend wrote it; one in progress has no output."""
    created_at = NOON + number * MINUTE
    return {
        "_id": ObjectId(f"65701b2c3d4e5f60718294{number:02x}"),
        "cloud_resource_id": f"65701b2c3d4e5f60718293{number % 2:02x}",
        "status": status,
        "created_at": created_at,
        "updated_at": created_at + MINUTE,
        **fields,
    }


def expected_resource(document: dict[str, Any]) -> CloudResource:
    times = (document["created_at"], document["updated_at"])
    id_ = CloudResourceId(str(document["_id"]))
    return CloudResource(id_, document["kind"], document["name"], document["manifest"], *times)


def expected_update(document: dict[str, Any], stack: StackFqdn | None) -> StackUpdate:
    status = Status(document["status"])
    return StackUpdate(
        id=StackUpdateId(str(document["_id"])),
        cloud_resource_id=CloudResourceId(document["cloud_resource_id"]),
        stack_fqdn=stack,
        timeout=timedelta(seconds=600),
        created_at=document["created_at"],
        updated_at=document["updated_at"],
        status=status,
        phase=Phase.RUNNING if status is Status.IN_PROGRESS else Phase.FINISHED,
    )


RESOURCES = [go_resource(number) for number in range(6)]
#: Each with the stack that it tells.
UPDATES: list[tuple[dict[str, Any], StackFqdn | None]] = [
    (go_update(0, "success", output=go_output("success", DEV)), DEV),
    (go_update(1, "failed", output=go_output("failed", PROD, exit_code=1, error="pulumi up failed")), PROD),
    (go_update(2, "failed", output=json.dumps({"status": "failed", "error": "no stack.fqdn label"})), None),
    (go_update(3, "failed", output="signal: killed"), None),
    (go_update(4, "success", output=go_output("success", DEV)), DEV),
    (go_update(5, "failed", output=go_output("failed", "../../etc")), None),
    (go_update(6, "success", output='["no object"]'), None),
    (go_update(7, "failed", output=""), None),
    (go_update(8, "in_progress"), None),
]
READ_RESOURCES = [expected_resource(document) for document in reversed(RESOURCES)]
READ_UPDATES = [expected_update(document, stack) for document, stack in reversed(UPDATES)]


@pytest.fixture
async def left(mongodb_database_url: str, raw: Raw) -> str:
    """The URL of a database that the Go backend left."""
    raw["cloud_resources"].insert_many(RESOURCES)
    raw["stackupdates"].insert_many([document for document, _ in UPDATES])
    return mongodb_database_url


async def test_its_cloud_resources_are_listed(left: str) -> None:
    """Its documents are cloud resources as they are: found, filtered, counted and paged both ways."""
    async with open_backends(left) as backends:
        resources = backends.resources
        assert await resources.page(WHOLE) == READ_RESOURCES
        assert await resources.page(Slice(2, from_end=True)) == READ_RESOURCES[-2:]
        of_kind = CloudResourceFilter(kind="AwsS3Bucket")
        assert await resources.page(WHOLE, of_kind) == READ_RESOURCES[::2]
        assert await resources.count(of_kind) == 3
        assert await resources.find("GcpGcsBucket", "bucket-2") == READ_RESOURCES[3]
        assert await resources.changed_since(NOON + 4 * MINUTE, 10) == READ_RESOURCES[1::-1]


async def test_its_stack_updates_are_listed(left: str) -> None:
    """Its documents are updates of the stack that their output tells, at revision 1, in the phase of their status."""
    async with open_backends(left) as backends:
        history = backends.history
        assert await history.page(WHOLE) == READ_UPDATES
        assert await history.page(Slice(2, from_end=True)) == READ_UPDATES[-2:]
        assert [await backends.updates.get(update.id) for update in READ_UPDATES] == READ_UPDATES
        assert await history.changed_since(NOON + 8 * MINUTE, 10) == READ_UPDATES[1::-1]
        for where, expected in (
            (StackUpdateFilter(operations=frozenset({Operation.UPDATE})), READ_UPDATES),
            (StackUpdateFilter(statuses=frozenset({Status.IN_PROGRESS})), READ_UPDATES[:1]),
            (StackUpdateFilter(stack_fqdn=DEV), [READ_UPDATES[4], READ_UPDATES[8]]),
            (StackUpdateFilter(stack_fqdn=PROD, statuses=frozenset({Status.FAILED})), [READ_UPDATES[7]]),
            (StackUpdateFilter(cloud_resource_id=READ_RESOURCES[-1].id, stack_fqdn=DEV), READ_UPDATES[4::4]),
        ):
            assert await history.page(WHOLE, where) == expected
            assert await history.count(where) == len(expected)
        newest = {update.cloud_resource_id: update for update in READ_UPDATES[1::-1]}
        assert await history.latest([READ_RESOURCES[-1].id, READ_RESOURCES[-2].id]) == newest


async def test_its_outputs_are_given_as_they_are(left: str) -> None:
    """Also those that are no JSON; there is no manifest beside them, and none waits in the queue."""
    async with open_backends(left) as backends:
        for document, _ in UPDATES:
            id_ = StackUpdateId(str(document["_id"]))
            assert await backends.updates.output(id_) == document.get("output")
            assert await backends.updates.manifest(id_) is None
        assert await backends.updates.next_queued() is None


async def test_its_documents_keep_what_they_had(left: str, raw: Raw) -> None:
    """A start adds fields of ours to its stack updates, once, and changes nothing else."""
    for _ in range(2):
        async with open_backends(left):
            pass

    assert list(raw["cloud_resources"].find().sort("_id")) == RESOURCES
    for document, stack in UPDATES:
        stored = raw["stackupdates"].find_one({"_id": document["_id"]})
        assert stored == {**document, "operation": "update", "stack_fqdn": stack}


async def test_many_of_its_stack_updates_are_completed(mongodb_database_url: str, raw: Raw) -> None:
    """However many there are, a start completes them all."""
    documents = [{**go_update(0, "success", output=go_output("success", DEV)), "_id": ObjectId()} for _ in range(501)]
    raw["stackupdates"].insert_many(documents)

    async with open_backends(mongodb_database_url) as backends:
        assert await backends.history.count(StackUpdateFilter(stack_fqdn=DEV)) == 501


async def test_what_it_writes_beside_us_is_listed(mongodb_database_url: str, raw: Raw) -> None:
    """A stack update that it adds after our start has every filter's pages; its stack is known after the next one."""
    document, stack = UPDATES[0]
    where = StackUpdateFilter(statuses=frozenset({Status.SUCCESS}), operations=frozenset({Operation.UPDATE}))
    async with open_backends(mongodb_database_url) as backends:
        raw["stackupdates"].insert_one(document)
        assert await backends.history.page(WHOLE) == [expected_update(document, None)]
        assert await backends.history.page(WHOLE, where) == [expected_update(document, None)]

    async with open_backends(mongodb_database_url) as backends:
        assert await backends.history.page(WHOLE, where) == [expected_update(document, stack)]


async def test_its_cloud_resources_are_deployed(left: str) -> None:
    """A stack update of one of them goes its way with its manifest, and is the newest then."""
    async with open_backends(left) as backends:
        resource = await backends.resources.find("GcpGcsBucket", "bucket-0")
        assert resource
        revisions = to_success(a_stack_update(cloud_resource_id=resource.id))
        await backends.updates.insert(revisions[0], resource.manifest)

        assert await backends.updates.next_queued() == revisions[0]
        assert await backends.updates.manifest(revisions[0].id) == MANIFEST
        for revision in revisions[1:]:
            await backends.updates.save(revision)

        assert await backends.history.latest([resource.id]) == {resource.id: revisions[-1]}
        assert await backends.history.count(StackUpdateFilter(resource.id)) == 6


async def test_its_cloud_resources_are_deleted(left: str, raw: Raw) -> None:
    """One is gone, remembered as it was, its name is free, and its stack updates stay."""
    gone = READ_RESOURCES[-1]
    async with open_backends(left) as backends:
        assert await backends.resources.delete(gone.id, NOON + 60 * MINUTE)

        assert await backends.resources.page(WHOLE) == READ_RESOURCES[:-1]
        changes = await backends.resources.changed_since(NOON + 60 * MINUTE, 10)
        assert changes == [DeletedResource(gone, NOON + 60 * MINUTE)]
        assert await backends.history.page(WHOLE) == READ_UPDATES
        await backends.resources.insert(a_cloud_resource(kind=gone.kind, name=gone.name))
    assert raw["cloud_resources"].find_one({"_id": ObjectId(gone.id)}) is None


async def test_its_names_are_taken(left: str) -> None:
    """Another cloud resource of the kind and name is refused, with the one that has it."""
    async with open_backends(left) as backends:
        with pytest.raises(CloudResourceExists) as refusal:
            await backends.resources.insert(a_cloud_resource(kind="AwsS3Bucket", name="bucket-1"))

    assert refusal.value.cloud_resource == READ_RESOURCES[-2]


async def test_what_it_left_open_can_be_ended_once(left: str, raw: Raw) -> None:
    """An update without our fields is saved like any other: one revision on, and never again."""
    raw["stackupdates"].update_one({"status": "in_progress"}, {"$set": {"theirs": "kept"}})
    async with open_backends(left) as backends:
        updates, open_one = backends.updates, READ_UPDATES[0]
        failure = Failure(FailureKind.WORKER_LOST, "The service that ran it is gone. Deploy again.")
        ended = open_one.failed(NOON + 10 * MINUTE, failure)
        await updates.save(ended, "{}")
        await updates.save(ended, "{}")

        assert await updates.get(open_one.id) == ended
        with pytest.raises(RevisionConflict):
            await updates.save(open_one.failed(NOON, Failure(FailureKind.TIMEOUT, "Another outcome.")))
    stored = raw["stackupdates"].find_one({"_id": ObjectId(open_one.id)})
    assert stored
    assert (stored["status"], stored["output"], stored["theirs"]) == ("failed", "{}", "kept")


async def test_records_of_our_first_version_are_completed(mongodb_database_url: str, raw: Raw) -> None:
    """Stack updates without an operation, but with a stack, keep it."""
    update = a_stack_update()
    async with open_backends(mongodb_database_url) as backends:
        await kept(backends.updates, update)
    raw["stackupdates"].update_one({}, {"$unset": {"operation": ""}})

    async with open_backends(mongodb_database_url) as backends:
        assert await backends.history.page(WHOLE, StackUpdateFilter(stack_fqdn=STACK)) == [update]
    stored = raw["stackupdates"].find_one({})
    assert stored
    assert (stored["operation"], stored["stack_fqdn"]) == ("update", STACK)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"status": "pending"}, "'pending' is not a valid Status"),
        ({"created_at": "yesterday"}, "'yesterday' is no date"),
        ({"phase": "asleep"}, "'asleep' is not a valid Phase"),
        ({"operation": "dance"}, "'dance' is not a valid Operation"),
        ({"failure": "{}"}, "the field 'kind' is missing"),
    ],
)
async def test_a_document_that_is_no_stack_update_is_named(
    mongodb_database_url: str, raw: Raw, change: dict[str, object], reason: str
) -> None:
    """What can't be understood is a sentence with the document's id and what is wrong, not a crash."""
    document = {**go_update(0, "success"), **change}
    raw["stackupdates"].insert_one(document)

    async with open_backends(mongodb_database_url) as backends:
        with pytest.raises(StoreRefused, match=f"{document['_id']}.*{reason}.*delete it"):
            await backends.history.page(Slice(10))


async def test_doubles_are_listed_with_the_way_out(mongodb_database_url: str, raw: Raw) -> None:
    """Where (kind, name) is there twice the start names the pairs and documents; with one of each left, it works."""
    once, twice, thrice = (
        [go_resource(number * 10 + copy, kind="Demo", name=name) for copy in range(number + 1)]
        for number, name in enumerate(("once", "twice", "thrice"))
    )
    raw["cloud_resources"].insert_many([*once, *twice, *thrice])

    with pytest.raises(StoreRefused) as refusal:
        async with open_backends(mongodb_database_url):
            pass

    ids = [", ".join(str(document["_id"]) for document in reversed(doubles)) for doubles in (thrice, twice)]
    assert f"name, and only one can be kept: Demo thrice (_id {ids[0]}); Demo twice (_id {ids[1]})." in str(
        refusal.value
    )
    assert "db.cloud_resources.deleteOne" in refusal.value.message
    assert refusal.value.message.endswith("then start again.")
    for document in (*twice[1:], *thrice[1:]):
        raw["cloud_resources"].delete_one({"_id": document["_id"]})
    async with open_backends(mongodb_database_url) as backends:
        assert await backends.resources.count() == 3


async def test_many_doubles_are_counted(mongodb_database_url: str, raw: Raw) -> None:
    """The first ten pairs are shown, with three documents of each at most, and how many more there are."""
    raw["cloud_resources"].insert_many(
        {**go_resource(0), "_id": ObjectId(), "name": f"bucket-{pair:02}"} for pair in range(13) for _ in range(5)
    )

    with pytest.raises(StoreRefused, match=r"; and 3 more\. The newest is named first\.") as refusal:
        async with open_backends(mongodb_database_url):
            pass

    assert refusal.value.message.count("GcpGcsBucket bucket-") == 10
    assert refusal.value.message.count(" and 2 more)") == 10
    assert "bucket-09" in refusal.value.message
    assert "bucket-10" not in refusal.value.message
