"""schema.graphql is the contract that clients read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLUnionType,
    build_schema,
)

from graphql_api.schema import SCHEMA

FILE = Path(__file__).parents[2] / "schema.graphql"
CONTRACT = build_schema(FILE.read_text())
TYPES = [type_ for name, type_ in CONTRACT.type_map.items() if not name.startswith("__")]


def test_the_file_equals_the_code() -> None:
    """schema.graphql is what the code serves; after a change `python -m graphql_api.schema` writes it anew."""
    assert FILE.read_text() == SCHEMA.as_str() + "\n"


def described(type_: GraphQLNamedType) -> Iterator[tuple[str, str | None]]:
    """Everything in a type that has a description, with it."""
    yield type_.name, type_.description
    if isinstance(type_, GraphQLEnumType):
        yield from ((f"{type_.name}.{name}", value.description) for name, value in type_.values.items())
    if isinstance(type_, GraphQLObjectType | GraphQLInterfaceType | GraphQLInputObjectType):
        yield from ((f"{type_.name}.{name}", field.description) for name, field in type_.fields.items())
    if isinstance(type_, GraphQLObjectType | GraphQLInterfaceType):
        for name, field in type_.fields.items():
            yield from ((f"{type_.name}.{name}({key}:)", arg.description) for key, arg in field.args.items())


def test_everything_is_described() -> None:
    """Every type, field, argument and enum value says what it is."""
    builtin = {"ID", "String", "Int", "Boolean", "Float"}
    missing = [
        name
        for type_ in TYPES
        if type_.name not in builtin
        for name, description in described(type_)
        if not description
    ]

    assert missing == []


def test_every_mutation_answers_with_its_success_or_user_errors() -> None:
    """A mutation's union holds its own success, and all its other members implement UserError."""
    assert CONTRACT.mutation_type is not None
    for name, field in CONTRACT.mutation_type.fields.items():
        title = name[0].upper() + name[1:]
        union = CONTRACT.type_map[f"{title}Payload"]

        assert str(field.type) == f"{title}Payload!"
        assert isinstance(union, GraphQLUnionType)
        others = [member for member in union.types if member.name != f"{title}Success"]
        assert len(others) == len(union.types) - 1
        assert all("UserError" in {interface.name for interface in member.interfaces} for member in others)
        assert list(field.args) == ["input"]
