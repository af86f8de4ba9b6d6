"""What a MongoDB database of ours looks like: records as documents, without their ``_id``.

An update that the Go backend wrote has only ``cloud_resource_id``, ``status``, ``output`` and its two times, until
a start of ours has added ``operation`` and the ``stack_fqdn`` that its output tells.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId

from graphql_api.adapters.stored import (
    cancellation_text,
    failure_text,
    outputs_text,
    progress_text,
    read_cancellation,
    read_failure,
    read_outputs,
    read_progress,
)
from graphql_api.adapters.stored_events import (
    bytes_of,
    closing_text,
    events_text,
    kinds_of,
    place_text,
    read_closing,
    read_events,
    read_place,
)
from graphql_api.adapters.stored_requests import read_what, what_text
from graphql_api.domain.errors import StoreRefused
from graphql_api.domain.ports import Chunk, DeletedResource, IdempotencyKey, Request
from graphql_api.domain.records import (
    Claim,
    CloudResource,
    CloudResourceId,
    Operation,
    Phase,
    StackFqdn,
    StackUpdate,
    StackUpdateId,
    Status,
)

Document = dict[str, Any]

_FOREIGN_TIMEOUT = timedelta(seconds=600)  # the time that the Go backend gave
_STACK = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*){2}")


def resource_document(resource: CloudResource) -> Document:
    return {
        "kind": resource.kind,
        "name": resource.name,
        "manifest": resource.manifest,
        "created_at": _stored_time(resource.created_at),
        "updated_at": _stored_time(resource.updated_at),
    }


def read_resource(document: Document) -> CloudResource:
    """Raises StoreRefused when the document is no cloud resource."""
    with _understood(document, "cloud resource"):
        return CloudResource(
            id=CloudResourceId(str(document["_id"])),
            kind=document["kind"],
            name=document["name"],
            manifest=document["manifest"],
            created_at=_read_time(document["created_at"]),
            updated_at=_read_time(document["updated_at"]),
        )


def deleted_document(deleted: DeletedResource) -> Document:
    return {**resource_document(deleted.resource), "deleted_at": _stored_time(deleted.deleted_at)}


def read_deleted(document: Document) -> DeletedResource:
    """Raises StoreRefused when the document is no deleted cloud resource."""
    with _understood(document, "deleted cloud resource"):
        return DeletedResource(read_resource(document), _read_time(document["deleted_at"]))


def update_document(update: StackUpdate) -> Document:
    return {
        "cloud_resource_id": update.cloud_resource_id,
        "stack_fqdn": update.stack_fqdn,
        "operation": update.operation.value,
        "timeout_seconds": update.timeout // timedelta(milliseconds=1) / 1000,
        "created_at": _stored_time(update.created_at),
        "updated_at": _stored_time(update.updated_at),
        "status": update.status.value,
        "phase": update.phase.value,
        "revision": update.revision,
        "started_at": _stored_time(update.started_at),
        "finished_at": _stored_time(update.finished_at),
        "exit_code": update.exit_code,
        "failure": failure_text(update.failure),
        "stack_outputs": outputs_text(update.stack_outputs),
        "progress": progress_text(update.progress),
        "cancellation": cancellation_text(update.cancellation),
        "requested_by": update.requested_by,
    }


def read_update(document: Document) -> StackUpdate:
    """Raises StoreRefused when the document is no stack update."""
    with _understood(document, "stack update"):
        status = Status(document["status"])
        foreign_phase = Phase.RUNNING if status is Status.IN_PROGRESS else Phase.FINISHED
        return StackUpdate(
            id=StackUpdateId(str(document["_id"])),
            cloud_resource_id=CloudResourceId(document["cloud_resource_id"]),
            stack_fqdn=document.get("stack_fqdn"),
            timeout=timedelta(seconds=document.get("timeout_seconds", _FOREIGN_TIMEOUT.total_seconds())),
            created_at=_read_time(document["created_at"]),
            updated_at=_read_time(document["updated_at"]),
            operation=Operation(document.get("operation") or Operation.UPDATE),
            status=status,
            phase=Phase(document.get("phase", foreign_phase)),
            revision=document.get("revision", 1),
            started_at=document.get("started_at"),
            finished_at=document.get("finished_at"),
            exit_code=document.get("exit_code"),
            failure=read_failure(document.get("failure")),
            stack_outputs=read_outputs(document.get("stack_outputs")),
            progress=read_progress(document.get("progress")),
            cancellation=read_cancellation(document.get("cancellation")),
            requested_by=document.get("requested_by"),
        )


def told_stack(output: object) -> StackFqdn | None:
    """The stack that an output of the Go backend tells; None when it tells none that could be one."""
    try:
        told = json.loads(output) if isinstance(output, str) else None
    except ValueError:
        return None
    fqdn = told.get("stack_fqdn") if isinstance(told, dict) else None
    return StackFqdn(fqdn) if isinstance(fqdn, str) and _STACK.fullmatch(fqdn) else None


def same_identity(one: Document, other: Document) -> bool:
    """Whether two documents are of one stack update, perhaps at different revisions."""
    return all(one[field] == other[field] for field in ("cloud_resource_id", "stack_fqdn", "operation", "created_at"))


def claim_key(claim: Claim) -> str:
    return f"{claim.stack}:{claim.epoch}"


def claim_document(claim: Claim) -> Document:
    return {
        "_id": claim_key(claim),
        "stack": claim.stack,
        "epoch": claim.epoch,
        "owner": claim.owner,
        "nonce": claim.nonce,
        "update_id": claim.update_id,
        "expires_at": _stored_time(claim.expires_at),
        "ended": claim.ended,
    }


def read_claim(document: Document) -> Claim:
    return Claim(
        stack=document["stack"],
        epoch=document["epoch"],
        owner=document["owner"],
        nonce=document["nonce"],
        update_id=StackUpdateId(document["update_id"]),
        expires_at=_read_time(document["expires_at"]),
        ended=document["ended"],
    )


def chunk_document(chunk: Chunk) -> Document:
    text = events_text(chunk.events)
    return {
        "_id": f"{chunk.update_id}:{chunk.number}",
        "update_id": chunk.update_id,
        "number": chunk.number,
        "first_seq": chunk.events[0].seq,
        "last_seq": chunk.events[-1].seq,
        "epoch": chunk.epoch,
        "nonce": chunk.nonce,
        "kinds": kinds_of(chunk.events),
        "place": place_text(chunk.place),
        "closing": closing_text(chunk.closing),
        "size": bytes_of(text),
        "events": text,
    }


def read_chunk(document: Document) -> Chunk:
    return Chunk(
        update_id=StackUpdateId(document["update_id"]),
        number=document["number"],
        epoch=document["epoch"],
        nonce=document["nonce"],
        events=tuple(read_events(document["events"], document["first_seq"])),
        place=read_place(document["place"]),
        closing=read_closing(document["closing"]),
    )


def request_document(request: Request) -> Document:
    return {
        "_id": ObjectId(request.id),
        "update_id": request.update_id,
        "made_at": _stored_time(request.made_at),
        "what": what_text(request.what),
    }


def read_request(document: Document) -> Request:
    return Request(
        id=str(document["_id"]),
        update_id=StackUpdateId(document["update_id"]),
        made_at=_read_time(document["made_at"]),
        what=read_what(document["what"]),
    )


def key_document(key: IdempotencyKey) -> Document:
    return {
        "_id": ObjectId(),
        "caller": key.caller,
        "key": key.key,
        "fingerprint": key.fingerprint,
        "update_id": key.update_id,
        "created_at": _stored_time(key.created_at),
    }


def read_key(document: Document) -> IdempotencyKey:
    return IdempotencyKey(
        caller=document["caller"],
        key=document["key"],
        fingerprint=document["fingerprint"],
        update_id=StackUpdateId(document["update_id"]),
        created_at=_read_time(document["created_at"]),
    )


def _stored_time(time: datetime | None) -> datetime | None:
    """As it will be read: cut to milliseconds. Only so can a record be compared with a stored one."""
    return time.replace(microsecond=time.microsecond // 1000 * 1000) if time else None


def _read_time(value: object) -> datetime:
    if not isinstance(value, datetime):
        raise TypeError(f"{value!r} is no date")
    return value


@contextmanager
def _understood(document: Document, noun: str) -> Iterator[None]:
    """Other programs write here too: a document that is none of ours is named, so that it can be found."""
    try:
        yield
    except (LookupError, ValueError, TypeError) as error:
        reason = f"the field {error} is missing" if isinstance(error, LookupError) else str(error)
        raise StoreRefused(
            f"The {noun} with id {document['_id']} can't be read from MongoDB: {reason}. Correct the document or "
            "delete it."
        ) from error
