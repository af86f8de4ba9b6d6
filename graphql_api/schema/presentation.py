"""How errors look from outside: known ones with their code, unknown ones masked and logged whole."""

from __future__ import annotations

import logging
import secrets

from graphql import GraphQLError, GraphQLSyntaxError
from strawberry.extensions import MaskErrors

from graphql_api.domain.errors import BadUserInput, StackcastError

_log = logging.getLogger("stackcast.api")


class PresentErrors(MaskErrors):
    """Gives every error a stable ``extensions.code``; what is unexpected leaves only a correlation id."""

    def __init__(self) -> None:
        super().__init__(should_mask_error=lambda _: True)

    def anonymise_error(self, error: GraphQLError) -> GraphQLError:
        original = error.original_error
        if isinstance(original, StackcastError):
            extensions: dict[str, object] = {"code": original.code}
            if isinstance(original, BadUserInput):
                extensions["argument"] = original.argument
            return _presented(error, original.message, extensions)
        if error.path is None and (original is None or isinstance(original, GraphQLError)):
            return _presented(error, error.message, {"code": _client_code(error)})
        return self._masked(error)

    def _masked(self, error: GraphQLError) -> GraphQLError:
        correlation_id = secrets.token_hex(8)
        _log.error("unexpected error %s at %s", correlation_id, error.path, exc_info=error.original_error or error)
        message = f"Something unexpected went wrong in the service. Its log says more under {correlation_id}."
        return _presented(error, message, {"code": StackcastError.code, "correlationId": correlation_id})


def _client_code(error: GraphQLError) -> str:
    """The code of a mistake in the request itself; graphql-core wraps those in variables, and only those."""
    if isinstance(error, GraphQLSyntaxError):
        return "GRAPHQL_PARSE_FAILED"
    return "GRAPHQL_VALIDATION_FAILED" if error.original_error is None else BadUserInput.code


def _presented(error: GraphQLError, message: str, extensions: dict[str, object]) -> GraphQLError:
    return GraphQLError(
        message,
        nodes=error.nodes,
        source=error.source,
        positions=error.positions,
        path=error.path,
        extensions=extensions,
    )
