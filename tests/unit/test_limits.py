"""What a document may ask for, measured without running it, and however it is written."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from graphql import GraphQLError, OperationDefinitionNode, get_introspection_query, parse, specified_rules, validate

from graphql_api.schema import GRAPHQL_SCHEMA
from graphql_api.schema.limits import (
    ALIAS_LIMIT,
    DEPTH_LIMIT,
    DIRECTIVE_LIMIT,
    MUTATION_LIMIT,
    OBJECT_LIMIT,
    ROOT_FIELD_LIMIT,
    Limits,
    cost_of,
)
from graphql_api.schema.operations import TOKEN_LIMIT

CANCEL = 'cancelStackUpdate(input: {id: "x"}) { __typename }'


def errors(query: str) -> list[GraphQLError]:
    """What is wrong with a document, as an operation is prepared."""
    try:
        document = parse(query, max_tokens=TOKEN_LIMIT)
    except GraphQLError as error:
        return [error]
    return validate(GRAPHQL_SCHEMA, document, [*specified_rules, Limits])


def exceeded(query: str) -> list[object]:
    """The limits that a document exceeds; nothing else may be wrong with it."""
    return [(error.extensions or {}).get("limit", error.message) for error in errors(query)]


def cost(query: str) -> int:
    """That of a document's only operation."""
    document = parse(query)
    (operation,) = (node for node in document.definitions if isinstance(node, OperationDefinitionNode))
    return cost_of(GRAPHQL_SCHEMA, document, operation)


def of_node(selections: str) -> str:
    return f"{{ node(id: 1) {{ {selections} }} }}"


def renamed(count: int, field: str = "id") -> str:
    return " ".join(f"a{number}: {field}" for number in range(count))


def going_round(fields: int) -> str:
    """Selections on a cloud resource, nested so many fields deep, without lists: an odd number."""
    inner = "id"
    for _ in range(fields // 2):
        inner = f"latestStackUpdate {{ cloudResource {{ {inner} }} }}"
    return inner


# --- each limit lets pass what it says, and no more


def deep(fields: int) -> str:
    return of_node(f"... on CloudResource {{ {going_round(fields - 1)} }}")


def with_directives(count: int) -> str:
    return of_node("... @include(if: true) { id } " * count)


def with_root_fields(count: int) -> str:
    return f"{{ {'serverInfo { version } ' * count} }}"


def with_mutations(count: int) -> str:
    """In two operations together."""
    return f"mutation One {{ {CANCEL} }} mutation Two {{ {renamed(count - 1, CANCEL)} }}"


@pytest.mark.parametrize(
    ("document", "limit", "more"),
    [
        (deep, DEPTH_LIMIT, DEPTH_LIMIT + 2),
        (lambda count: of_node(renamed(count)), ALIAS_LIMIT, ALIAS_LIMIT + 1),
        (with_directives, DIRECTIVE_LIMIT, DIRECTIVE_LIMIT + 1),
        (with_root_fields, ROOT_FIELD_LIMIT, ROOT_FIELD_LIMIT + 1),
        (with_mutations, MUTATION_LIMIT, MUTATION_LIMIT + 1),
    ],
    ids=["depth", "aliases", "directives", "root fields", "mutations"],
)
def test_each_limit_is_what_it_says(document: Callable[[int], str], limit: int, more: int) -> None:
    """As much as the limit passes; more is refused, with what was asked and what the limit is."""
    assert errors(document(limit)) == []

    (error,) = errors(document(more))
    assert error.extensions == {"code": "GRAPHQL_VALIDATION_FAILED", "requested": more, "limit": limit}
    assert f"{limit} is the limit." in error.message
    assert str(more) in error.message


def test_a_large_answer_has_a_code_of_its_own() -> None:
    """The objects that an answer could hold are its cost, and the refusal says how to ask for fewer."""
    query = "{ stackUpdates(first: 100) { nodes { log(first: %d) { events { seq } } } } }"
    assert errors(query % 499) == []

    (error,) = errors(query % 500)
    assert error.extensions == {"code": "COMPLEXITY_LIMIT_EXCEEDED", "requested": 100_200, "limit": OBJECT_LIMIT}
    assert "100200 objects" in error.message
    assert "smaller pages" in error.message


def test_the_first_limit_that_is_exceeded_ends_it() -> None:
    """However much is too much, and in however many operations, a client is told one thing."""
    operation = f"{{ {renamed(ROOT_FIELD_LIMIT + 1, 'serverInfo { version }')} ...A ...A }}"

    document = f"query One {operation} query Two {operation} fragment A on Query {deep(DEPTH_LIMIT + 2)}"
    assert exceeded(document) == [DEPTH_LIMIT]


# --- what counts, and what does not


@pytest.mark.parametrize(
    ("query", "limit"),
    [
        (f"{of_node('...A ...A')} fragment A on Node {{ {renamed(16)} }}", ALIAS_LIMIT),
        (f"{of_node('...A ' * 26)} fragment A on Node @include(if: true) {{ id @skip(if: false) }}", DIRECTIVE_LIMIT),
        (f"{{ ...A ...A }} fragment A on Query {with_root_fields(11)}", ROOT_FIELD_LIMIT),
        (f"mutation {{ ...A ...A ...A }} fragment A on Mutation {{ {renamed(2, CANCEL)} }}", MUTATION_LIMIT),
        (f"{of_node('...A')} fragment A on CloudResource {{ {going_round(13)} }}", DEPTH_LIMIT),
        (f"{of_node('...A ...A')} fragment A on Node {{ ...B ...B ...B }} fragment B on Node {{ {renamed(6)} }}", 30),
    ],
    ids=["aliases", "directives", "root fields", "mutations", "depth", "fragments in fragments"],
)
def test_fragments_hide_nothing(query: str, limit: int) -> None:
    """What a fragment holds counts each time that it is spread, and from where it is."""
    found = [error.extensions for error in errors(query) if error.extensions]

    assert [refusal["limit"] for refusal in found] == [limit]


def test_directives_count_wherever_they_may_stand() -> None:
    """On operations, variables, fields, spreads, inline fragments and fragments, each is one."""
    query = (
        "query Q($n: Int! @a) @a { node(id: 1) @a { ... @a { id @a } ...A @a } } "
        f"fragment A on Node @a {{ {'... @a { id } ' * 43} }}"
    )

    assert validate(GRAPHQL_SCHEMA, parse(query), [Limits]) == []
    (error,) = validate(GRAPHQL_SCHEMA, parse(query.replace("{ id }", "{ id @a }", 1)), [Limits])
    assert error.extensions == {"code": "GRAPHQL_VALIDATION_FAILED", "requested": 51, "limit": DIRECTIVE_LIMIT}


def test_type_names_are_free() -> None:
    """Clients add ``__typename`` everywhere, Relay under names of its own."""
    names = renamed(ALIAS_LIMIT + 1, "__typename")

    assert errors(f"{{ {names} node(id: 1) {{ {names} }} }}") == []


@pytest.mark.parametrize("options", [{}, {"input_value_deprecation": True, "specified_by_url": True}])
def test_introspection_passes_once(options: dict[str, bool]) -> None:
    """The query that GraphiQL and code generators send has room to grow; its lists in lists, renamed, do not pass."""
    query = get_introspection_query(**options)

    assert errors(query) == []
    assert cost(query) < OBJECT_LIMIT / 3
    nested = "types { fields { type { fields { name } } args { type { fields { name } } } } }"
    assert exceeded(f"{{ __schema {{ {renamed(29, nested)} }} }}") == [OBJECT_LIMIT]


@pytest.mark.parametrize(
    ("query", "objects"),
    [
        ("{ __typename }", 0),
        ("{ serverInfo { version } }", 1),
        ("{ stackUpdates { nodes { id } } }", 20 * 2),
        ("{ stackUpdates(first: 7) { nodes { id } pageInfo { endCursor } } }", 7 * 3),
        ("{ stackUpdates(first: 7) { edges { node { cloudResource { id } } } } }", 7 * 4),
        ("{ stackUpdates(last: 7, first: null) { nodes { id } } }", 7 * 2),
        ("{ stackUpdates(first: -1) { nodes { id } } }", 1 * 2),
        ("{ stackUpdates(first: 1000000) { nodes { id } } }", 100 * 2),
        (f"{{ stackUpdates(first: {'9' * 5000}) {{ nodes {{ id }} }} }}", 100 * 2),
        (f"{{ stackUpdates(first: -{'9' * 5000}) {{ nodes {{ id }} }} }}", 1 * 2),
        ("query ($n: Int) { stackUpdates(first: $n) { nodes { id } } }", 100 * 2),
        ("query ($n: Int = 3) { stackUpdates(first: $n) { nodes { id } } }", 100 * 2),
        ("{ stackUpdates(first: 2) { nodes { log(first: 500) { events { seq } } } } }", 2 * (1 + 1 + 500 * 2)),
        ("{ ...A ...A } fragment A on Query { stackUpdates(first: 7) { nodes { id } } }", 2 * 7 * 2),
        ('subscription { stackUpdateChanged(id: "x") { ... on StackUpdateChange { stackUpdate { id } } } }', 2),
    ],
)
def test_the_cost_is_what_the_answer_could_hold(query: str, objects: int) -> None:
    """A page counts for what is asked of it, at most what may be; what a variable holds is not known."""
    assert cost(query) == objects


def test_each_operation_has_a_cost_of_its_own() -> None:
    """A document may hold several, of which one is carried out."""
    document = parse("query One { ...A } query Two { ...A ...A } fragment A on Query { serverInfo { version } }")
    operations = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]

    assert [cost_of(GRAPHQL_SCHEMA, document, operation) for operation in operations] == [1, 2]


@pytest.mark.parametrize(
    "query",
    [
        "{ node(id: 1) { ...A } } fragment A on Node { ...A }",
        "{ ...A } fragment A on Query { ...B } fragment B on Query { ...A ...B }",
        "{ node(id: 1) { ...Missing ...on Missing { a { b } } nothing { a } } }",
        "{ ...A } fragment A on Missing { a { b } }",
        "{ id { a } } fragment A on ID { a }",
        "mutation { nothing { a } }",
        '{ cloudResources(first: "many") { nodes { id } } }',
        "subscription { serverInfo { version } __schema { types { name } } }",
        "fragment A on Query { serverInfo { version } }",
        "type Query { a: Int }",
    ],
)
def test_measuring_leaves_mistakes_to_the_other_rules(query: str) -> None:
    """What is wrong in another way is told as that."""
    assert errors(query)
    assert [error for error in errors(query) if error.extensions] == []


# --- documents made to keep a service busy


def bomb(levels: int) -> str:
    """A document of chained fragments, each spread twice by the one before: the last is reached 2^levels times."""
    chain = " ".join(f"fragment F{n} on Query {{ ...F{n + 1} ...F{n + 1} }}" for n in range(levels))
    return f"{{ ...F0 }} {chain} fragment F{levels} on Query {{ serverInfo {{ version }} }}"


def nested_bomb(levels: int) -> str:
    """The same, with two renamed fields on each level, whose answer would double."""
    chain = " ".join(
        f"fragment F{n} on StackUpdate {{ a: cloudResource {{ latestStackUpdate {{ ...F{n + 1} }} }} "
        f"b: cloudResource {{ latestStackUpdate {{ ...F{n + 1} }} }} }}"
        for n in range(levels)
    )
    return f"{of_node('...F0')} {chain} fragment F{levels} on StackUpdate {{ id }}"


@pytest.mark.parametrize(("query", "limit"), [(bomb(60), ROOT_FIELD_LIMIT), (nested_bomb(26), DEPTH_LIMIT)])
def test_a_fragment_bomb_is_refused_at_once(query: str, limit: int) -> None:
    """As many levels as the limit of tokens lets pass are refused in less than 100 ms, by all rules together."""

    def seconds() -> float:
        begin = time.thread_time()
        found = exceeded(query)
        took = time.thread_time() - begin
        assert found == [limit]
        return took

    assert min(seconds() for _ in range(3)) < 0.1


def test_counting_ends_where_it_no_longer_matters() -> None:
    """What doubles 60 times is told as more than a number that people can read."""
    (error,) = errors(bomb(60))

    assert "asks for over 1000000000 fields" in error.message
    assert cost(nested_bomb(60)) == 10**9


#: Each within a second on the slowest of machines, or pytest's own time-out would end the run.
FLOODS = {
    "aliases": f"{{ {renamed(20_000, '__typename')} }}",
    "braces": "{a" * 10_000,
    "brackets": f"{{ stackUpdates(filter: {'[' * 10_000}",
    "nested": "{ a" * 150 + " }" * 150,
    "inline fragments": f"{{ {'... { ' * 190}__typename{' }' * 190} }}",
    "one field again": f"{{ {'stackUpdates { nodes { id } } ' * 140} }}",
    "one leaf again": of_node("id " * 900),
    "a cycle": "{ ...F0 } " + " ".join(f"fragment F{n} on Query {{ ...F{(n + 1) % 90} }}" for n in range(90)),
    "every fragment in every one": "{ ...F0 } "
    + " ".join(f"fragment F{n} on Query {{ {' '.join(f'...F{m}' for m in range(20))} }}" for n in range(20)),
    "every fragment in every later one": "{ ...F0 } "
    + " ".join(
        f"fragment F{n} on Query {{ a{n}: __typename {' '.join(f'...F{m}' for m in range(n + 1, 22))} }}"
        for n in range(22)
    ),
    "variables": f"query ({' '.join(f'$v{n}: Int' for n in range(240))}) {{ __typename }}",
    "one variable again": f"query ({'$v: Int ' * 240}) {{ __typename }}",
    "directives": of_node("id " + "@include(if: true) " * 120),
    "unknown directives": of_node("id " + "@a " * 480),
    "one argument again": f"{{ stackUpdates({'first: 1 ' * 300}) {{ nodes {{ id }} }} }}",
    "operations": " ".join(f"query Q{n} {{ ...A }}" for n in range(130)) + " fragment A on Query { __typename }",
    "long names": f"{{ {' '.join('s' * 160 + str(n) for n in range(100))} }}",
}


@pytest.mark.timeout(10)
@pytest.mark.parametrize("query", FLOODS.values(), ids=FLOODS)
def test_a_flood_is_answered(query: str) -> None:
    """Whatever there is much of, all rules together come to an end, with a bounded list of errors."""
    assert len(errors(query)) <= 101
