"""GraphQL over HTTP, as its specification asks: POST and GET, and subscriptions as multipart answers."""

from __future__ import annotations

from collections.abc import Mapping

from graphql import OperationType
from starlette.datastructures import Headers, QueryParams
from starlette.types import Receive, Scope, Send

from graphql_api.domain.callers import Caller
from graphql_api.schema.operations import Answer, Prepared, RequestRefused
from graphql_api.transport.api import Api
from graphql_api.transport.encoding import encode
from graphql_api.transport.guard import error_response
from graphql_api.transport.multipart import MULTIPART, Multipart
from graphql_api.transport.negotiation import preferred
from graphql_api.transport.quotas import QuotaExceeded, quota_name
from graphql_api.transport.request import BadRequest, GraphQLRequest, read_json

RESPONSE_JSON = "application/graphql-response+json"
JSON = "application/json"
#: What can be answered, the one for clients without a wish first.
_OFFERED = (JSON, RESPONSE_JSON)
_UTF_8 = frozenset({"", "utf-8", "utf8"})


class _Refused(Exception):
    """The request is answered with a status of its own; ``headers`` go with it."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, dict(headers or {})


class Endpoint:
    """The ASGI application that answers HTTP requests for operations, once the guard has let them pass."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        try:
            await self._answer(scope, headers, receive, send)
        except _Refused as refused:
            response = error_response(refused.status, refused.code, refused.message, refused.headers)
            await response(scope, receive, send)
        except BadRequest as refused:
            await error_response(400, "BAD_REQUEST", str(refused))(scope, receive, send)
        except QuotaExceeded as exceeded:
            response = error_response(429, "TOO_MANY_OPERATIONS", str(exceeded), {"Retry-After": "1"})
            await response(scope, receive, send)

    async def _answer(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        caller: Caller = scope["caller"]
        accept = headers.get("accept", "")
        media_type = preferred(accept, _OFFERED)
        if media_type is None and preferred(accept, (MULTIPART,)) is None:
            raise _Refused(406, "NOT_ACCEPTABLE", f"Accept {RESPONSE_JSON}, {JSON} or, to subscribe, {MULTIPART}.")
        request = _read(scope, headers)
        with self._api.quotas.operation(quota_name(caller, scope.get("client"))):
            try:
                prepared = self._api.prepare(request)
                _check_way(prepared, scope["method"])
                if prepared.type is OperationType.SUBSCRIPTION:
                    _check_multipart(accept)
                    frames = await self._api.fanout.follow(prepared, request.variables, caller)
                    await Multipart(frames)(scope, receive, send)
                    return
                answer = await self._api.operations.execute(prepared, request.variables, caller)
            except BadRequest:
                raise
            except RequestRefused as refused:
                answer = refused.answer
        await _send(send, _status(answer, media_type), media_type or JSON, answer)


def _read(scope: Scope, headers: Headers) -> GraphQLRequest:
    if scope["method"] == "POST":
        _check_content_type(headers.get("content-type", ""))
        return GraphQLRequest.read(read_json(scope["body"], "The request's body"))
    if scope["method"] == "GET":
        return _read_parameters(QueryParams(scope["query_string"]))
    raise _Refused(405, "METHOD_NOT_ALLOWED", "Send operations by POST, or queries by GET.", {"Allow": "GET, POST"})


def _check_content_type(content_type: str) -> None:
    type_, *parameters = (part.strip().lower() for part in content_type.split(";"))
    charset = next((part[8:].strip('"') for part in parameters if part.startswith("charset=")), "")
    if type_ != JSON or charset not in _UTF_8:
        raise _Refused(415, "UNSUPPORTED_MEDIA_TYPE", f"Send the request as Content-Type: {JSON}, in UTF-8.")


def _read_parameters(parameters: QueryParams) -> GraphQLRequest:
    value: dict[str, object] = {name: parameters[name] for name in ("query", "operationName") if parameters.get(name)}
    for name in ("variables", "extensions"):
        if parameters.get(name):
            value[name] = read_json(parameters[name], f"The parameter {name!r}")
    if "query" not in value and "extensions" not in value:
        raise BadRequest(
            "Put the GraphQL document into the parameter 'query'; or POST it. For people there is /graphiql."
        )
    return GraphQLRequest.read(value)


def _check_way(prepared: Prepared, method: str) -> None:
    if method == "GET" and prepared.type is not OperationType.QUERY:
        message = f"A {prepared.type.value} is not sent by GET, which must change nothing. Send it by POST."
        raise _Refused(405, "METHOD_NOT_ALLOWED", message, {"Allow": "POST"})


def _check_multipart(accept: str) -> None:
    if not accept or "multipart/" not in accept or preferred(accept, (MULTIPART,)) is None:
        raise BadRequest(
            f"Subscribe over a websocket (graphql-transport-ws), or over HTTP with the header Accept: {MULTIPART}."
        )


def _status(answer: Answer, media_type: str | None) -> int:
    """What is no answer to a right request is 400; clients of the older media type are used to 200 for all of them."""
    return 200 if "data" in answer or media_type == JSON else 400


async def _send(send: Send, status: int, media_type: str, answer: Answer) -> None:
    body = encode(answer)
    headers = [
        (b"content-type", f"{media_type}; charset=utf-8".encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"vary", b"Accept"),
        (b"x-content-type-options", b"nosniff"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
