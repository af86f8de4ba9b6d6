"""The use cases: what a caller can ask for, in terms of records and ports."""

from __future__ import annotations

from dataclasses import dataclass

from graphql_api.service.control import Control
from graphql_api.service.events import Events
from graphql_api.service.facts import ServerFacts
from graphql_api.service.queue import Queue
from graphql_api.service.resources import Resources
from graphql_api.service.updates import Updates
from graphql_api.service.watch import Watch


@dataclass(frozen=True, slots=True)
class Services:
    """All use cases together, as the API offers them."""

    resources: Resources
    updates: Updates
    control: Control
    queue: Queue
    events: Events
    watch: Watch
    facts: ServerFacts
