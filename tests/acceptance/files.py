"""Deployments of real files, whose provider takes its time, fails or does not listen as a test asks."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests import provider
from tests.provider import FileResource
from tests.runner.waiting import eventually
from tests.service import Service, manifest

CANCEL = """
mutation ($id: ID!, $force: Boolean) {
  cancelStackUpdate(input: {id: $id, force: $force}) {
    __typename
    ... on CancelStackUpdateSuccess { stackUpdate { id status phase cancellation { stage reason } } }
    ... on UserError { message code }
  }
}"""
EXTEND = """
mutation ($id: ID!, $timeout: Int!) {
  extendStackUpdateDeadline(input: {id: $id, timeoutSeconds: $timeout}) {
    __typename
    ... on ExtendStackUpdateDeadlineSuccess { stackUpdate { id timeoutSeconds deadline } }
    ... on UserError { message code }
  }
}"""
STACK_UPDATE = """
query ($id: ID!) {
  stackUpdate(id: $id) {
    status phase exitCode output
    failure { kind message retryable }
    cancellation { reason stage nextStageAt lockLeft }
    progress { total inProgress done failed interrupted counts { operation state count } }
    resources(first: 100) { nodes { name type operation state startedAt endedAt } }
    stackOutputs { name value secret }
    actions { canCancel canForceCancel canExtendDeadline }
  }
}"""
EVENTS = """
subscription ($id: ID!, $after: Int!) {
  stackUpdateEvents(id: $id, after: $after) {
    __typename
    ... on StackUpdateEventBatch {
      seq caughtUp finished
      events {
        __typename seq at
        ... on StatusChanged { status phase }
        ... on LogLine { stream text truncated }
        ... on ResourceChanged { resource { name operation state } }
        ... on DiagnosticReported { severity message urn }
        ... on CancellationChanged { cancellation { reason stage nextStageAt } }
        ... on DeadlineApproaching { deadline }
        ... on DeadlineChanged { deadline }
        ... on LogOmissionStarted { limit }
        ... on LogOmitted { lines bytes }
      }
    }
    ... on UserError { message code }
  }
}"""


@dataclass
class Files:
    """What is deployed by one service, and the questions about it."""

    service: Service
    place: Path = field(init=False)

    def __post_init__(self) -> None:
        self.place = self.service.root / "files"
        self.place.mkdir(exist_ok=True)
        provider.install(self.service.data / "pulumi")

    def file(self, name: str, **properties: Any) -> FileResource:
        return FileResource(name, self.place / name, **properties)

    async def deploy(self, *files: FileResource, outputs: dict[str, Any] | None = None, **how: Any) -> str:
        """Deploy exactly these files; the stack update's id."""
        for file in files:
            for operation in ("create", "update", "delete"):
                file.began(operation).unlink(missing_ok=True)
        provider.module(self.service.root / "modules" / "thing", files, outputs)
        return await self.service.deploy(manifest(), **how)

    async def begun(self, file: FileResource, operation: str = "create") -> None:
        """Wait until the provider is in the middle of it."""
        await eventually(file.began(operation).exists)

    async def cancel(self, id_: str, *, force: bool = False) -> Any:
        return (await self.service.execute(CANCEL, id=id_, force=force))["cancelStackUpdate"]

    async def extend(self, id_: str, timeout: int) -> Any:
        return (await self.service.execute(EXTEND, id=id_, timeout=timeout))["extendStackUpdateDeadline"]

    async def ended(self, id_: str) -> Any:
        """The stack update as a query gives it once the log has said that it has ended."""
        async for _ in self.events(id_):
            pass
        return (await self.service.execute(STACK_UPDATE, id=id_))["stackUpdate"]

    async def events(self, id_: str, after: int = 0) -> AsyncGenerator[Any, None]:
        """Every event, until the server completes the subscription."""
        async for batch in self.service.subscribe(EVENTS, "stackUpdateEvents", id=id_, after=after):
            for event in batch["events"]:
                yield event
