"""Stack updates in the schema."""

from __future__ import annotations

import json
from datetime import datetime
from enum import Enum
from typing import Annotated

import strawberry
from strawberry.scalars import JSON

from graphql_api.domain import ports, records
from graphql_api.schema.cloud_resources import ById, CloudResource
from graphql_api.schema.context import Info
from graphql_api.schema.pagination import DEFAULT_FIRST, After, Connection, First, PageRequest, connection
from graphql_api.schema.scalars import read_id


@strawberry.enum(description="How a stack update stands.")
class StackUpdateStatus(Enum):
    IN_PROGRESS = strawberry.enum_value(
        records.Status.IN_PROGRESS, description="Accepted; the outcome is not known yet."
    )
    SUCCESS = strawberry.enum_value(records.Status.SUCCESS, description="Everything was deployed.")
    FAILED = strawberry.enum_value(records.Status.FAILED, description="It ended otherwise; `failure` says why.")
    CANCELLED = strawberry.enum_value(records.Status.CANCELLED, description="It was stopped because somebody asked.")


@strawberry.enum(description="Where a stack update is on its way.")
class StackUpdatePhase(Enum):
    QUEUED = strawberry.enum_value(records.Phase.QUEUED, description="Waiting for its stack and for a free place.")
    PREPARING = strawberry.enum_value(records.Phase.PREPARING, description="The module and its input are made ready.")
    RUNNING = strawberry.enum_value(records.Phase.RUNNING, description="Pulumi runs.")
    FINISHED = strawberry.enum_value(records.Phase.FINISHED, description="The outcome is known and never changes.")


@strawberry.enum(description="Why a stack update failed.")
class FailureKind(Enum):
    INVALID_MANIFEST = strawberry.enum_value(
        records.FailureKind.INVALID_MANIFEST, description="The manifest can't be deployed as it is."
    )
    MODULE_NOT_FOUND = strawberry.enum_value(
        records.FailureKind.MODULE_NOT_FOUND, description="No module is there for the kind."
    )
    MODULE_INVALID = strawberry.enum_value(
        records.FailureKind.MODULE_INVALID, description="The module can't be used as it is."
    )
    PULUMI_NOT_FOUND = strawberry.enum_value(
        records.FailureKind.PULUMI_NOT_FOUND, description="There is no Pulumi CLI to run."
    )
    PLUGIN_NOT_FOUND = strawberry.enum_value(
        records.FailureKind.PLUGIN_NOT_FOUND, description="A provider's or a language's plugin is missing."
    )
    PASSPHRASE_REFUSED = strawberry.enum_value(
        records.FailureKind.PASSPHRASE_REFUSED, description="The passphrase is missing or is not the stack's."
    )
    STACK_LOCKED = strawberry.enum_value(
        records.FailureKind.STACK_LOCKED, description="Somebody else holds Pulumi's lock on the stack."
    )
    STACK_REFUSED = strawberry.enum_value(
        records.FailureKind.STACK_REFUSED, description="Pulumi's backend does not take this stack."
    )
    PROGRAM_ERROR = strawberry.enum_value(records.FailureKind.PROGRAM_ERROR, description="The module's program failed.")
    RESOURCE_ERROR = strawberry.enum_value(
        records.FailureKind.RESOURCE_ERROR, description="A resource could not be created, changed or deleted."
    )
    TIMEOUT = strawberry.enum_value(records.FailureKind.TIMEOUT, description="It ran longer than it may.")
    INTERRUPTED = strawberry.enum_value(
        records.FailureKind.INTERRUPTED, description="Something outside the service stopped Pulumi."
    )
    SERVICE_STOPPED = strawberry.enum_value(
        records.FailureKind.SERVICE_STOPPED, description="The service was shut down meanwhile."
    )
    WORKER_LOST = strawberry.enum_value(
        records.FailureKind.WORKER_LOST, description="The service that ran it died meanwhile."
    )
    INTERNAL = strawberry.enum_value(
        records.FailureKind.INTERNAL, description="The service itself failed; its log says more."
    )


@strawberry.type(description="Why a stack update failed.")
class Failure:
    kind: FailureKind = strawberry.field(description="The reason, for programs.")
    message: str = strawberry.field(description="The reason and what to do, for people.")
    retryable: bool = strawberry.field(description="Whether the same deployment may succeed when tried again.")


@strawberry.type(description="An output of a stack.")
class StackOutput:
    name: str = strawberry.field(description="The output's name.")
    value: JSON | None = strawberry.field(description="Its value; null when it is secret.")
    secret: bool = strawberry.field(description="Whether Pulumi keeps it secret.")


@strawberry.type(description="One deployment of a cloud resource, from its acceptance to its outcome.")
class StackUpdate:
    id: strawberry.ID = strawberry.field(description="24 hex digits.")
    revision: int = strawberry.field(
        description="Grows with every change: of two answers the one with the higher revision is the newer."
    )
    cloud_resource_id: strawberry.ID = strawberry.field(description="The cloud resource that is deployed.")
    status: StackUpdateStatus = strawberry.field(description="How it stands.")
    phase: StackUpdatePhase = strawberry.field(description="Where it is on its way.")
    stack_fqdn: str | None = strawberry.field(
        description="`organization/project/stack`; null in records that other programs wrote."
    )
    exit_code: int | None = strawberry.field(
        description="What Pulumi exited with; null while it runs, if it never started, or if a signal ended it."
    )
    failure: Failure | None = strawberry.field(description="Why it failed; null unless it did.")
    stack_outputs: list[StackOutput] = strawberry.field(description="The stack's outputs once it has ended.")
    created_at: datetime = strawberry.field(description="When it was accepted.")
    updated_at: datetime = strawberry.field(description="When this record last changed.")
    started_at: datetime | None = strawberry.field(description="When a worker took it up.")
    finished_at: datetime | None = strawberry.field(description="When its outcome was known.")
    timeout_seconds: int = strawberry.field(description="How long it may run, from `startedAt`.")
    deadline: datetime | None = strawberry.field(description="When it is ended if it still runs; null while queued.")

    @strawberry.field(description="The cloud resource that is deployed, as it is now; null when it is gone.")
    async def cloud_resource(self, info: Info) -> CloudResource | None:
        record = await info.context.resources.get(records.CloudResourceId(self.cloud_resource_id))
        return CloudResource.of(record) if record else None

    @strawberry.field(
        description="What Pulumi printed and how it ended: an object with status, timestamp, stack_fqdn, stdout, "
        "stderr, exit_code, and error unless it succeeded. stdout and stderr hold the last 256 KiB, with "
        "stdout_truncated or stderr_truncated: true when there was more. Null until it has ended."
    )
    async def output(self, info: Info) -> JSON | None:
        text = await info.context.updates.output(records.StackUpdateId(self.id))
        return None if text is None else JSON(json.loads(text))

    @classmethod
    def of(cls, record: records.StackUpdate) -> StackUpdate:
        return cls(
            id=strawberry.ID(record.id),
            revision=record.revision,
            cloud_resource_id=strawberry.ID(record.cloud_resource_id),
            status=StackUpdateStatus(record.status),
            phase=StackUpdatePhase(record.phase),
            stack_fqdn=record.stack_fqdn,
            exit_code=record.exit_code,
            failure=_failure(record.failure),
            stack_outputs=[
                StackOutput(name=output.name, value=JSON(output.value), secret=output.secret)
                for output in record.stack_outputs
            ],
            created_at=record.created_at,
            updated_at=record.updated_at,
            started_at=record.started_at,
            finished_at=record.finished_at,
            timeout_seconds=round(record.timeout.total_seconds()),
            deadline=record.deadline,
        )


def _failure(failure: records.Failure | None) -> Failure | None:
    if failure is None:
        return None
    return Failure(kind=FailureKind(failure.kind), message=failure.message, retryable=failure.retryable)


@strawberry.input(description="Which stack updates to list; what is left out does not restrict.")
class StackUpdateFilter:
    cloud_resource_id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET, description="Only those of this cloud resource."
    )
    statuses: list[StackUpdateStatus] | None = strawberry.field(
        default=strawberry.UNSET, description="Only those in one of these statuses; an empty list gives none."
    )

    def read(self) -> ports.StackUpdateFilter:
        id_ = None if self.cloud_resource_id is strawberry.UNSET else self.cloud_resource_id
        statuses = None if self.statuses is strawberry.UNSET else self.statuses
        return ports.StackUpdateFilter(
            cloud_resource_id=None if id_ is None else records.CloudResourceId(read_id(id_, "cloudResourceId")),
            statuses=None if statuses is None else frozenset(records.Status[status.name] for status in statuses),
        )


Filter = Annotated[StackUpdateFilter | None, strawberry.argument(description="Leave out to list all.")]


@strawberry.type
class StackUpdateQueries:
    @strawberry.field(description="The stack update with this id; null when there is none.")
    async def stack_update(self, info: Info, id: ById) -> StackUpdate | None:  # noqa: A002 (the schema's word)
        record = await info.context.updates.get(records.StackUpdateId(read_id(id, "id")))
        return StackUpdate.of(record) if record else None

    @strawberry.field(description="Stack updates, newest first.")
    async def stack_updates(
        self,
        info: Info,
        first: First = DEFAULT_FIRST,
        after: After = strawberry.UNSET,
        filter: Filter = strawberry.UNSET,  # noqa: A002 (the schema's word)
    ) -> Connection[StackUpdate]:
        request = PageRequest.read(first, after)
        where = filter.read() if filter else ports.EVERY_UPDATE
        found = await info.context.updates.page(request.rows, request.after, where)
        return connection(request, found, StackUpdate.of, lambda: info.context.updates.count(where))


@strawberry.input(description="A cloud resource to deploy.")
class DeployCloudResourceInput:
    cloud_resource_id: strawberry.ID = strawberry.field(description="The cloud resource's id.")
    timeout_seconds: int | None = strawberry.field(
        default=strawberry.UNSET,
        description="How long it may run, in whole seconds from 1; more than the server's limit is cut to that limit.",
    )
