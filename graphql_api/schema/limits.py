"""What a document may ask for at most: records lead to each other, so a short one could ask for millions."""

from __future__ import annotations

from typing import Any

from graphql import (
    FieldNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    InlineFragmentNode,
    IntValueNode,
    NullValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    ValidationContext,
    ValidationRule,
    get_named_type,
)

from graphql_api.schema.pagination import DEFAULT_SIZE, EVENT_LIMIT, PAGE_LIMIT

#: Enough for a page of 100 with 100 of each one's stack updates, in detail; far from what keeps a service busy.
OBJECT_LIMIT = 100_000
#: The types of the pages that may be larger than PAGE_LIMIT, and how large.
_LARGER = {"StackUpdateEventPage": EVENT_LIMIT}


class ObjectLimit(ValidationRule):
    """Refuses an operation whose answer could hold more than OBJECT_LIMIT objects.

    Each fragment is counted once, however often it is spread: counting takes no longer than reading the document.
    """

    def __init__(self, context: ValidationContext) -> None:
        super().__init__(context)
        self._fragments: dict[str, int] = {}

    def enter_operation_definition(self, node: OperationDefinitionNode, *_: Any) -> None:
        root = self.context.schema.get_root_type(node.operation)
        if root is not None and self._objects(node.selection_set, root) > OBJECT_LIMIT:
            message = (
                f"The answer could hold more than {OBJECT_LIMIT} objects. Ask for smaller pages (first, last), nest "
                "fewer lists, or ask in several operations."
            )
            self.report_error(GraphQLError(message, node))

    def _objects(self, selections: SelectionSetNode, parent: GraphQLNamedType | None) -> int:
        total = 0
        for selection in selections.selections:
            if isinstance(selection, FieldNode):
                total += self._of_field(selection, parent)
            elif isinstance(selection, InlineFragmentNode):
                condition = selection.type_condition
                total += self._objects(
                    selection.selection_set, self._type(condition.name.value) if condition else parent
                )
            elif isinstance(selection, FragmentSpreadNode):
                total += self._of_fragment(selection.name.value)
        return total

    def _of_field(self, node: FieldNode, parent: GraphQLNamedType | None) -> int:
        fields = parent.fields if isinstance(parent, GraphQLObjectType | GraphQLInterfaceType) else {}
        field = fields.get(node.name.value)
        if field is None or node.selection_set is None:  # a leaf, introspection, or a mistake that other rules report
            return 0
        return _size(node, field) * (1 + self._objects(node.selection_set, get_named_type(field.type)))

    def _of_fragment(self, name: str) -> int:
        if name not in self._fragments:
            self._fragments[name] = 0  # for one that spreads itself, which another rule refuses
            fragment = self.context.get_fragment(name)
            if fragment is not None:
                condition = self._type(fragment.type_condition.name.value)
                self._fragments[name] = self._objects(fragment.selection_set, condition)
        return self._fragments[name]

    def _type(self, name: str) -> GraphQLNamedType | None:
        return self.context.schema.get_type(name)


def _size(node: FieldNode, field: GraphQLField) -> int:
    """How many items the field gives at most; one where it is no list with pages."""
    if "first" not in field.args:
        return 1
    limit = _LARGER.get(get_named_type(field.type).name, PAGE_LIMIT)
    given = [argument.value for argument in node.arguments or () if argument.name.value in ("first", "last")]
    sizes = [_written(value, limit) for value in given if not isinstance(value, NullValueNode)]
    without = field.args["first"].default_value
    return max(sizes, default=without if isinstance(without, int) else DEFAULT_SIZE)


def _written(value: object, limit: int) -> int:
    """What is written, within what may be asked for; a variable could be anything."""
    return min(max(int(value.value), 1), limit) if isinstance(value, IntValueNode) else limit
