"""What a document may ask for at most: records lead to each other, so a short one could ask for millions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from graphql import (
    SKIP,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLField,
    GraphQLNamedType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    NamedTypeNode,
    NullValueNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    ValidationContext,
    ValidationRule,
    VisitorAction,
    get_named_type,
    get_nullable_type,
    is_composite_type,
    is_introspection_type,
    is_list_type,
)

from graphql_api.schema.pagination import DEFAULT_SIZE, EVENT_LIMIT, PAGE_LIMIT

#: Enough for a page of 100 with 100 of each one's stack updates, in detail; far from what keeps a service busy.
OBJECT_LIMIT = 100_000
#: From a list of cloud resources down to the diagnostics of their stack updates it is 8.
DEPTH_LIMIT = 12
#: A dashboard renames a few fields; the names that Relay gives to ``__typename`` do not count.
ALIAS_LIMIT = 30
DIRECTIVE_LIMIT = 50
ROOT_FIELD_LIMIT = 20
#: Of all operations in one document together.
MUTATION_LIMIT = 4

#: The types of the pages that may be larger than PAGE_LIMIT, and how large.
_LARGER = {"StackUpdateEventPage": EVENT_LIMIT}
#: What the lists of introspection count for, but that of all types: as many as they hold on average.
_INTROSPECTED = 3
#: Counting ends here: fragments that double could make a number of any length.
_COUNTED = 10**9


class Limits(ValidationRule):
    """Refuses a document that asks for too much, with one error, for the first limit that it exceeds.

    Each fragment is measured once, however often it is spread: it takes no longer than reading the document. What a
    fragment holds counts each time that it is spread.
    """

    def __init__(self, context: ValidationContext) -> None:
        super().__init__(context)
        self._ruler = _Ruler(context.schema, context.get_fragment)
        self._mutations = 0
        self._refused = False

    def enter_operation_definition(self, node: OperationDefinitionNode, *_: Any) -> VisitorAction:
        measure = self._ruler.operation(node)
        if node.operation is OperationType.MUTATION:
            self._mutations += measure.fields
        exceeded = next(_exceeded(measure, self._mutations), None)
        if exceeded is not None and not self._refused:
            self._refused = True
            self.report_error(exceeded.error(node))
        return SKIP

    def enter_fragment_definition(self, *_: Any) -> VisitorAction:
        return SKIP


def cost_of(schema: GraphQLSchema, document: DocumentNode, operation: OperationDefinitionNode) -> int:
    """How many objects the answer to an operation of the document could hold."""
    fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
    return _Ruler(schema, fragments.get).operation(operation).objects


# --- what is refused


@dataclass(frozen=True, slots=True)
class _Exceeded:
    asked: int
    limit: int
    sentence: str
    code: str = "GRAPHQL_VALIDATION_FAILED"

    def error(self, node: OperationDefinitionNode) -> GraphQLError:
        asked = f"over {_COUNTED}" if self.asked >= _COUNTED else str(self.asked)
        extensions = {"code": self.code, "requested": self.asked, "limit": self.limit}
        return GraphQLError(self.sentence.format(asked=asked, limit=self.limit), node, extensions=extensions)


def _exceeded(measure: _Measure, mutations: int) -> Iterator[_Exceeded]:
    """The limits that an operation exceeds; ``mutations`` are those of the document so far."""
    limits = (
        _Exceeded(
            measure.depth,
            DEPTH_LIMIT,
            "The operation's fields are nested {asked} deep, and {limit} is the limit. Nest fewer, or ask in several "
            "operations: every record has an id to go on from.",
        ),
        _Exceeded(
            measure.aliases,
            ALIAS_LIMIT,
            "The operation has {asked} aliases, its fragments' counted wherever they are spread, and {limit} is the "
            "limit. Ask in several operations.",
        ),
        _Exceeded(
            measure.directives,
            DIRECTIVE_LIMIT,
            "The operation has {asked} directives, its fragments' counted wherever they are spread, and {limit} is the "
            "limit. Leave some out, or put fields that share one into an inline fragment that has it.",
        ),
        _Exceeded(
            measure.fields,
            ROOT_FIELD_LIMIT,
            "The operation asks for {asked} fields at its root, and {limit} is the limit. Ask in several operations.",
        ),
        _Exceeded(
            mutations,
            MUTATION_LIMIT,
            "The document holds {asked} mutations, and {limit} is the limit. Send the others in requests of their own.",
        ),
        _Exceeded(
            measure.objects,
            OBJECT_LIMIT,
            "The answer could hold {asked} objects, and {limit} is the limit. Ask for smaller pages (first, last), "
            "nest fewer lists, or ask in several operations.",
            "COMPLEXITY_LIMIT_EXCEEDED",
        ),
    )
    return (one for one in limits if one.asked > one.limit)


# --- how it is measured


class _Measure(NamedTuple):
    """What selections ask for: how deep, how many fields beside each other at their top, and how much in all."""

    depth: int = 0
    fields: int = 0
    aliases: int = 0
    directives: int = 0
    objects: int = 0

    def beside(self, other: _Measure, directives: int) -> _Measure:
        """Both together, where the other one has directives of its own."""
        return _Measure(
            max(self.depth, other.depth),
            min(self.fields + other.fields, _COUNTED),
            min(self.aliases + other.aliases, _COUNTED),
            min(self.directives + other.directives + directives, _COUNTED),
            min(self.objects + other.objects, _COUNTED),
        )


_NOTHING = _Measure()


class _Ruler:
    """Measures the operations of one document."""

    def __init__(self, schema: GraphQLSchema, fragment: Callable[[str], FragmentDefinitionNode | None]) -> None:
        self._schema = schema
        self._fragment = fragment
        self._fragments: dict[str, _Measure] = {}

    def operation(self, node: OperationDefinitionNode) -> _Measure:
        measure = self._selections(node.selection_set, self._schema.get_root_type(node.operation))
        variables = sum(len(variable.directives or ()) for variable in node.variable_definitions or ())
        return _NOTHING.beside(measure, len(node.directives or ()) + variables)

    def _selections(self, selections: SelectionSetNode, parent: GraphQLNamedType | None) -> _Measure:
        # It calls itself for each level of nesting, of which graphql-core lets 200 pass, with as few frames as can be.
        total = _NOTHING
        for node in selections.selections:
            if isinstance(node, FieldNode):
                measure = self._field(node, parent)
            elif isinstance(node, InlineFragmentNode):
                condition = node.type_condition
                measure = self._selections(node.selection_set, self._type(condition) if condition else parent)
            elif isinstance(node, FragmentSpreadNode):
                measure = self._spread(node.name.value)
            total = total.beside(measure, len(node.directives or ()))
        return total

    def _field(self, node: FieldNode, parent: GraphQLNamedType | None) -> _Measure:
        name = node.name.value
        # None for a mistake that other rules report.
        field = self._schema.get_field(parent, name) if parent and is_composite_type(parent) else None
        type_ = get_named_type(field.type) if field else None
        within = self._selections(node.selection_set, type_) if node.selection_set else _NOTHING
        counts = name != "__typename"
        return _Measure(
            depth=1 if name.startswith("__") else 1 + within.depth,  # graphql-core bounds that of introspection
            fields=int(counts),
            aliases=int(counts and node.alias is not None) + within.aliases,
            directives=within.directives,
            objects=self._size(node, field) * (1 + within.objects) if field and node.selection_set else 0,
        )

    def _size(self, node: FieldNode, field: GraphQLField) -> int:
        """How many items the field gives at most; one where it is no list with pages."""
        type_ = get_named_type(field.type)
        if is_introspection_type(type_) and is_list_type(get_nullable_type(field.type)):
            return len(self._schema.type_map) if node.name.value == "types" else _INTROSPECTED
        if "first" not in field.args:
            return 1
        limit = _LARGER.get(type_.name, PAGE_LIMIT)
        given = [argument.value for argument in node.arguments or () if argument.name.value in ("first", "last")]
        sizes = [_written(value, limit) for value in given if not isinstance(value, NullValueNode)]
        without = field.args["first"].default_value
        return max(sizes, default=without if isinstance(without, int) else DEFAULT_SIZE)

    def _spread(self, name: str) -> _Measure:
        if name not in self._fragments:
            self._fragments[name] = _NOTHING  # for one that spreads itself, which another rule refuses
            if (fragment := self._fragment(name)) is not None:
                measure = self._selections(fragment.selection_set, self._type(fragment.type_condition))
                self._fragments[name] = _NOTHING.beside(measure, len(fragment.directives or ()))
        return self._fragments[name]

    def _type(self, condition: NamedTypeNode) -> GraphQLNamedType | None:
        return self._schema.get_type(condition.name.value)


def _written(value: object, limit: int) -> int:
    """What is written, within what may be asked for; a variable could be anything."""
    if isinstance(value, IntValueNode):
        return min(max(int(value.value[:10]), 1), limit)  # Python does not read numbers of thousands of digits
    return limit
