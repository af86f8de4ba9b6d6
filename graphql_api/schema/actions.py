"""What can be done about a stack update, so that clients copy no rules."""

from __future__ import annotations

import strawberry

from graphql_api.domain import records
from graphql_api.domain.records import CancellationStage
from graphql_api.schema.context import Info


@strawberry.type(description="What can be done about a stack update as it is now.")
class StackUpdateActions:
    update: strawberry.Private[records.StackUpdate]

    @strawberry.field(
        description="Whether its cloud resource can be deployed again: the update has ended, and the cloud resource "
        "is still kept and names a stack."
    )
    async def can_deploy_again(self, info: Info) -> bool:
        resource = await info.context.loaders.cloud_resource.load(self.update.cloud_resource_id)
        return await info.context.services.updates.can_deploy_again(self.update, resource)

    @strawberry.field(description="Whether cancelStackUpdate begins something: it has not ended, and is not ending.")
    def can_cancel(self) -> bool:
        return self._goes_on

    @strawberry.field(
        description="Whether cancelStackUpdate with `force` hastens its end: that has begun, and Pulumi is not killed "
        "yet."
    )
    def can_force_cancel(self) -> bool:
        begun = self.update.cancellation
        return not self.update.ended and begun is not None and begun.stage is not CancellationStage.KILLED

    @strawberry.field(
        description="Whether extendStackUpdateDeadline can give it more time, up to the server's limit: it has not "
        "ended, and is not ending."
    )
    def can_extend_deadline(self) -> bool:
        return self._goes_on

    @property
    def _goes_on(self) -> bool:
        return not self.update.ended and self.update.cancellation is None
