"""The service itself in the schema."""

from __future__ import annotations

import strawberry

from graphql_api.domain.errors import PulumiNotFound
from graphql_api.schema.context import Info
from graphql_api.service.facts import ServerFacts


@strawberry.type(description="What the service is, how it is set up, and how busy it is.")
class ServerInfo:
    version: str = strawberry.field(description="The service's own version.")
    backend: str = strawberry.field(description="Where Pulumi keeps its state: the scheme of its URL, such as `file`.")
    store: str = strawberry.field(description="Where the service keeps its records: `SQLite` or `MongoDB`.")
    max_concurrent: int = strawberry.field(description="How many deployments may run at once, on different stacks.")
    deploy_timeout_seconds: int = strawberry.field(
        description="How long a deployment may run that asks for no other time."
    )
    deploy_timeout_limit_seconds: int = strawberry.field(description="The longest time that a deployment can ask for.")

    @strawberry.field(description="The version of the Pulumi CLI, as it says it; null when there is none that answers.")
    async def pulumi_version(self, info: Info) -> str | None:
        try:
            return await info.context.services.facts.find_pulumi()
        except PulumiNotFound:
            return None

    @strawberry.field(description="How many deployments are taken up and have not ended.")
    async def running(self, info: Info) -> int:
        return await info.context.services.facts.running()

    @strawberry.field(description="How many deployments wait to be taken up.")
    async def queued(self, info: Info) -> int:
        return await info.context.services.facts.queued()

    @classmethod
    def of(cls, facts: ServerFacts) -> ServerInfo:
        return cls(
            version=facts.version,
            backend=facts.backend,
            store=facts.store,
            max_concurrent=facts.max_concurrent,
            deploy_timeout_seconds=round(facts.timeout.total_seconds()),
            deploy_timeout_limit_seconds=round(facts.timeout_limit.total_seconds()),
        )


@strawberry.type
class ServerQueries:
    @strawberry.field(description="What the service is, how it is set up, and how busy it is.")
    def server_info(self, info: Info) -> ServerInfo:
        return ServerInfo.of(info.context.services.facts)
