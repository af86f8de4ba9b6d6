"""What a client asks for, whichever way it comes: the members of a GraphQL request, each of the right shape."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from graphql_api.schema.operations import RequestRefused


@dataclass(frozen=True, slots=True)
class GraphQLRequest:
    """A request for an operation; ``query`` is None where ``extensions`` name one that is persisted."""

    query: str | None = None
    operation_name: str | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    extensions: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, value: object) -> GraphQLRequest:
        """A request that JSON holds. Raises BadRequest."""
        if not isinstance(value, dict):
            raise BadRequest("A GraphQL request must be a JSON object with the string 'query'.")
        query, operation_name = value.get("query"), value.get("operationName")
        if not isinstance(query, str | None):
            raise BadRequest("'query' must be a string: the GraphQL document.")
        if not isinstance(operation_name, str | None):
            raise BadRequest("'operationName' must be a string.")
        extensions = _members(value, "extensions")
        if not query and extensions.get("persistedQuery") is None:
            raise BadRequest("The request has no 'query'. Put the GraphQL document there.")
        return cls(query, operation_name or None, _members(value, "variables"), extensions)


class BadRequest(RequestRefused):
    """What was sent is no GraphQL request."""

    def __init__(self, message: str) -> None:
        super().__init__([{"message": message, "extensions": {"code": "BAD_REQUEST"}}])


def read_json(text: str | bytes, what: str) -> Any:
    """The JSON value in a text. Raises BadRequest."""
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"{what} must be JSON, in UTF-8: {error}.") from None


def _no_number(constant: str) -> float:
    """Python would read these; JSON has none of them."""
    raise ValueError(f"{constant} is no number")


def _members(request: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = request.get(name)
    if not isinstance(value, dict | None):
        raise BadRequest(f"{name!r} must be an object.")
    return value or {}
