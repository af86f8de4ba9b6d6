"""That plans answer what graphql-core does: the same data in the same order, and the same errors in the same places."""

from __future__ import annotations

import asyncio
import gc
import math
import weakref
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from datetime import UTC, datetime, timedelta, timezone
from random import Random
from typing import Any, NewType

import pytest
import strawberry
from graphql import (
    DocumentNode,
    ExecutionResult,
    Executor,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNamedType,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLSchema,
    GraphQLUnionType,
    OperationType,
    Undefined,
    create_source_event_stream,
    execute_root_selection_set,
    execute_subscription_event,
    get_named_type,
    is_abstract_type,
    is_non_null_type,
    parse,
)
from graphql.execution.collect_fields import FieldDetails
from hypothesis import given, settings
from hypothesis import strategies as st
from strawberry.execution.is_awaitable import optimized_is_awaitable
from strawberry.permission import BasePermission
from strawberry.schema.config import StrawberryConfig

from graphql_api.domain import records
from graphql_api.schema import GRAPHQL_SCHEMA
from graphql_api.schema.context import Context
from graphql_api.schema.enums import LogStream, StackUpdateStatus
from graphql_api.schema.events import StackUpdateEventBatch, event_of
from graphql_api.schema.plain import SELECTIONS, VARIANTS, PlainExecutor
from graphql_api.schema.scalars import write_time
from tests.api.parts import Parts, parts
from tests.builders import (
    HAPPENINGS,
    MANIFEST,
    NOON,
    a_chunk,
    a_cloud_resource,
    a_line,
    a_stack_update,
    cancelled,
    failed,
    started,
    to_success,
)

Composite = GraphQLObjectType | GraphQLInterfaceType | GraphQLUnionType
Draw = Callable[[st.SearchStrategy[Any]], Any]

#: Where a type of the schema holds what declared it.
DECLARED = "strawberry-definition"
ROOTS = {GRAPHQL_SCHEMA.get_root_type(operation) for operation in OperationType}
TYPES: dict[str, Composite] = {
    name: type_
    for name, type_ in GRAPHQL_SCHEMA.type_map.items()
    if isinstance(type_, Composite) and type_ not in ROOTS and not name.startswith("__")
}


def forms(type_: Composite) -> dict[str, GraphQLOutputType]:
    """One value of a type, and lists of it."""
    return {
        f"{type_.name}_one": type_,
        f"{type_.name}_each": GraphQLList(GraphQLNonNull(type_)),
        f"{type_.name}_some": GraphQLNonNull(GraphQLList(type_)),
        f"{type_.name}_table": GraphQLList(GraphQLList(GraphQLNonNull(type_))),
    }


FORMS = {key: form for type_ in TYPES.values() for key, form in forms(type_).items()}
#: The types of the schema, each to be had from data that a test has made.
SCHEMA = GraphQLSchema(
    GraphQLObjectType(
        "Given",
        {key: GraphQLField(form, resolve=lambda given, info: given[info.field_name]) for key, form in FORMS.items()},
    ),
    types=list(TYPES.values()),
)


# --- executing

_is_awaitable: Any = optimized_is_awaitable  # as the API has it


async def executed(
    executor: type[Executor[Any]],
    document: DocumentNode,
    root: object = None,
    *,
    schema: GraphQLSchema = SCHEMA,
    context: object = None,
    variables: Mapping[str, Any] | None = None,
    **more: Any,
) -> ExecutionResult:
    built = make(executor, document, root, schema=schema, context=context, variables=variables, **more)
    result = execute_root_selection_set(built)
    return await result if isinstance(result, Awaitable) else result


def make(
    executor: type[Executor[Any]],
    document: DocumentNode,
    root: object = None,
    *,
    schema: GraphQLSchema = SCHEMA,
    context: object = None,
    variables: Mapping[str, Any] | None = None,
    **more: Any,
) -> Executor[Any]:
    made = executor.build(schema, document, root, context, dict(variables or {}), is_awaitable=_is_awaitable, **more)
    assert not isinstance(made, list), made
    return made


def shown(result: ExecutionResult) -> tuple[str, list[tuple[object, ...]]]:
    """All that a client could see, the order of keys as well, and whether True is True or 1."""
    errors = result.errors or []
    return repr(result.data), [(one.message, one.path, one.locations, type(one.original_error)) for one in errors]


class Noting(PlainExecutor):
    """Notes for which fields, and for objects of which types, graphql-core does its work."""

    def __init__(self, *args: Any, slow: list[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.slow = slow

    def build_resolve_info(self, field_def: Any, field_nodes: Any, parent_type: Any, path: Any) -> Any:
        self.slow.append(f"{parent_type.name}.{field_nodes[0].name.value}")
        return super().build_resolve_info(field_def, field_nodes, parent_type, path)

    def complete_object_value(self, return_type: Any, *rest: Any) -> Any:
        self.slow.append(return_type.name)
        return super().complete_object_value(return_type, *rest)


async def done_slowly(query: str, root: object = None, **how: Any) -> list[str]:
    """For which fields, and for objects of which types, graphql-core does its work."""
    slow: list[str] = []
    result = await executed(Noting, parse(query), root, slow=slow, **how)
    assert not result.errors, result.errors
    return slow


# --- any documents


@dataclass
class Writer:
    """Writes documents. Not all of them are valid, which an executor never asks for."""

    draw: Draw

    def __post_init__(self) -> None:
        self.fragments: list[str] = []

    def document(self) -> str:
        roots = [self.root() for _ in range(self.draw(st.integers(1, 3)))]
        operation = f"query ($a: Boolean! = false, $b: Boolean! = true) {{ {' '.join(roots)} }}"
        return "\n".join([operation, *self.fragments])

    def root(self) -> str:
        key = self.draw(st.sampled_from(list(FORMS)))
        return f"{key} {self.selections(get_named_type(FORMS[key]), 3)}"

    def selections(self, type_: GraphQLNamedType, depth: int) -> str:
        return f"{{ {' '.join(self.selection(type_, depth) for _ in range(self.draw(st.integers(1, 4))))} }}"

    def selection(self, type_: GraphQLNamedType, depth: int) -> str:
        kind = self.draw(st.sampled_from(["field", "field", "field", "inline", "spread"])) if depth else "field"
        if kind == "field":
            return self.field(type_, depth)
        condition = self.draw(st.sampled_from(related(type_)))
        selections = self.selections(condition, depth - 1)
        if kind == "inline":
            return f"... on {condition.name} {self.directives()} {selections}"
        name = f"F{len(self.fragments)}"
        self.fragments.append(f"fragment {name} on {condition.name} {selections}")
        return f"...{name} {self.directives()} ...{self.draw(st.sampled_from(['F0', name]))}"

    def field(self, type_: GraphQLNamedType, depth: int) -> str:
        fields = getattr(type_, "fields", {})
        within = {name: get_named_type(field.type) for name, field in fields.items()}
        names = [name for name, inner in within.items() if depth or not isinstance(inner, Composite)]
        name = self.draw(st.sampled_from(["__typename", *names]))
        alias = self.draw(st.sampled_from(["", "", f"{name}_again: ", "same: "]))
        inner = within.get(name)
        selections = self.selections(inner, depth - 1) if isinstance(inner, Composite) else ""
        return f"{alias}{name} {self.directives()} {selections}"

    def directives(self) -> str:
        some = ["@skip(if: $a)", "@include(if: $b)", "@skip(if: $b) @include(if: $a)", "@include(if: false)"]
        return str(self.draw(st.sampled_from(["", "", "", "", *some])))


def related(type_: GraphQLNamedType) -> list[Composite]:
    """Types on which a fragment could stand within one."""
    possible = set(GRAPHQL_SCHEMA.get_possible_types(type_) if is_abstract_type(type_) else [type_])
    return [
        other
        for other in TYPES.values()
        if possible & set(GRAPHQL_SCHEMA.get_possible_types(other) if is_abstract_type(other) else [other])
    ]


@st.composite
def documents(draw: Draw) -> str:
    return Writer(draw).document()


# --- any data


class Later:
    """A value that is to be waited for, as often as one likes."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __await__(self) -> Generator[Any, None, object]:
        yield from asyncio.sleep(0).__await__()
        return self.value


class Counted:
    """Something that can be gone through, and is no list."""

    def __init__(self, values: list[object]) -> None:
        self.values = values

    def __iter__(self) -> Iterator[object]:
        return iter(self.values)


async def yes() -> bool:
    return True


#: What objects keep for their resolvers.
PRIVATE: dict[str, object] = {
    "record": a_stack_update(),
    "update": a_stack_update(),
    "anything_after": yes,
    "anything_before": yes,
    "count": yes,
}
TIMES: list[object] = [
    NOON,
    NOON.replace(microsecond=999_999),
    NOON.astimezone(timezone(timedelta(hours=5, minutes=45))),
    datetime(1, 1, 1, tzinfo=UTC),
]
LEAVES: dict[str, list[object]] = {
    "String": ["", "a", "ß \ud800"],
    "ID": ["0123456789abcdef01234567"],
    "Int": [0, -1, 2**31 - 1, -(2**31)],
    "Float": [0, 1.5, 10**10],
    "Boolean": [True, False],
    "DateTime": TIMES,
    "JSON": ["a", {"b": [1, None]}, [2.5], 0, True, 2**80],
}


def wrong_values() -> list[object]:
    """Made anew each time: an error that was raised holds on to all that it went through."""
    return [
        None,
        Undefined,
        "",
        "text",
        Later("late"),
        "7",
        True,
        1,
        0.5,
        -2.0,
        math.nan,
        2**31,
        -(2**31) - 1,
        10**400,
        NOON,
        NOON.replace(tzinfo=None),
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
        ValueError("a value that is an error"),
        [],
        [[]],
        {},
        {"id": "1"},
        b"bytes",
        object(),
        yes,
        records.Status.SUCCESS,
        StackUpdateStatus.SUCCESS,
        LogStream.STDOUT,
    ]


#: Wrong values so rarely that there are none.
NEVER = 10**9


@dataclass
class Data:
    """Makes values for the schema's types, one in ``right`` of them wrong."""

    random: Random
    right: int

    def value(self, type_: GraphQLOutputType) -> object:
        if self.random.randrange(self.right) == 0:
            return self.wrong(type_)
        return self.fitting(type_)

    def wrong(self, type_: GraphQLOutputType) -> object:
        return self.random.choice(self.random.choice([wrong_values(), self.unlike(type_)]))

    def unlike(self, type_: GraphQLOutputType) -> list[object]:
        """Values that are almost right, or would be elsewhere."""
        right: Any = self.fitting(type_)
        unlike: list[object] = [Later(right), getattr(right, "value", right), self.other()]
        if isinstance(right, list):
            unlike += [tuple(right), Counted(right), Counted([*right, Later(None)]), [*right, None]]
        elif is_dataclass(right):
            heirs: list[Any] = [object.__new__(type("Heir", (type(right), *more), {})) for more in ((), (Later,))]
            incomplete: Any = object.__new__(type(right))
            missing = self.random.choice([*vars(right)])
            for made in (*heirs, incomplete):
                vars(made).update(vars(right))
            vars(incomplete).pop(missing)
            unlike += [*heirs, incomplete]
        return unlike

    def other(self) -> object:
        return Data(self.random, NEVER).fitting(self.random.choice(list(TYPES.values())))

    def fitting(self, type_: GraphQLOutputType) -> Any:
        if is_non_null_type(type_):
            return self.fitting(type_.of_type)
        if isinstance(type_, GraphQLList):
            return [self.value(type_.of_type) for _ in range(self.random.randrange(4))]
        if isinstance(type_, GraphQLObjectType):
            return self.object(type_)
        if is_abstract_type(type_):
            return self.object(self.random.choice(GRAPHQL_SCHEMA.get_possible_types(type_)))
        if isinstance(type_, GraphQLEnumType):
            return self.random.choice(list(type_.extensions[DECLARED].wrapped_cls))
        return self.random.choice(LEAVES[get_named_type(type_).name])

    def object(self, type_: GraphQLObjectType) -> object:
        declared = type_.extensions[DECLARED]
        made: Any = object.__new__((declared.concrete_of or declared).origin)
        vars(made).update(PRIVATE)
        for field in type_.fields.values():
            if field.extensions[DECLARED].is_basic_field:
                nothing = not is_non_null_type(field.type) and self.random.randrange(3) == 0
                vars(made)[field.extensions[DECLARED].python_name] = None if nothing else self.value(field.type)
        return made


def plain_fields() -> Iterator[tuple[str, str, GraphQLField]]:
    """All that are only read, each by its type's name and its own."""
    for name, type_ in TYPES.items():
        for field_name, field in type_.fields.items() if isinstance(type_, GraphQLObjectType) else ():
            if field.extensions[DECLARED].is_basic_field:
                yield name, field_name, field


def data_of(seed: int, right: int) -> Data:
    return Data(Random(seed), right)  # noqa: S311 (no secret)


# --- the promise


@settings(max_examples=200, deadline=None)
@given(documents(), st.integers(0, 2**32), st.sampled_from([5, 30, NEVER]))
def compare_any(query: str, seed: int, right: int) -> None:
    document = parse(query)
    data = data_of(seed, right)

    async def compare() -> None:
        for a, b in [(False, True), (True, True), (False, True), (True, False), (False, False), (False, True)]:
            given = {name: data.value(form) for name, form in FORMS.items() if name in query}
            how: Any = {"variables": {"a": a, "b": b}}
            expected = shown(await executed(Executor, document, given, **how))

            assert shown(await executed(PlainExecutor, document, given, **how)) == expected

    asyncio.run(compare())


# graphql-core leaves coroutines unawaited where a value beside them is wrong; with plans it leaves the same ones.
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_any_answer_is_that_of_graphql_core() -> None:
    """Whatever is selected, however it is written, and whatever the data: also when it is executed again."""
    compare_any()
    gc.collect()


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
async def test_every_field_takes_wrong_values_as_graphql_core_does() -> None:
    """Whatever is wrong with one, beside others that are right: of every field that is only read, in a list."""
    data = data_of(1, NEVER)
    for type_name, name, field in plain_fields():
        selections = "{ __typename }" if isinstance(get_named_type(field.type), Composite) else ""
        document = parse(f"{{ {type_name}_some {{ {name} {selections} }} }}")
        for value in (*wrong_values(), *data.unlike(field.type)):
            first, second = data.fitting(TYPES[type_name]), data.fitting(TYPES[type_name])
            vars(second)[field.extensions[DECLARED].python_name] = value
            given = {f"{type_name}_some": [first, second]}
            expected = shown(await executed(Executor, document, given))

            assert shown(await executed(PlainExecutor, document, given)) == expected, (type_name, name, value)
    gc.collect()


UPDATE = """
fragment Update on StackUpdate {
  __typename id revision status phase stackFqdn exitCode createdAt startedAt finishedAt timeoutSeconds deadline
  failure { kind message retryable diagnostics { message urn } } stackOutputs { name value secret }
  progress { total done counts { operation state count } } cancellation { reason stage nextStageAt } requestedBy
  actions { canCancel canForceCancel canExtendDeadline }
}"""
WHOLE = (
    UPDATE
    + """
fragment Whole on StackUpdate {
  ...Update actions { canDeployAgain } cloudResource { id name labels { name value } } output
  queue { position reason blockedBy { id } } resources { nodes { id operation endedAt } totalCount }
  log(first: 50) { seq hasMore events { ...Event } }
}"""
)
EVENT = """
fragment Event on StackUpdateEvent {
  kind: __typename seq at ... on StatusChanged { status phase } ... on LogLine { stream text truncated }
  ... on ResourceChanged { resource { id urn name type operation state startedAt endedAt } }
  ... on DiagnosticReported { severity message urn } ... on CancellationChanged { cancellation { requestedAt stage } }
  ... on DeadlineApproaching { deadline } ... on DeadlineChanged { deadline } ... on LogOmissionStarted { limit }
  ... on LogOmitted { lines bytes } ... on OwnerChanged { epoch }
}"""
QUERIES = [
    UPDATE + "{ stackUpdates { edges { cursor node { ...Update } } pageInfo { hasNextPage endCursor } totalCount } }",
    WHOLE + EVENT + "{ stackUpdates(first: 3) { nodes { ...Whole } } }",
    WHOLE + EVENT + "query ($id: ID!) { stackUpdate(id: $id) { ...Whole } node(id: $id) { __typename id ...Update } }",
    "{ cloudResources { nodes { id manifest createdAt problems { message line } latestStackUpdate { id status } } } }",
    "{ serverInfo { version maxConcurrent pulumiVersion running } stackUpdate(id: 7) { id } missing: __typename }",
    'mutation { cancelStackUpdate(input: {id: "0123456789abcdef01234567"}) { __typename ... on UserError { code } } }',
    '{ __schema { queryType { name fields { name type { kind ofType { name } } } } } __type(name: "Node") { kind } }',
]


@pytest.mark.parametrize("query", QUERIES)
async def test_the_api_answers_what_it_does_without_plans(query: str) -> None:
    """Real records through real resolvers: pages, single records with all that leads on, refusals, introspection."""
    async with parts() as made:
        update_id = await some_records(made)
        variables = {"id": update_id} if "$id" in query else {}
        how: Any = {"schema": GRAPHQL_SCHEMA, "variables": variables}
        document = parse(query)
        expected, first, second = [
            shown(await executed(executor, document, context=Context(made.services), **how))
            for executor in (Executor, PlainExecutor, PlainExecutor)
        ]

    assert (first, second) == (expected, expected)


async def some_records(made: Parts) -> str:
    """Stack updates in all states, and one with a log of all kinds of events; its id."""
    resource, updates = a_cloud_resource(), made.backends.updates
    await made.backends.resources.insert(resource)
    await made.backends.resources.insert(a_cloud_resource(manifest="kind: ["))
    chunk = a_chunk(*HAPPENINGS)
    for state in (failed, cancelled, started, lambda update: to_success(update)[-1]):
        await updates.insert(state(a_stack_update(cloud_resource_id=resource.id)), MANIFEST)
    await updates.insert(a_stack_update(id=chunk.update_id, cloud_resource_id=resource.id), MANIFEST)
    await made.append(chunk)
    await updates.insert(a_stack_update(cloud_resource_id=resource.id), MANIFEST)
    return chunk.update_id


SUBSCRIPTIONS = [
    EVENT
    + """subscription ($id: ID!) { stackUpdateEvents(id: $id) {
      __typename ... on StackUpdateEventBatch { events { ...Event } seq caughtUp finished }
      ... on UserError { code } } }""",
    UPDATE
    + """subscription ($id: ID!) { stackUpdateChanged(id: $id) {
      __typename ... on StackUpdateChange { stackUpdate { ...Update cloudResource { name } } } ... on UserError { code }
    } }""",
]


@pytest.mark.parametrize("query", SUBSCRIPTIONS)
async def test_every_event_of_a_subscription_is_answered_as_without_plans(query: str) -> None:
    """The executors of events share their subscription's plans, and keep their errors to themselves."""
    async with parts() as made:
        document = parse(query)
        variables = {"id": await some_records(made)}
        how: Any = {"schema": GRAPHQL_SCHEMA, "context": Context(made.services), "variables": variables}
        plain, core = make(PlainExecutor, document, **how), make(Executor, document, **how)
        events: Any = await create_source_event_stream(plain)  # type: ignore[misc]  # it takes a while to begin
        pushes = [event async for event in events]
        wrong = StackUpdateEventBatch(events=[None], seq=1, caught_up=True, finished=True)  # type: ignore[list-item]
        answers = [
            [shown(await answered(each, event)) for event in (*pushes, wrong, *pushes)] for each in (plain, core)
        ]

    assert pushes
    assert answers[0] == answers[1]


async def answered(executor: Executor[Any], event: object) -> ExecutionResult:
    result = execute_subscription_event(executor.build_per_event_executor(event))
    return await result if isinstance(result, Awaitable) else result


# --- what plans spare, and what they keep


class Nobody(BasePermission):
    message = "Nobody may read this."

    def has_permission(self, source: object, info: Any, **arguments: Any) -> bool:
        return False


Silent = NewType("Silent", str)


def _worked_out(self: Odd) -> str | None:
    return self.guarded


@strawberry.type
class Odd:
    """What the schema has nothing of: a field that is read by those who may, and a scalar that writes nothing."""

    guarded: str | None = strawberry.field(permission_classes=[Nobody])
    silent: Silent | None
    worked_out: str | None = strawberry.field(resolver=_worked_out, permission_classes=[Nobody])

    @strawberry.field
    def repeated(self, times: int = 2) -> str:
        return "word" * times

    @strawberry.field
    def named(self, info: strawberry.Info) -> str:
        return info.field_name

    @strawberry.field
    @staticmethod
    def same_for_all() -> str:
        return "all"

    @strawberry.field
    def failing(self) -> str | None:
        raise ValueError("It can't be worked out.")


@strawberry.type
class OddQuery:
    @strawberry.field
    def odd(self) -> Odd:
        return Odd(guarded="secret", silent=Silent("word"))


async def test_what_another_schema_could_have_is_not_taken_for_plain() -> None:
    """Reading an attribute is not all there is to a field with permissions, nor is every scalar as ours are.

    Neither is calling a resolver with the object, where that asks for more, or raises.
    """
    silent = strawberry.scalar(name="Silent", serialize=lambda _: None, parse_value=Silent)
    config = StrawberryConfig(scalar_map={Silent: silent})
    schema = strawberry.Schema(OddQuery, config=config)._schema  # noqa: SLF001 (it has no public name)
    fields = [
        "guarded",
        "silent",
        "workedOut",
        "failing",
        "repeated",
        "again: repeated(times: 3)",
        "named",
        "sameForAll",
    ]
    for asked in (*fields, " ".join(fields)):
        document = parse(f"{{ odd {{ {asked} }} }}")
        expected = shown(await executed(Executor, document, schema=schema))

        assert shown(await executed(PlainExecutor, document, schema=schema)) == expected
    assert len(expected[1]) == 4


def a_batch(size: int = 100) -> StackUpdateEventBatch:
    lines = a_chunk(*[a_line()] * size).events
    return StackUpdateEventBatch(events=[event_of(line) for line in lines], seq=size, caught_up=True, finished=False)


async def test_graphql_core_has_no_work_with_the_events_of_a_batch() -> None:
    """However many they are: they are what subscribers are sent most of."""
    key = "StackUpdateEventBatch_one"
    query = f"{EVENT} {{ {key} {{ events {{ ...Event }} seq caughtUp }} }}"

    assert await done_slowly(query, {key: a_batch()}) == [f"Given.{key}"]


async def test_graphql_core_has_no_work_with_the_rows_of_a_page() -> None:
    """Where nothing has to be looked up for them; and where something has, it has work with that alone."""
    async with parts() as made:
        await some_records(made)
        how: Any = {"schema": GRAPHQL_SCHEMA, "context": Context(made.services)}
        edges = await done_slowly(UPDATE + "{ stackUpdates { edges { cursor node { ...Update } } } }", **how)
        nodes = await done_slowly(UPDATE + "{ stackUpdates { nodes { ...Update } } }", **how)
        mixed = await done_slowly(UPDATE + "{ stackUpdates { nodes { ...Update resources { totalCount } } } }", **how)

    assert edges == nodes == ["Query.stackUpdates"]
    assert {*mixed} - {*nodes} == {
        "StackUpdateConnection",
        "StackUpdateConnection.nodes",
        "StackUpdate",
        "StackUpdate.resources",
        "ResourceProgressConnection",
        "ResourceProgressConnection.totalCount",
    }


async def test_one_wrong_event_leaves_the_others_to_their_plan() -> None:
    """What is not as it should be is graphql-core's; that is no reason to do all the others slowly as well."""
    key, slow, batch = "StackUpdateEventBatch_one", list[str](), a_batch()
    batch.events[50].seq = 2**31
    document = parse(f"{{ {key} {{ events {{ seq at }} seq }} }}")
    result = await executed(Noting, document, {key: batch}, slow=slow)

    assert [error.path for error in result.errors or []] == [[key, "events", 50, "seq"]]
    assert slow == [f"Given.{key}", "StackUpdateEventBatch", "StackUpdateEventBatch.events", "LogLine", "LogLine.seq"]


async def test_middleware_is_asked_for_every_field() -> None:
    """Plans know nothing of it."""
    seen: list[str] = []

    def note(next_: Any, root: object, info: Any, **arguments: Any) -> Any:
        seen.append(info.field_name)
        return next_(root, info, **arguments)

    given = {"StackUpdateEventBatch_one": a_batch(2)}
    await executed(
        PlainExecutor, parse("{ StackUpdateEventBatch_one { seq events { at } } }"), given, middleware=[note]
    )

    assert seen == ["StackUpdateEventBatch_one", "seq", "events", "at", "at"]


def selections_kept() -> int:
    gc.collect()
    return sum(type(one) is FieldDetails for one in gc.get_objects())


async def test_plans_live_as_long_as_their_document() -> None:
    """They are there as long as it is remembered, and keep nothing of the executions that made them."""

    class Services:
        """Something that an execution was given."""

    before = selections_kept()
    document, services = parse("{ Node_one { id } }"), Services()
    for _ in range(5):
        await executed(PlainExecutor, document, {"Node_one": None}, context=services)
    kept_alive, gone = selections_kept(), weakref.ref(services)
    del services
    gc.collect()

    assert kept_alive == before + 3  # the field, and what is within, for each of the two types of node
    assert gone() is None
    del document
    assert selections_kept() == before


async def test_a_document_has_no_more_plans_than_a_few() -> None:
    """Neither by the values of its variables, nor by fragments that make many selections out of few words."""
    before = selections_kept()
    names = [f"v{number}" for number in range(6)]
    variables = ", ".join(f"${name}: Boolean!" for name in names)
    various = parse(f"query ({variables}) {{ Node_one {{ {' '.join(f'id @skip(if: ${name})' for name in names)} }} }}")
    for number in range(2 ** len(names)):
        given = {name: bool(number >> place & 1) for place, name in enumerate(names)}
        await executed(PlainExecutor, various, {"Node_one": None}, variables=given)

    assert selections_kept() - before <= VARIANTS * (1 + len(names))
    many = parse(f"{{ {' '.join(f'a{number}: StackUpdate_one {{ id }}' for number in range(SELECTIONS + 1))} }}")
    await executed(PlainExecutor, many, {"StackUpdate_one": data_of(1, NEVER).fitting(TYPES["StackUpdate"])})
    assert selections_kept() - before <= VARIANTS * (1 + len(names)) + SELECTIONS


@given(st.datetimes(timezones=st.none() | st.timezones() | st.just(UTC)))
def test_times_are_written_as_isoformat_would(time: datetime) -> None:
    """Cut to milliseconds, in UTC, whatever the zone."""
    try:
        expected = time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except OverflowError:  # a time before the year 1, or after 9999
        with pytest.raises(OverflowError):
            write_time(time)
        return

    assert write_time(time) == expected
