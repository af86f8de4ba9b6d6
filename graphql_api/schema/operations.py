"""Operations: read, checked against the schema, and carried out. All that a transport has to know of GraphQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any, NamedTuple, cast

from graphql import (
    DocumentNode,
    ExecutionResult,
    Executor,
    GraphQLError,
    GraphQLFormattedError,
    OperationDefinitionNode,
    OperationType,
    create_source_event_stream,
    execute_root_selection_set,
    execute_subscription_event,
    parse,
    validate,
)
from strawberry.execution.is_awaitable import optimized_is_awaitable

from graphql_api.domain.callers import Caller, Right
from graphql_api.schema import GRAPHQL_SCHEMA
from graphql_api.schema.context import Context
from graphql_api.schema.events import StackUpdateEventBatch
from graphql_api.schema.limits import OBJECT_LIMIT, Limits, cost_of
from graphql_api.schema.plain import PlainExecutor
from graphql_api.schema.presentation import present
from graphql_api.service import Services

#: Enough for GraphiQL's introspection query several times over; a document beyond it is refused unparsed.
TOKEN_LIMIT = 1000
#: How long an operation may take, beyond all that its steps may wait for a store.
EXECUTION_PATIENCE = timedelta(seconds=30)
#: How many documents are remembered with all that was found out about them, and how long, in characters, those may be:
#: a manifest that is written into a document makes a new one each time.
REMEMBERED_DOCUMENTS = 256
REMEMBERED_LENGTH = 16 * 1024

#: What a client is answered: ``data`` is there unless the request as such was wrong, ``errors`` where something was.
Answer = dict[str, Any]
Variables = Mapping[str, Any]


class RequestRefused(Exception):
    """Nothing was carried out, for the request is wrong; ``errors`` say why."""

    def __init__(self, errors: list[GraphQLFormattedError]) -> None:
        super().__init__(errors[0]["message"])
        self.errors = errors

    @classmethod
    def saying(cls, code: str, message: str) -> RequestRefused:
        """For one reason."""
        return cls([{"message": message, "extensions": {"code": code}}])

    @property
    def answer(self) -> Answer:
        """What the client is told."""
        return {"errors": self.errors}


@dataclass(frozen=True, eq=False, slots=True)
class Prepared:
    """An operation that satisfies the schema and the limits; the same object for the same text, as far as remembered.

    ``cost`` is how many objects its answer could hold.
    """

    document: DocumentNode
    operation: OperationDefinitionNode
    cost: int

    @property
    def type(self) -> OperationType:
        """Query, mutation or subscription."""
        return self.operation.operation

    @property
    def name(self) -> str | None:
        """The operation's name, where it has one."""
        return self.operation.name.value if self.operation.name else None


def prepare(query: str, operation_name: str | None = None) -> Prepared:
    """Read a document and choose its operation: by name, or the only one. Raises RequestRefused."""
    operations = read(query) if len(query) <= REMEMBERED_LENGTH else read.__wrapped__(query)
    if operation_name is None and len(operations) == 1:
        return next(iter(operations.values()))
    if operation_name in operations and operation_name is not None:
        return operations[operation_name]
    raise RequestRefused.saying("OPERATION_RESOLUTION_FAILURE", _no_operation(operations, operation_name))


@lru_cache(REMEMBERED_DOCUMENTS)
def read(query: str) -> Mapping[str | None, Prepared]:
    """The operations of a document by their names. Raises RequestRefused; only what is right is remembered."""
    try:
        document = parse(query, max_tokens=TOKEN_LIMIT)
    except GraphQLError as error:
        raise RequestRefused(present([error])) from None
    # What asks for too much is refused before the rules that take long over it; each error costs a look at the source.
    if errors := validate(GRAPHQL_SCHEMA, document, [Limits]) or validate(GRAPHQL_SCHEMA, document, max_errors=10):
        raise RequestRefused(present(errors))
    operations = (node for node in document.definitions if isinstance(node, OperationDefinitionNode))
    return {
        node.name.value if node.name else None: Prepared(document, node, cost_of(GRAPHQL_SCHEMA, document, node))
        for node in operations
    }


def _no_operation(operations: Mapping[str | None, Prepared], wanted: str | None) -> str:
    if not operations:
        return "The document holds fragments alone. Add an operation that uses them."
    names = ", ".join(name for name in operations if name) or "none, for its operation has no name"
    if wanted is None:
        return f"The document holds several operations. Say which one by operationName: {names}."
    return f"The document holds no operation named {wanted!r}. It holds {names}."


class Place(NamedTuple):
    """After which event a subscription can go on, and whether it has to wait for the next."""

    seq: int
    waits: bool


class Subscription:
    """A subscription under way: its events, for one subscriber, and what each of them is answered with."""

    def __init__(self, executor: Executor[Any], events: AsyncIterable[Any], patience: timedelta) -> None:
        self._executor = executor
        self._patience = patience
        #: The source events; to be closed by whoever follows them.
        self.events = cast("AsyncGenerator[Any, None]", events)

    def answer(self, event: object) -> Answer | Awaitable[Answer]:
        """What the subscriber is told of an event: at once, where nothing has to be waited for. Errors are in it."""
        result = execute_subscription_event(self._executor.build_per_event_executor(event))
        return _answer(result) if isinstance(result, ExecutionResult) else _patiently(result, self._patience)


def place(event: object) -> Place | None:
    """Where a subscription has come to with this event, if it can go on from there: that to a log can."""
    if not isinstance(event, StackUpdateEventBatch):
        return None
    return Place(event.seq, waits=event.caught_up and not event.finished)


class Operations:
    """Carries out operations with the use cases, for callers who may."""

    def __init__(self, services: Services, patience: timedelta = EXECUTION_PATIENCE) -> None:
        self._services = services
        self._patience = patience
        self._mutations = set[asyncio.Future[ExecutionResult]]()

    async def execute(self, prepared: Prepared, variables: Variables, caller: Caller) -> Answer:
        """Carry out a query or a mutation. Raises RequestRefused where the caller may not, or variables don't fit."""
        result = execute_root_selection_set(self._executor(prepared, variables, caller))
        if isinstance(result, ExecutionResult):
            answer = _answer(result)
        elif prepared.type is OperationType.MUTATION:
            answer = await _patiently(self._to_the_end(result), self._patience)
        else:
            answer = await _patiently(result, self._patience)
        answer["extensions"] = {"cost": {"requested": prepared.cost, "limit": OBJECT_LIMIT}}
        return answer

    async def subscribe(
        self, prepared: Prepared, variables: Variables, caller: Caller, after: int | None = None
    ) -> Subscription:
        """Begin a subscription. Raises RequestRefused where the caller may not, or what was asked can't be followed.

        One that was interrupted behind an event goes on ``after`` it: that is its place.
        """
        executor = self._executor(prepared, variables, caller, after)
        source = create_source_event_stream(executor)
        events = await source if isinstance(source, Awaitable) else source
        if isinstance(events, ExecutionResult):
            raise RequestRefused(present(events.errors or []))
        return Subscription(executor, events, self._patience)

    def _executor(
        self, prepared: Prepared, variables: Variables, caller: Caller, after: int | None = None
    ) -> Executor[Any]:
        needed = Right.WRITE if prepared.type is OperationType.MUTATION else Right.READ
        if needed not in caller.rights:
            raise RequestRefused.saying(
                "FORBIDDEN", f"This token may not send a {prepared.type.value}. Ask for one with the right to."
            )
        executor = PlainExecutor.build(
            GRAPHQL_SCHEMA,
            prepared.document,
            context_value=Context(self._services, caller, after),
            raw_variable_values=dict(variables),
            operation_name=prepared.name,
            is_awaitable=optimized_is_awaitable,  # type: ignore[arg-type]  # a bool for a TypeGuard
        )
        if isinstance(executor, list):
            raise RequestRefused(present(executor))
        return executor

    def _to_the_end(self, result: Awaitable[ExecutionResult]) -> Awaitable[ExecutionResult]:
        """The same for one who waits: who no longer does leaves no mutation half done."""
        mutation = asyncio.ensure_future(result)
        self._mutations.add(mutation)
        mutation.add_done_callback(self._mutations.discard)
        return asyncio.shield(mutation)


async def _patiently(result: Awaitable[ExecutionResult], patience: timedelta) -> Answer:
    try:
        async with asyncio.timeout(patience.total_seconds()):
            return _answer(await result)
    except TimeoutError:
        return {"data": None, **RequestRefused.saying("EXECUTION_TIMEOUT", _too_slow(patience)).answer}


def _answer(result: ExecutionResult) -> Answer:
    answer: Answer = {"data": result.data}
    if result.errors:
        answer["errors"] = present(result.errors)
    return answer


def failure(error: Exception) -> RequestRefused:
    """What a subscriber is told when its subscription ends with an exception."""
    return RequestRefused(present([GraphQLError(str(error), original_error=error)]))


def _too_slow(patience: timedelta) -> str:
    return (
        f"The operation took over {patience.total_seconds():g} s and was given up. Ask for less at once; if it was a "
        "mutation, look what became of it before you repeat it."
    )
