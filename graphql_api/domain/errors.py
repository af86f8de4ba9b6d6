"""Every error that this product raises on purpose. Each has a stable code and a sentence that says what to do.

StackcastError
├── Refusal                 expected answers: members of a mutation's union in the schema
│   ├── InvalidManifest
│   ├── CloudResourceExists
│   ├── CloudResourceNotFound
│   ├── CloudResourceIdentityChanged
│   ├── CloudResourceBusy
│   ├── StackUpdateNotFound
│   ├── StackUpdateEnded
│   ├── StackUpdateCancelling
│   ├── StackBusy
│   ├── IdempotencyKeyReused
│   ├── EventsExpired
│   ├── CursorAhead
│   ├── ModuleNotFound
│   ├── ModuleInvalid
│   ├── QueueFull
│   └── PulumiNotFound
├── BadUserInput            a malformed argument: a GraphQL error with ``extensions.code``
├── StoreUnavailable        the database did not answer; the same call may work later
├── StoreRefused            the database can't be used as it is; an operator has to act
├── RevisionConflict        somebody else changed the record first
└── StartRefused            the service can't start as it is set up
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from graphql_api.domain.records import CloudResource, StackUpdate


class StackcastError(Exception):
    """Base of all; ``message`` is a sentence for people and never holds a secret."""

    code: ClassVar[str] = "INTERNAL_SERVER_ERROR"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Refusal(StackcastError):
    """What was asked can't be done, and the caller can do something about it.

    ``path`` names the input field at fault, from the mutation's ``input`` on; None when no field is at fault.
    """

    path: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class ManifestProblem:
    """One thing wrong with a manifest.

    ``path`` is the place in the document (``metadata.name``), None for the whole; line and column count from 1.
    """

    message: str
    path: str | None = None
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}: {self.message}" if self.line else self.message


class InvalidManifest(Refusal):
    """The manifest can't be kept, or can't be deployed, as it is; ``problems`` says why."""

    code = "INVALID_MANIFEST"
    path = ("manifest",)

    def __init__(self, problems: Iterable[ManifestProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__(" ".join(str(problem) for problem in self.problems))


class CloudResourceExists(Refusal):
    """A cloud resource of this kind and name is kept already; it is in ``cloud_resource``."""

    code = "CLOUD_RESOURCE_EXISTS"
    path = ("manifest",)

    def __init__(self, cloud_resource: CloudResource) -> None:
        self.cloud_resource = cloud_resource
        super().__init__(
            f"A cloud resource of kind {cloud_resource.kind} named {cloud_resource.name} exists already, with id "
            f"{cloud_resource.id}. Use applyCloudResource to change it, or give this one another metadata.name."
        )


class CloudResourceNotFound(Refusal):
    """No cloud resource has this id, which the caller gave in the input field ``field``."""

    code = "CLOUD_RESOURCE_NOT_FOUND"

    def __init__(self, id_: str, field: str = "cloudResourceId") -> None:
        self.path = (field,)
        super().__init__(f"There is no cloud resource with id {id_}. The query cloudResources lists those there are.")


class CloudResourceIdentityChanged(Refusal):
    """A manifest names another kind or name than the cloud resource it is meant for, in ``cloud_resource``."""

    code = "CLOUD_RESOURCE_IDENTITY_CHANGED"
    path = ("manifest",)

    def __init__(self, cloud_resource: CloudResource, kind: str, name: str) -> None:
        self.cloud_resource = cloud_resource
        self.kind = kind
        self.name = name
        super().__init__(
            f"The cloud resource {cloud_resource.id} is of kind {cloud_resource.kind} and named {cloud_resource.name}; "
            f"the manifest is of kind {kind} and named {name}, and neither may change. Correct the manifest, or use "
            "applyCloudResource to keep it beside this one."
        )


class CloudResourceBusy(Refusal):
    """A deployment of the cloud resource is still under way; it is in ``stack_update``."""

    code = "CLOUD_RESOURCE_BUSY"
    path = ("id",)

    def __init__(self, cloud_resource: CloudResource, stack_update: StackUpdate) -> None:
        self.stack_update = stack_update
        super().__init__(
            f"The cloud resource {cloud_resource.id} is being deployed by the stack update {stack_update.id}. Wait "
            "until that has ended (stackUpdateChanged tells when), then delete it."
        )


class StackUpdateNotFound(Refusal):
    """No stack update has this id."""

    code = "STACK_UPDATE_NOT_FOUND"
    path = ("id",)

    def __init__(self, id_: str) -> None:
        super().__init__(f"There is no stack update with id {id_}. The query stackUpdates lists those there are.")


class StackUpdateEnded(Refusal):
    """The stack update has ended, and never changes again; it is in ``stack_update``."""

    code = "STACK_UPDATE_ENDED"
    path = ("id",)

    def __init__(self, stack_update: StackUpdate) -> None:
        self.stack_update = stack_update
        super().__init__(
            f"The stack update {stack_update.id} has ended with {stack_update.status.name}; nothing about it can be "
            "changed any more. Deploy again where that is what you want."
        )


class StackUpdateCancelling(Refusal):
    """The stack update is being ended, so that its deadline can't be moved; it is in ``stack_update``."""

    code = "STACK_UPDATE_CANCELLING"
    path = ("id",)

    def __init__(self, stack_update: StackUpdate) -> None:
        self.stack_update = stack_update
        super().__init__(
            f"The stack update {stack_update.id} is being ended, which can't be taken back. Wait until it has ended "
            "(stackUpdateChanged tells when), then deploy again."
        )


class StackBusy(Refusal):
    """Another stack update of the stack is under way or waits, and the caller did not want to queue."""

    code = "STACK_BUSY"
    path = ("cloudResourceId",)

    def __init__(self, blocked_by: StackUpdate) -> None:
        self.blocked_by = blocked_by
        super().__init__(
            f"The stack {blocked_by.stack_fqdn} is being deployed by the stack update {blocked_by.id}. Wait until that "
            "has ended (stackUpdateChanged tells when), cancel it, or deploy with whenBusy: QUEUE."
        )


class IdempotencyKeyReused(Refusal):
    """The caller has used this key for another input within a day; what that led to is in ``stack_update_id``."""

    code = "IDEMPOTENCY_KEY_REUSED"
    path = ("idempotencyKey",)

    def __init__(self, stack_update_id: str) -> None:
        self.stack_update_id = stack_update_id
        super().__init__(
            f"This idempotencyKey was used within 24 hours for other input, which led to the stack update "
            f"{stack_update_id}. Take a new key for each deployment, and the same one only to repeat a request."
        )


class EventsExpired(Refusal):
    """The events that were asked for are kept no longer; those from ``first_available_seq`` on are.

    It is None where no event of the stack update is kept.
    """

    code = "EVENTS_EXPIRED"
    path = ("after",)

    def __init__(self, id_: str, first_available_seq: int | None) -> None:
        self.first_available_seq = first_available_seq
        what = (
            "No event of it is kept; query stackUpdate for how it ended."
            if first_available_seq is None
            else f"Those from {first_available_seq} on are: go on with after: {first_available_seq - 1}."
        )
        super().__init__(f"The events that were asked for of the stack update {id_} are kept no longer. {what}")


class CursorAhead(Refusal):
    """Events were asked for after one that there is not; the last one there is has ``last_seq``."""

    code = "CURSOR_AHEAD"
    path = ("after",)

    def __init__(self, id_: str, last_seq: int) -> None:
        self.last_seq = last_seq
        super().__init__(
            f"The last event of the stack update {id_} has seq {last_seq}, so nothing can be given after a later one. "
            "Go on with the seq of the last event that you got of this stack update."
        )


class ModuleNotFound(Refusal):
    """No Pulumi module is there for the manifest's kind."""

    code = "MODULE_NOT_FOUND"
    path = ("cloudResourceId",)


class ModuleInvalid(Refusal):
    """The Pulumi module for the manifest's kind can't be used as it is."""

    code = "MODULE_INVALID"
    path = ("cloudResourceId",)


class QueueFull(Refusal):
    """So many deployments are under way or wait that no more are accepted; ``limit`` says how many."""

    code = "QUEUE_FULL"

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(
            f"There are {limit} deployments under way or waiting, and no more are accepted. Wait until some have ended "
            "(stackUpdatesChanged tells when), then deploy again."
        )


class PulumiNotFound(Refusal):
    """The service has no Pulumi CLI to run."""

    code = "PULUMI_NOT_FOUND"


class BadUserInput(StackcastError):
    """An argument is malformed; ``argument`` names it."""

    code = "BAD_USER_INPUT"

    def __init__(self, message: str, argument: str) -> None:
        super().__init__(message)
        self.argument = argument


class StoreUnavailable(StackcastError):
    """The database did not answer in time."""

    code = "STORE_UNAVAILABLE"


class StoreRefused(StackcastError):
    """The database can't be used as it is; the message says what an operator has to do."""

    code = "STORE_REFUSED"


class RevisionConflict(StackcastError):
    """The stored record is not the one that the change was made from."""

    code = "REVISION_CONFLICT"


class StartRefused(StackcastError):
    """The service can't start as it is set up; the message says which setting to change."""

    code = "START_REFUSED"
