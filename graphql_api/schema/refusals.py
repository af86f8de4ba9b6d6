"""What mutations answer when they can't do what was asked: the refusals of the domain as types of the schema."""

from __future__ import annotations

from typing import Any

import strawberry

from graphql_api.domain import errors
from graphql_api.schema.cloud_resources import CloudResource, ManifestProblem
from graphql_api.schema.stack_updates import StackUpdate


@strawberry.interface(description="Why something that was asked for can't be done, and what the caller can do.")
class UserError:
    message: str = strawberry.field(description="A sentence for people: what is wrong and what to do.")
    code: str = strawberry.field(description="A stable word for programs.")
    path: list[str] | None = strawberry.field(description="The input field at fault; null when none is.")

    @classmethod
    def of(cls, refusal: Any) -> Any:
        return cls(**_common(refusal))


def _common(refusal: errors.Refusal) -> dict[str, Any]:
    return {"message": refusal.message, "code": refusal.code, "path": list(refusal.path) if refusal.path else None}


@strawberry.type(description="The manifest can't be kept, or can't be deployed, as it is.")
class InvalidManifest(UserError):
    problems: list[ManifestProblem] = strawberry.field(description="Everything that is wrong with it.")

    @classmethod
    def of(cls, refusal: errors.InvalidManifest) -> InvalidManifest:
        return cls(**_common(refusal), problems=[ManifestProblem.of(problem) for problem in refusal.problems])


@strawberry.type(description="A cloud resource of this kind and name is kept already.")
class CloudResourceExists(UserError):
    cloud_resource: CloudResource = strawberry.field(description="The one that is kept.")

    @classmethod
    def of(cls, refusal: errors.CloudResourceExists) -> CloudResourceExists:
        return cls(**_common(refusal), cloud_resource=CloudResource.of(refusal.cloud_resource))


@strawberry.type(description="No cloud resource has this id.")
class CloudResourceNotFound(UserError):
    pass


@strawberry.type(description="The manifest is of another kind or name than the cloud resource; neither may change.")
class CloudResourceIdentityChanged(UserError):
    cloud_resource: CloudResource = strawberry.field(description="The cloud resource, which is as it was.")
    given_kind: str = strawberry.field(description="The manifest's kind.")
    given_name: str = strawberry.field(description="The manifest's name.")

    @classmethod
    def of(cls, refusal: errors.CloudResourceIdentityChanged) -> CloudResourceIdentityChanged:
        resource = CloudResource.of(refusal.cloud_resource)
        return cls(**_common(refusal), cloud_resource=resource, given_kind=refusal.kind, given_name=refusal.name)


@strawberry.type(description="A deployment of the cloud resource is still under way.")
class CloudResourceBusy(UserError):
    stack_update: StackUpdate = strawberry.field(description="The deployment: watch it with stackUpdateChanged.")

    @classmethod
    def of(cls, refusal: errors.CloudResourceBusy) -> CloudResourceBusy:
        return cls(**_common(refusal), stack_update=StackUpdate.of(refusal.stack_update))


@strawberry.type(description="No stack update has this id.")
class StackUpdateNotFound(UserError):
    pass


@strawberry.type(description="The stack update has ended, and nothing about it can be changed any more.")
class StackUpdateEnded(UserError):
    stack_update: StackUpdate = strawberry.field(description="As it ended.")

    @classmethod
    def of(cls, refusal: errors.StackUpdateEnded) -> StackUpdateEnded:
        return cls(**_common(refusal), stack_update=StackUpdate.of(refusal.stack_update))


@strawberry.type(description="The stack update is being ended, so that its deadline can't be moved.")
class StackUpdateCancelling(UserError):
    stack_update: StackUpdate = strawberry.field(description="As it is now; `cancellation` says how far that has come.")

    @classmethod
    def of(cls, refusal: errors.StackUpdateCancelling) -> StackUpdateCancelling:
        return cls(**_common(refusal), stack_update=StackUpdate.of(refusal.stack_update))


@strawberry.type(description="Stack updates of the stack are under way, and the caller did not want to wait.")
class StackBusy(UserError):
    blocked_by: StackUpdate = strawberry.field(description="The newest of them: watch it with stackUpdateChanged.")

    @classmethod
    def of(cls, refusal: errors.StackBusy) -> StackBusy:
        return cls(**_common(refusal), blocked_by=StackUpdate.of(refusal.blocked_by))


@strawberry.type(description="The idempotencyKey was used for other input within 24 hours.")
class IdempotencyKeyReused(UserError):
    stack_update_id: strawberry.ID = strawberry.field(description="The stack update that the other input led to.")

    @classmethod
    def of(cls, refusal: errors.IdempotencyKeyReused) -> IdempotencyKeyReused:
        return cls(**_common(refusal), stack_update_id=strawberry.ID(refusal.stack_update_id))


@strawberry.type(description="The events that were asked for are kept no longer.")
class EventsExpired(UserError):
    first_available_seq: int | None = strawberry.field(
        description="The first event that is kept: go on with one less as `after`. Null when none is kept."
    )

    @classmethod
    def of(cls, refusal: errors.EventsExpired) -> EventsExpired:
        return cls(**_common(refusal), first_available_seq=refusal.first_available_seq)


@strawberry.type(description="Events were asked for after one that there is not.")
class CursorAhead(UserError):
    last_seq: int = strawberry.field(description="The last event that there is; 0 when there is none yet.")

    @classmethod
    def of(cls, refusal: errors.CursorAhead) -> CursorAhead:
        return cls(**_common(refusal), last_seq=refusal.last_seq)


@strawberry.type(description="No Pulumi module is there for the manifest's kind.")
class ModuleNotFound(UserError):
    pass


@strawberry.type(description="The Pulumi module for the manifest's kind can't be used as it is.")
class ModuleInvalid(UserError):
    pass


@strawberry.type(description="The service has no Pulumi CLI to run.")
class PulumiNotFound(UserError):
    pass


@strawberry.type(description="So many deployments are under way or wait that no more are accepted.")
class QueueFull(UserError):
    limit: int = strawberry.field(description="How many may be under way or wait.")

    @classmethod
    def of(cls, refusal: errors.QueueFull) -> QueueFull:
        return cls(**_common(refusal), limit=refusal.limit)


class _Answer:
    """Turns a refusal that a resolver raised into the member of its field's union."""

    exception_type: type[errors.Refusal]
    error_type: type[UserError]

    def handle(self, exception: errors.Refusal, *, field: Any, info: Any) -> UserError:
        answer: UserError = self.error_type.of(exception)
        return answer


def _answer(refusal: type[errors.Refusal], member: type[UserError]) -> _Answer:
    answer = _Answer()
    answer.exception_type, answer.error_type = refusal, member
    return answer


ANSWERS = [
    _answer(errors.InvalidManifest, InvalidManifest),
    _answer(errors.CloudResourceExists, CloudResourceExists),
    _answer(errors.CloudResourceNotFound, CloudResourceNotFound),
    _answer(errors.CloudResourceIdentityChanged, CloudResourceIdentityChanged),
    _answer(errors.CloudResourceBusy, CloudResourceBusy),
    _answer(errors.StackUpdateNotFound, StackUpdateNotFound),
    _answer(errors.StackUpdateEnded, StackUpdateEnded),
    _answer(errors.StackUpdateCancelling, StackUpdateCancelling),
    _answer(errors.StackBusy, StackBusy),
    _answer(errors.IdempotencyKeyReused, IdempotencyKeyReused),
    _answer(errors.ModuleNotFound, ModuleNotFound),
    _answer(errors.ModuleInvalid, ModuleInvalid),
    _answer(errors.PulumiNotFound, PulumiNotFound),
    _answer(errors.QueueFull, QueueFull),
]
