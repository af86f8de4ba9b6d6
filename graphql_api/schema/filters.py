"""Filters of lists and of subscriptions. What is left out, or null, does not restrict."""

from __future__ import annotations

from datetime import datetime
from typing import TypeVar

import strawberry

from graphql_api.domain import events, ports, records
from graphql_api.domain.errors import BadUserInput
from graphql_api.schema.enums import DiagnosticSeverity, LogStream, StackOperation, StackUpdateStatus
from graphql_api.schema.scalars import read_id, read_text
from graphql_api.service.events import EVERY_EVENT, EventFilter

#: The longest text that a log is searched for, in characters.
SEARCH_LIMIT = 1000

_Value = TypeVar("_Value")

_STATUSES = "Only those in one of these statuses; an empty list gives none."
_OPERATIONS = "Only those of one of these operations; an empty list gives none."
_CREATED_AFTER = "Only those created after this moment."
_CREATED_BEFORE = "Only those created before this moment."


@strawberry.input(description="Which cloud resources; what is left out does not restrict.")
class CloudResourceFilter:
    kind: str | None = strawberry.field(default=strawberry.UNSET, description="Only those of exactly this kind.")
    name: str | None = strawberry.field(default=strawberry.UNSET, description="Only those of exactly this name.")

    @staticmethod
    def of(given: CloudResourceFilter | None) -> ports.CloudResourceFilter:
        """Raises BadUserInput for what nothing can be compared with."""
        if not given:
            return ports.EVERY_RESOURCE
        kind, name = _or_none(given.kind), _or_none(given.name)
        return ports.CloudResourceFilter(
            kind=None if kind is None else read_text(kind, "kind"),
            name=None if name is None else read_text(name, "name"),
        )


@strawberry.input(description="Which stack updates of a cloud resource; what is left out does not restrict.")
class CloudResourceStackUpdateFilter:
    statuses: list[StackUpdateStatus] | None = strawberry.field(default=strawberry.UNSET, description=_STATUSES)
    operations: list[StackOperation] | None = strawberry.field(default=strawberry.UNSET, description=_OPERATIONS)
    created_after: datetime | None = strawberry.field(default=strawberry.UNSET, description=_CREATED_AFTER)
    created_before: datetime | None = strawberry.field(default=strawberry.UNSET, description=_CREATED_BEFORE)

    @staticmethod
    def of(
        given: CloudResourceStackUpdateFilter | None, cloud_resource_id: records.CloudResourceId
    ) -> ports.StackUpdateFilter:
        """The filter within the cloud resource's stack updates."""
        if not given:
            return ports.StackUpdateFilter(cloud_resource_id)
        return ports.StackUpdateFilter(
            cloud_resource_id=cloud_resource_id,
            statuses=_statuses(given.statuses),
            operations=_operations(given.operations),
            created_after=_or_none(given.created_after),
            created_before=_or_none(given.created_before),
        )


@strawberry.input(description="Which stack updates; what is left out does not restrict.")
class StackUpdateFilter:
    cloud_resource_id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET, description="Only those of this cloud resource."
    )
    statuses: list[StackUpdateStatus] | None = strawberry.field(default=strawberry.UNSET, description=_STATUSES)
    operations: list[StackOperation] | None = strawberry.field(default=strawberry.UNSET, description=_OPERATIONS)
    stack_fqdn: str | None = strawberry.field(
        default=strawberry.UNSET, description="Only those of exactly this stack, `organization/project/stack`."
    )
    created_after: datetime | None = strawberry.field(default=strawberry.UNSET, description=_CREATED_AFTER)
    created_before: datetime | None = strawberry.field(default=strawberry.UNSET, description=_CREATED_BEFORE)

    @staticmethod
    def of(given: StackUpdateFilter | None) -> ports.StackUpdateFilter:
        """Raises BadUserInput for a malformed id, and for what nothing can be compared with."""
        if not given:
            return ports.EVERY_UPDATE
        id_, stack = _or_none(given.cloud_resource_id), _or_none(given.stack_fqdn)
        return ports.StackUpdateFilter(
            cloud_resource_id=None if id_ is None else records.CloudResourceId(read_id(id_, "cloudResourceId")),
            statuses=_statuses(given.statuses),
            operations=_operations(given.operations),
            stack_fqdn=None if stack is None else records.StackFqdn(read_text(stack, "stackFqdn")),
            created_after=_or_none(given.created_after),
            created_before=_or_none(given.created_before),
        )


@strawberry.input(
    description="Which events; what is left out does not restrict. An event has to satisfy all that is given."
)
class LogFilter:
    streams: list[LogStream] | None = strawberry.field(
        default=strawberry.UNSET,
        description="Only lines of these streams, and with `severities` diagnostics of those; an empty list allows no "
        "line.",
    )
    severities: list[DiagnosticSeverity] | None = strawberry.field(
        default=strawberry.UNSET,
        description="Only diagnostics of these severities, and with `streams` lines of those; an empty list allows no "
        "diagnostic.",
    )
    urn: str | None = strawberry.field(
        default=strawberry.UNSET, description="Only changes of the resource with this URN, and diagnostics about it."
    )
    text: str | None = strawberry.field(
        default=strawberry.UNSET,
        description=f"Only lines and diagnostics that contain this text, in upper or lower case; up to {SEARCH_LIMIT} "
        "characters.",
    )

    @staticmethod
    def of(given: LogFilter | None) -> EventFilter:
        """Raises BadUserInput for what nothing can be compared with."""
        if not given:
            return EVERY_EVENT
        streams, severities = _or_none(given.streams), _or_none(given.severities)
        urn, text = _or_none(given.urn), _or_none(given.text)
        if text is not None and len(text) > SEARCH_LIMIT:
            raise BadUserInput(f"text must have at most {SEARCH_LIMIT} characters; it has {len(text)}.", "text")
        return EventFilter(
            streams=None if streams is None else frozenset(events.Stream[stream.name] for stream in streams),
            severities=None if severities is None else frozenset(events.Severity[it.name] for it in severities),
            urn=None if urn is None else read_text(urn, "urn"),
            text=None if text is None else read_text(text, "text"),
        )


def _or_none(value: _Value | None) -> _Value | None:
    return None if value is strawberry.UNSET else value


def _statuses(given: list[StackUpdateStatus] | None) -> frozenset[records.Status] | None:
    statuses = _or_none(given)
    return None if statuses is None else frozenset(records.Status[status.name] for status in statuses)


def _operations(given: list[StackOperation] | None) -> frozenset[records.Operation] | None:
    operations = _or_none(given)
    return None if operations is None else frozenset(records.Operation[operation.name] for operation in operations)
