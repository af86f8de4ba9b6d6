"""The enums of the schema, each value that of the records."""

from __future__ import annotations

from enum import Enum

import strawberry

from graphql_api.domain import events, progress, records
from graphql_api.service import queue, updates


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
    CANCELLING = strawberry.enum_value(
        records.Phase.CANCELLING, description="It is being ended before its time; `cancellation` says how far that is."
    )
    RECORDING = strawberry.enum_value(
        records.Phase.RECORDING, description="Pulumi has ended; the rest of what it said is written down."
    )
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
    LIMIT_EXCEEDED = strawberry.enum_value(
        records.FailureKind.LIMIT_EXCEEDED, description="It printed or used more than it may."
    )
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


@strawberry.enum(description="Why a deployment is ended before it has ended by itself.")
class CancellationReason(Enum):
    ASKED = strawberry.enum_value(
        records.CancellationReason.ASKED, description="Somebody asked for it with cancelStackUpdate."
    )
    SUPERSEDED = strawberry.enum_value(
        records.CancellationReason.SUPERSEDED, description="It still waited when a later one took its place."
    )
    TIMEOUT = strawberry.enum_value(records.CancellationReason.TIMEOUT, description="It ran longer than it may.")
    LIMIT_EXCEEDED = strawberry.enum_value(
        records.CancellationReason.LIMIT_EXCEEDED, description="It printed or used more than it may."
    )
    SHUTDOWN = strawberry.enum_value(records.CancellationReason.SHUTDOWN, description="The service is shut down.")


@strawberry.enum(description="How far ending a deployment has come.")
class CancellationStage(Enum):
    REQUESTED = strawberry.enum_value(
        records.CancellationStage.REQUESTED, description="It is known; Pulumi has not been told yet."
    )
    INTERRUPTED = strawberry.enum_value(
        records.CancellationStage.INTERRUPTED,
        description="Pulumi was told to stop: it finishes the resources that it has in hand, and starts no others.",
    )
    TERMINATED = strawberry.enum_value(
        records.CancellationStage.TERMINATED,
        description="Pulumi was told to stop at once: it may leave resources that its state does not know.",
    )
    KILLED = strawberry.enum_value(
        records.CancellationStage.KILLED, description="Pulumi was killed, and had no chance to clean up."
    )


@strawberry.enum(description="What Pulumi does to a resource, in the words of its engine.")
class ResourceOperation(Enum):
    SAME = strawberry.enum_value(progress.ResourceOperation.SAME, description="Nothing: it is as it should be.")
    CREATE = strawberry.enum_value(progress.ResourceOperation.CREATE, description="Creates it.")
    UPDATE = strawberry.enum_value(progress.ResourceOperation.UPDATE, description="Changes it in place.")
    DELETE = strawberry.enum_value(progress.ResourceOperation.DELETE, description="Deletes it.")
    REPLACE = strawberry.enum_value(
        progress.ResourceOperation.REPLACE, description="Replaces it: ties the two steps that follow together."
    )
    CREATE_REPLACEMENT = strawberry.enum_value(
        progress.ResourceOperation.CREATE_REPLACEMENT, description="Creates the new one of a replacement."
    )
    DELETE_REPLACED = strawberry.enum_value(
        progress.ResourceOperation.DELETE_REPLACED, description="Deletes the old one of a replacement."
    )
    READ = strawberry.enum_value(
        progress.ResourceOperation.READ, description="Reads one that something else looks after."
    )
    REFRESH = strawberry.enum_value(
        progress.ResourceOperation.REFRESH, description="Reads how it really is into Pulumi's state."
    )
    IMPORT = strawberry.enum_value(
        progress.ResourceOperation.IMPORT, description="Takes one that is there already into Pulumi's state."
    )
    OTHER = strawberry.enum_value(
        progress.ResourceOperation.OTHER, description="Something that only later versions of Pulumi do."
    )


@strawberry.enum(description="How an operation on a resource stands.")
class ResourceState(Enum):
    IN_PROGRESS = strawberry.enum_value(progress.ResourceState.IN_PROGRESS, description="Pulumi has begun it.")
    DONE = strawberry.enum_value(progress.ResourceState.DONE, description="It has ended well.")
    FAILED = strawberry.enum_value(progress.ResourceState.FAILED, description="It has failed.")
    INTERRUPTED = strawberry.enum_value(
        progress.ResourceState.INTERRUPTED, description="Pulumi has ended without a word of how this ended."
    )


@strawberry.enum(description="Where a line was written to.")
class LogStream(Enum):
    STDOUT = strawberry.enum_value(events.Stream.STDOUT, description="Pulumi's standard output.")
    STDERR = strawberry.enum_value(events.Stream.STDERR, description="Pulumi's standard error.")


@strawberry.enum(description="How grave a diagnostic is; what is less grave than a warning is a line of the log.")
class DiagnosticSeverity(Enum):
    WARNING = strawberry.enum_value(events.Severity.WARNING, description="The deployment goes on.")
    ERROR = strawberry.enum_value(events.Severity.ERROR, description="Something has failed.")


@strawberry.enum(description="Why a stack update still waits.")
class QueueReason(Enum):
    STACK_BUSY = strawberry.enum_value(
        queue.QueueReason.STACK_BUSY, description="Another stack update of its stack comes first: `blockedBy`."
    )
    PLACES_TAKEN = strawberry.enum_value(
        queue.QueueReason.PLACES_TAKEN, description="As many deployments run as may run at once."
    )
    STARTING = strawberry.enum_value(
        queue.QueueReason.STARTING, description="For nothing of its own: it is taken up in its turn, mostly at once."
    )


@strawberry.enum(description="What to do when stack updates of the stack are under way already.")
class WhenBusy(Enum):
    QUEUE = strawberry.enum_value(updates.WhenBusy.QUEUE, description="Wait for them.")
    REJECT = strawberry.enum_value(
        updates.WhenBusy.REJECT, description="Refuse with StackBusy, and start and store nothing."
    )
    SUPERSEDE_PENDING = strawberry.enum_value(
        updates.WhenBusy.SUPERSEDE_PENDING,
        description="Wait for the one that is being deployed, and cancel those that still wait.",
    )
    JOIN = strawberry.enum_value(
        updates.WhenBusy.JOIN,
        description="Answer with the newest of them if it deploys the same manifest of the same cloud resource and is "
        "not being cancelled; otherwise wait.",
    )
