"""Stack updates in the schema."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated

import strawberry
from strawberry.scalars import JSON

from graphql_api.domain import records
from graphql_api.schema.actions import StackUpdateActions
from graphql_api.schema.cancellation import Cancellation
from graphql_api.schema.cloud_resources import ById, CloudResource
from graphql_api.schema.context import Info
from graphql_api.schema.enums import (
    FailureKind,
    QueueReason,
    StackOperation,
    StackUpdatePhase,
    StackUpdateStatus,
    WhenBusy,
)
from graphql_api.schema.events import AfterSeq, StackUpdateEventPage
from graphql_api.schema.filters import LogFilter, StackUpdateFilter
from graphql_api.schema.node import Node
from graphql_api.schema.pagination import (
    DEFAULT_EVENTS,
    EVENT_LIMIT,
    After,
    Before,
    Connection,
    First,
    FirstEvents,
    FirstOnly,
    Last,
    PageRequest,
    connection,
    page_of,
    read_size,
)
from graphql_api.schema.progress import Progress, ResourceProgress
from graphql_api.schema.queue import QueuePlace
from graphql_api.schema.scalars import read_id

Filter = Annotated[StackUpdateFilter | None, strawberry.argument(description="Leave out to list all.")]
EventFilter = Annotated[LogFilter | None, strawberry.argument(description="Leave out to get all events.")]


@strawberry.type(description="An error that Pulumi reported.")
class Diagnostic:
    message: str = strawberry.field(description="Pulumi's own words, up to 2,000 characters.")
    urn: str | None = strawberry.field(description="The Pulumi resource that it is about; null when it is about none.")


@strawberry.type(description="Why a stack update failed.")
class Failure:
    kind: FailureKind = strawberry.field(description="The reason, for programs.")
    message: str = strawberry.field(description="The reason and what to do, for people.")
    retryable: bool = strawberry.field(description="Whether the same deployment may succeed when tried again.")
    diagnostics: list[Diagnostic] = strawberry.field(
        description="The first 10 errors that Pulumi reported; empty when it reported none."
    )


@strawberry.type(description="An output of a stack.")
class StackOutput:
    name: str = strawberry.field(description="The output's name.")
    value: JSON | None = strawberry.field(description="Its value; null when it is secret.")
    secret: bool = strawberry.field(description="Whether Pulumi keeps it secret.")


def _stack_outputs(self: StackUpdate) -> list[StackOutput]:
    return [
        StackOutput(name=output.name, value=JSON(output.value), secret=output.secret)
        for output in self.record.stack_outputs
    ]


def _progress(self: StackUpdate) -> Progress:
    return Progress.of(self.record.progress)


def _actions(self: StackUpdate) -> StackUpdateActions:
    return StackUpdateActions(update=self.record)


@strawberry.type(description="One deployment of a cloud resource, from its acceptance to its outcome.")
class StackUpdate(Node):
    id: strawberry.ID = strawberry.field(description="24 hex digits.")
    revision: int = strawberry.field(
        description="Grows with every change: of two answers the one with the higher revision is the newer."
    )
    cloud_resource_id: strawberry.ID = strawberry.field(description="The cloud resource that is deployed.")
    operation: StackOperation = strawberry.field(description="What it does to its stack.")
    status: StackUpdateStatus = strawberry.field(description="How it stands.")
    phase: StackUpdatePhase = strawberry.field(description="Where it is on its way.")
    stack_fqdn: str | None = strawberry.field(
        description="`organization/project/stack`; null in records that other programs wrote."
    )
    exit_code: int | None = strawberry.field(
        description="What Pulumi exited with; null while it runs, if it never started, or if a signal ended it."
    )
    failure: Failure | None = strawberry.field(description="Why it failed; null unless it did.")
    stack_outputs: list[StackOutput] = strawberry.field(
        resolver=_stack_outputs,
        description="The stack's outputs, as far as they are known: they come while it runs, and are complete once it "
        "has ended.",
    )
    progress: Progress = strawberry.field(resolver=_progress, description="How far it has come.")
    created_at: datetime = strawberry.field(description="When it was accepted.")
    updated_at: datetime = strawberry.field(description="When this record last changed.")
    started_at: datetime | None = strawberry.field(description="When a worker took it up.")
    finished_at: datetime | None = strawberry.field(description="When its outcome was known.")
    timeout_seconds: int = strawberry.field(description="How long it may run, from `startedAt`.")
    deadline: datetime | None = strawberry.field(description="When it is ended if it still runs; null while queued.")
    cancellation: Cancellation | None = strawberry.field(
        description="How it is being ended before its time, or was; null when nothing like that was begun."
    )
    requested_by: str | None = strawberry.field(
        description="The name of the token that asked for the deployment; null when it had none."
    )
    actions: StackUpdateActions = strawberry.field(resolver=_actions, description="What can be done about it.")
    record: strawberry.Private[records.StackUpdate]

    @strawberry.field(description="The cloud resource that is deployed, as it is now; null when it is gone.")
    async def cloud_resource(self, info: Info) -> CloudResource | None:
        record = await info.context.loaders.cloud_resource.load(records.CloudResourceId(self.cloud_resource_id))
        return CloudResource.of(record) if record else None

    @strawberry.field(description="Where it stands in the queue; null unless it is QUEUED.")
    async def queue(self, info: Info) -> QueuePlace | None:
        place = await info.context.services.queue.place(self.record)
        if place is None:
            return None
        before = StackUpdate.of(place.blocked_by) if place.blocked_by else None
        return QueuePlace(position=place.position, blocked_by=before, reason=QueueReason(place.reason))

    @strawberry.field(
        description="What was done to each Pulumi resource so far, in the order in which Pulumi began. An operation "
        "keeps its place, so that a list of them only grows."
    )
    async def resources(
        self, info: Info, first: FirstOnly = strawberry.UNSET, after: After = strawberry.UNSET
    ) -> Connection[ResourceProgress]:
        found = await info.context.services.events.resources(self.record.id)
        return page_of(found, first, after, ResourceProgress.of)

    @strawberry.field(
        description="A part of its log. Where much of it has to be searched, the page may hold less than was asked "
        "for, or nothing, and still have more: go on with `seq`. Events that are kept no longer are passed over."
    )
    async def log(
        self,
        info: Info,
        after: AfterSeq = 0,
        first: FirstEvents = DEFAULT_EVENTS,
        filter: EventFilter = strawberry.UNSET,  # noqa: A002 (the schema's word)
    ) -> StackUpdateEventPage:
        size = read_size(first, "first", EVENT_LIMIT) or DEFAULT_EVENTS
        page = await info.context.services.events.page(self.record.id, after, size, LogFilter.of(filter))
        return StackUpdateEventPage.of(page)

    @strawberry.field(
        description="What Pulumi printed and how it ended: an object with status, timestamp, stack_fqdn, stdout, "
        "stderr, exit_code, and error unless it succeeded. stdout and stderr hold the last 256 KiB, with "
        "stdout_truncated or stderr_truncated: true when there was more. Null until it has ended."
    )
    async def output(self, info: Info) -> JSON | None:
        text = await info.context.services.updates.output(records.StackUpdateId(self.id))
        return None if text is None else JSON(json.loads(text))

    @classmethod
    def of(cls, record: records.StackUpdate) -> StackUpdate:
        return cls(
            id=strawberry.ID(record.id),
            revision=record.revision,
            cloud_resource_id=strawberry.ID(record.cloud_resource_id),
            operation=StackOperation(record.operation),
            status=StackUpdateStatus(record.status),
            phase=StackUpdatePhase(record.phase),
            stack_fqdn=record.stack_fqdn,
            exit_code=record.exit_code,
            failure=_failure(record.failure),
            created_at=record.created_at,
            updated_at=record.updated_at,
            started_at=record.started_at,
            finished_at=record.finished_at,
            timeout_seconds=round(record.timeout.total_seconds()),
            deadline=record.deadline,
            cancellation=Cancellation.of(record.cancellation) if record.cancellation else None,
            requested_by=record.requested_by,
            record=record,
        )


def _failure(failure: records.Failure | None) -> Failure | None:
    if failure is None:
        return None
    return Failure(
        kind=FailureKind(failure.kind),
        message=failure.message,
        retryable=failure.retryable,
        diagnostics=[Diagnostic(message=it.message, urn=it.urn) for it in failure.diagnostics],
    )


@strawberry.type
class StackUpdateQueries:
    @strawberry.field(description="The stack update with this id; null when there is none.")
    async def stack_update(self, info: Info, id: ById) -> StackUpdate | None:  # noqa: A002 (the schema's word)
        record = await info.context.services.updates.get(records.StackUpdateId(read_id(id, "id")))
        return StackUpdate.of(record) if record else None

    @strawberry.field(description="Stack updates, newest first.")
    async def stack_updates(
        self,
        info: Info,
        first: First = strawberry.UNSET,
        after: After = strawberry.UNSET,
        last: Last = strawberry.UNSET,
        before: Before = strawberry.UNSET,
        filter: Filter = strawberry.UNSET,  # noqa: A002 (the schema's word)
    ) -> Connection[StackUpdate]:
        updates, where = info.context.services.updates, StackUpdateFilter.of(filter)
        return await connection(
            PageRequest.read(first, after, last, before),
            lambda slice_: updates.page(slice_, where),
            StackUpdate.of,
            lambda: updates.count(where),
        )


@strawberry.input(description="A cloud resource to deploy.")
class DeployCloudResourceInput:
    cloud_resource_id: strawberry.ID = strawberry.field(description="The cloud resource's id.")
    timeout_seconds: int | None = strawberry.field(
        default=strawberry.UNSET,
        description="How long it may run, in whole seconds from 1; more than the server's limit is cut to that limit.",
    )
    when_busy: WhenBusy | None = strawberry.field(
        default=WhenBusy.QUEUE, description="What to do when stack updates of the stack are under way already."
    )
    idempotency_key: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="A text of your own, such as a UUID, of up to 200 printable characters. The same request under the "
        "same key within 24 hours is answered with the same stack update, so that it can be repeated safely when its "
        "answer was lost.",
    )


@strawberry.input(description="A stack update to cancel.")
class CancelStackUpdateInput:
    id: strawberry.ID = strawberry.field(description="The stack update's id.")
    force: bool | None = strawberry.field(
        default=False, description="Whether to go on to the next step at once where its end has begun already."
    )


@strawberry.input(description="A stack update to give more time.")
class ExtendStackUpdateDeadlineInput:
    id: strawberry.ID = strawberry.field(description="The stack update's id.")
    timeout_seconds: int = strawberry.field(
        description="How long it may run, in whole seconds from `startedAt`; more than it has now. More than the "
        "server's limit is cut to that limit."
    )
