"""Every error that this product raises on purpose. Each has a stable code and a sentence that says what to do.

StackcastError
├── Refusal                 expected answers: members of a mutation's union in the schema
│   ├── InvalidManifest
│   ├── CloudResourceExists
│   ├── CloudResourceNotFound
│   ├── CloudResourceIdentityChanged
│   ├── CloudResourceBusy
│   ├── StackUpdateNotFound
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
