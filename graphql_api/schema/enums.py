"""The enums of the schema, each value that of the records."""

from __future__ import annotations

from enum import Enum

import strawberry

from graphql_api.domain import records


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


@strawberry.enum(description="What a stack update does to its stack.")
class StackOperation(Enum):
    UPDATE = strawberry.enum_value(
        records.Operation.UPDATE,
        description="Deploys the manifest: creates, changes and deletes resources to match it.",
    )


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
