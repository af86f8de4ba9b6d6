"""How errors look from outside: known ones with their code, unknown ones masked and logged whole."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable

from graphql import GraphQLError, GraphQLFormattedError, GraphQLSyntaxError

from graphql_api.domain.errors import BadUserInput, StackcastError

_log = logging.getLogger("stackcast.api")


def present(errors: Iterable[GraphQLError]) -> list[GraphQLFormattedError]:
    """Errors with a stable ``extensions.code`` each; what is unexpected leaves only a correlation id."""
    return [_presented(error) for error in errors]


def _presented(error: GraphQLError) -> GraphQLFormattedError:
    original = error.original_error
    if isinstance(original, StackcastError):
        extensions: dict[str, object] = {"code": original.code}
        if isinstance(original, BadUserInput):
            extensions["argument"] = original.argument
        return _formatted(error, original.message, extensions)
    if error.path is None and (original is None or isinstance(original, GraphQLError)):
        return _formatted(error, error.message, {"code": _client_code(error), **(error.extensions or {})})
    return _masked(error)


def _masked(error: GraphQLError) -> GraphQLFormattedError:
    correlation_id = secrets.token_hex(8)
    _log.error("unexpected error %s at %s", correlation_id, error.path, exc_info=error.original_error or error)
    message = f"Something unexpected went wrong in the service. Its log says more under {correlation_id}."
    return _formatted(error, message, {"code": StackcastError.code, "correlationId": correlation_id})


def _client_code(error: GraphQLError) -> str:
    """The code of a mistake in the request itself; graphql-core wraps those in variables, and only those."""
    if isinstance(error, GraphQLSyntaxError):
        return "GRAPHQL_PARSE_FAILED"
    return "GRAPHQL_VALIDATION_FAILED" if error.original_error is None else BadUserInput.code


def _formatted(error: GraphQLError, message: str, extensions: dict[str, object]) -> GraphQLFormattedError:
    formatted: GraphQLFormattedError = {**error.formatted, "message": message, "extensions": extensions}
    return formatted
