"""What is refused before any handler of ours is asked, or in spite of one: as GraphQL errors, like all the rest."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ExceptionHandler

from graphql_api.domain.errors import StackcastError
from graphql_api.transport.guard import error_response


class Cors(CORSMiddleware):
    """Starlette's answers to browsers that ask for pages of other origins, with the refusals as GraphQL errors."""

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        if response.status_code == 200:
            return response
        what = bytes(response.body).decode().removeprefix("Disallowed CORS ").replace(", ", " and ")
        message = (
            f"A page may not send this request, because of its {what}. STACKCAST_ALLOWED_ORIGINS names the pages' "
            f"origins; they may send {' and '.join(self.allow_methods)}, with the headers "
            f"{', '.join(self.allow_headers)}."
        )
        headers = {name: value for name, value in response.headers.items() if not name.startswith("content-")}
        return error_response(response.status_code, "CORS_REFUSED", message, headers)


async def _not_found(_: Request, __: Exception) -> Response:
    return error_response(404, "NOT_FOUND", "There is nothing at this address. GraphQL is answered at /graphql.")


async def _method_not_allowed(request: Request, error: Exception) -> Response:
    headers = (error.headers if isinstance(error, HTTPException) else None) or {}
    allowed = ", ".join(sorted(headers.get("Allow", "GET, HEAD").split(", ")))
    message = f"{request.method} means nothing at this address. Send one of: {allowed}."
    return error_response(405, "METHOD_NOT_ALLOWED", message, {"Allow": allowed})


async def _internal(_: Request, __: Exception) -> Response:
    """What went wrong goes to the log alone, which the server writes."""
    message = "Something unexpected went wrong in the service. Its log says what."
    return error_response(500, StackcastError.code, message)


#: For Starlette: the answers to what no route takes, and to what nobody has caught.
EXCEPTION_HANDLERS: Mapping[int, ExceptionHandler] = {404: _not_found, 405: _method_not_allowed, 500: _internal}
