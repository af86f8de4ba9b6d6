"""A short way through graphql-core for plain data: objects whose fields are only read and written down.

Most of an answer is that: the events of a log, the rows of a page. graphql-core finds out for every value how it is to
be read and written; here that is found out once for an operation, and is its plan. A plan covers what needs nothing but
the objects themselves down to the leaves, and expects the very classes that the schema declares. At anything else it
gives up, and graphql-core does that value itself: so errors, their paths and what becomes null are always its own.

Nothing depends on this. With graphql-core's ``Executor`` in its place all answers are the same, only slower. (One thing
no plan sees: ``strawberry.cast``, by which an object says that it is of another type than its class is.)
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter
from typing import Any, TypeVar

from graphql import (
    Executor,
    GraphQLAbstractType,
    GraphQLBoolean,
    GraphQLEnumType,
    GraphQLError,
    GraphQLField,
    GraphQLID,
    GraphQLInt,
    GraphQLLeafType,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLString,
    Undefined,
    is_abstract_type,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
    is_object_type,
)
from graphql.execution.collect_fields import FieldDetails
from graphql.type.scalars import GRAPHQL_MAX_INT, GRAPHQL_MIN_INT
from strawberry.schema.schema_converter import GraphQLCoreConverter
from strawberry.types.base import StrawberryObjectDefinition
from strawberry.types.field import StrawberryField

#: How many plans an operation has at most: one for each way in which its Boolean variables are given.
VARIANTS = 4
#: How many selections a plan may hold to be remembered. Only fragments that double make more.
SELECTIONS = 500

T = TypeVar("T")
#: All nodes that ask for a field by the same name.
Selection = list[FieldDetails]
#: Gives what is answered for a value. Raises for anything that it does not expect, and for null.
Complete = Callable[[Any], Any]
#: What reads a field of an object, and what completes what was read.
FieldPlan = tuple[Callable[[Any], Any], Complete]

_DECLARED = GraphQLCoreConverter.DEFINITION_BACKREF


class PlainExecutor(Executor[Any]):
    """An executor with plans, which it shares with others of the same operation, such as those of later events.

    Plans live as long as the operation's node does: who remembers documents remembers them, too.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._plans = _plans_of(self)
        self._relevant_sub_fields = self._plans.collected

    def execute_collected_root_fields(
        self, root_type: Any, root_value: Any, grouped_field_set: dict[str, Selection], *rest: Any
    ) -> Any:
        # All below follows from these lists, so that with the same ones all selections are the same objects each time.
        shared = self._plans.root.setdefault(root_type, grouped_field_set)
        return super().execute_collected_root_fields(root_type, root_value, shared, *rest)

    def execute_field(self, parent_type: Any, source: Any, field_details_list: Selection, *rest: Any) -> Any:
        key = id(field_details_list)
        known = self._plans.known.get(key) or self._plan(key, field_details_list, _Planner.field, parent_type)
        if (plan := known[1]) is not None:
            get, complete = plan
            try:
                return complete(get(source))
            except Exception:  # noqa: S110 (whatever it is, graphql-core finds it as well, and says so)
                pass
        return super().execute_field(parent_type, source, field_details_list, *rest)

    def complete_value(
        self, return_type: Any, field_details_list: Selection, info: Any, path: Any, result: Any, *rest: Any
    ) -> Any:
        if type(return_type) is not GraphQLNonNull:  # for one that is, graphql-core asks again for what is within
            key = return_type, id(field_details_list)
            known = self._plans.known.get(key) or self._plan(key, field_details_list, _Planner.value, return_type)
            if (complete := known[1]) is not None:
                try:
                    return complete(result)
                except Exception:  # noqa: S110 (whatever it is, graphql-core finds it as well, and says so)
                    pass
        return super().complete_value(return_type, field_details_list, info, path, result, *rest)

    def _plan(
        self, key: object, selection: Selection, make: Callable[..., T], type_: Any
    ) -> tuple[Selection, T | None]:
        plan = None
        with suppress(_NotPlain, GraphQLError, RecursionError):
            plan = make(_Planner(self), type_, selection)
        self._plans.known[key] = known = selection, plan
        if len(self._plans.collected) > SELECTIONS:
            _remembered.get(id(self.operation), {}).clear()
        return known


# --- what is remembered


@dataclass(frozen=True, slots=True, eq=False)
class _Plans:
    """What was found out about an operation. A selection is known by the identity of its list, which is kept for it."""

    root: dict[GraphQLObjectType, dict[str, Selection]] = field(default_factory=dict)
    collected: dict[Any, Any] = field(default_factory=dict)  # graphql-core's own memory of the selections below
    #: With each selection how it is done, for a field or for the values of a type; None where that takes graphql-core.
    known: dict[object, tuple[Selection, Any]] = field(default_factory=dict)


#: By the identity of an operation's node, while that lives.
_remembered: dict[int, dict[tuple[object, ...], _Plans]] = {}


def _plans_of(executor: Executor[Any]) -> _Plans:
    if any(fragment.variable_signatures for fragment in executor.fragments.values()):
        return _Plans()  # such a fragment selects by variables of its own
    operation, variables = executor.operation, executor.variable_values.coerced
    if id(operation) not in _remembered:
        _remembered[id(operation)] = {}
        weakref.finalize(operation, _remembered.pop, id(operation)).atexit = False
    variants = _remembered[id(operation)]
    # Only Booleans decide what is selected, in @skip and @include.
    variant = (executor.schema, *(given for given in variables.items() if isinstance(given[1], bool)))
    if variant not in variants:
        if len(variants) >= VARIANTS:
            del variants[next(iter(variants))]
        variants[variant] = _Plans()
    return variants[variant]


# --- how plans are made


class _NotPlain(Exception):
    """Something is selected that no plan covers."""


class _Surprise(Exception):
    """A value is not what its plan expects."""


class _Planner:
    """Makes plans, with the variables of one execution. They outlive it, so none of them may hold the executor."""

    def __init__(self, executor: Executor[Any]) -> None:
        self._executor = executor

    def field(self, parent_type: GraphQLObjectType, selection: Selection) -> FieldPlan:
        name, type_name = selection[0].node.name.value, parent_type.name
        if name == "__typename":
            return (lambda _: type_name), _leaf(GraphQLString)
        made = self._executor.schema.get_field(parent_type, name)
        if made is None or self._executor.middleware_manager is not None or _has_unknown_directives(selection):
            raise _NotPlain
        return _reader(made), self.value(made.type, selection)

    def value(self, type_: GraphQLOutputType, selection: Selection) -> Complete:
        if is_non_null_type(type_):
            return self._something(type_.of_type, selection)
        something = self._something(type_, selection)
        return lambda value: None if value is None else something(value)

    def _something(self, type_: GraphQLOutputType, selection: Selection) -> Complete:
        if is_list_type(type_):
            return _list(self.value(type_.of_type, selection))
        if is_object_type(type_):
            return _one_of({_class_of(type_): self._object(type_, selection)})
        if is_abstract_type(type_):
            possible = self._executor.schema.get_possible_types(type_)
            return _one_of({_class_within(type_, one): self._object(one, selection) for one in possible})
        if is_leaf_type(type_):
            return _leaf(type_)
        raise _NotPlain

    def _object(self, type_: GraphQLObjectType, selection: Selection) -> Complete:
        collected = self._executor.collect_subfields(type_, selection)
        if collected.new_defer_usages:
            raise _NotPlain
        fields = [(name, *self.field(type_, within)) for name, within in collected.grouped_field_set.items()]
        return lambda value: {name: complete(get(value)) for name, get, complete in fields}


def _has_unknown_directives(selection: Selection) -> bool:
    """Beside those that were heeded when the selection was collected."""
    names = (directive.name.value for details in selection for directive in details.node.directives or ())
    return any(name not in ("skip", "include") for name in names)


def _reader(made: GraphQLField) -> Callable[[Any], Any]:
    """What Strawberry does for a field without a resolver, or with one that is asked for nothing but the object."""
    declared = made.extensions.get(_DECLARED)
    if not isinstance(declared, StrawberryField) or declared.extensions or declared.is_async:
        raise _NotPlain
    resolver = declared.base_resolver
    if resolver is None and declared.default_resolver is getattr:
        return attrgetter(declared.python_name)
    if resolver is not None and resolver.self_parameter and len(resolver.signature.parameters) == 1:
        return resolver
    raise _NotPlain


def _declared(type_: GraphQLObjectType) -> StrawberryObjectDefinition:
    declared = type_.extensions.get(_DECLARED)
    if not isinstance(declared, StrawberryObjectDefinition) or declared.is_type_of is not None:
        raise _NotPlain
    return declared


def _class_of(type_: GraphQLObjectType) -> type:
    declared = _declared(type_)
    return (declared.concrete_of or declared).origin


def _class_within(abstract: GraphQLAbstractType, type_: GraphQLObjectType) -> type:
    """The class whose objects Strawberry takes for this type where it is one of several."""
    asked, declared = abstract.extensions.get(_DECLARED), _declared(type_)
    if getattr(asked, "resolve_type", None) is not None or declared.concrete_of or declared.name != type_.name:
        raise _NotPlain  # it looks at more than the class
    return declared.origin


def _one_of(classes: Mapping[type, Complete]) -> Complete:
    """For objects of just these classes, which are neither awaitables nor exceptions."""
    return lambda value: classes[type(value)](value)


def _list(item: Complete) -> Complete:
    def complete(value: Any) -> Any:
        if type(value) is not list:
            raise _Surprise
        return [item(one) for one in value]

    return complete


# --- leaves: of a usual class they are written as they are, or as their type writes them

_AS_THEY_ARE = {GraphQLString: str, GraphQLID: str, GraphQLBoolean: bool}
_HARMLESS = frozenset({str, int, float, bool, list, dict, datetime})  # none of which can be awaited


def _leaf(type_: GraphQLLeafType) -> Complete:
    if isinstance(type_, GraphQLEnumType):
        return _enum(type_)
    if type_ is GraphQLInt:
        return _int
    if type_ in _AS_THEY_ARE:
        return _same(_AS_THEY_ARE[type_])
    return _written(type_.coerce_output_value)


def _same(class_: type) -> Complete:
    def complete(value: Any) -> Any:
        if type(value) is not class_:
            raise _Surprise
        return value

    return complete


def _int(value: Any) -> Any:
    if type(value) is not int or not GRAPHQL_MIN_INT <= value <= GRAPHQL_MAX_INT:
        raise _Surprise
    return value


def _enum(type_: GraphQLEnumType) -> Complete:
    members = getattr(type_, "wrapped_cls", ())
    #: By identity, since to hash a member takes longer; a member lives for ever, and so has its identity to itself.
    names = {id(member): type_.coerce_output_value(member) for member in members}
    return lambda value: names[id(value)]


def _written(write: Callable[[Any], Any]) -> Complete:
    def complete(value: Any) -> Any:
        if type(value) not in _HARMLESS:
            raise _Surprise
        written = write(value)
        if written is None or written is Undefined:
            raise _Surprise
        return written

    return complete
