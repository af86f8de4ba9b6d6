"""Who may come in: the right host name, a known origin, the token, a body of bounded size and patience.

A page on another site can make a browser on this machine send requests here. What tells on it: the host name, where
the browser was tricked by DNS; ``Origin``, which comes with every POST and with what a script wants to read; and
``Sec-Fetch-Site``, which comes with all the rest, such as the address of an image.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from graphql_api.transport.access import Access

#: The largest request body, and the largest websocket message, in bytes: the largest manifest, escaped for JSON.
BODY_LIMIT = 1024 * 1024
#: How long a client may take to send a body.
BODY_PATIENCE = timedelta(seconds=20)
#: Probes ask under any name and without a token; what these paths answer is no secret.
HEALTH_PATHS = frozenset({"/healthz", "/readyz"})
#: GraphiQL, at this path and below, needs no token: it asks for one, and is the same for everybody.
GRAPHIQL_PATH = "/graphiql"
#: Browsers send these for a page of another origin only once a preflight has allowed it, as they do ``Content-Type``
#: with a value that no form has.
PREFLIGHTED_HEADERS = ("apollo-require-preflight", "x-apollo-operation-name")
_FORM_TYPES = frozenset({"", "application/x-www-form-urlencoded", "multipart/form-data", "text/plain"})


def error_response(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Response:
    """A refusal of the transport in the form of a GraphQL error."""
    return JSONResponse({"errors": [{"message": message, "extensions": {"code": code}}]}, status, headers)


@dataclass(frozen=True, slots=True)
class _Refused:
    status: int
    code: str
    message: str


class Guard:
    """ASGI middleware that lets a request pass, with its ``caller`` and its ``body`` in the scope, or answers it.

    Origins are given in the form that browsers send. A websocket, and GraphiQL's page, pass without a caller.
    """

    def __init__(self, app: ASGIApp, *, access: Access, hosts: Collection[str], origins: Collection[str]) -> None:
        self._app = app
        self._access = access
        self._hosts = frozenset(host.lower() for host in hosts)
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or scope["path"] in HEALTH_PATHS:
            await self._app(scope, receive, send)
        elif refused := self._refusal(scope):
            await self._answer(refused, scope, receive, send)
        elif scope["type"] == "websocket":
            await self._app(scope, receive, send)
        else:
            await self._with_body(scope, receive, send)

    def _refusal(self, scope: Scope) -> _Refused | None:
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if "*" not in self._hosts and _host_name(host) not in self._hosts:
            return _Refused(
                421,
                "HOST_NOT_ALLOWED",
                f"This server does not answer under the name {_host_name(host)!r}. If it should, add the name to "
                "STACKCAST_ALLOWED_HOSTS.",
            )
        if origin is not None and not self._knows(origin, host):
            return _Refused(
                403,
                "ORIGIN_NOT_ALLOWED",
                f"Pages from {origin!r} may not use this server. If they should, add the origin to "
                "STACKCAST_ALLOWED_ORIGINS.",
            )
        # A websocket may bring its token later, in connection_init: browsers can't set headers on one.
        if scope["type"] == "websocket" or _is_graphiql(scope["path"]):
            return None
        if origin is None and _is_forged(scope, headers):
            return _Refused(
                403,
                "CSRF",
                "A page of another site may not make a browser ask this. Send the header 'apollo-require-preflight: "
                "true' with it, and add the page's origin to STACKCAST_ALLOWED_ORIGINS.",
            )
        scope["caller"] = self._access.identify(headers.get("authorization"))
        if scope["caller"] is None:
            return _Refused(
                401,
                "UNAUTHENTICATED",
                "This server wants a token: send the header 'Authorization: Bearer' with the value of STACKCAST_TOKEN, "
                "or with one from STACKCAST_TOKENS_FILE.",
            )
        return None

    def _knows(self, origin: str, host: str) -> bool:
        if origin.lower() in self._origins:
            return True
        try:
            return urlsplit(origin).netloc.lower() == host.lower() != ""
        except ValueError:  # such as an unclosed bracket
            return False

    async def _answer(self, refused: _Refused, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": refused.code})
            return
        headers = {"WWW-Authenticate": "Bearer"} if refused.status == 401 else None
        await error_response(refused.status, refused.code, refused.message, headers)(scope, receive, send)

    async def _with_body(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(BODY_PATIENCE.total_seconds()):
                scope["body"] = await _read_body(receive)
        except TimeoutError:
            refused = _Refused(408, "BODY_TOO_SLOW", f"The request's body took over {BODY_PATIENCE.seconds} s.")
            await self._answer(refused, scope, receive, send)
        except _BodyTooLarge:
            refused = _Refused(413, "BODY_TOO_LARGE", f"The request's body is larger than {BODY_LIMIT} bytes.")
            await self._answer(refused, scope, receive, send)
        except ClientDisconnect:
            return
        else:
            await self._app(scope, receive, send)


def _is_graphiql(path: str) -> bool:
    return path == GRAPHIQL_PATH or path.startswith(f"{GRAPHIQL_PATH}/")


def _is_forged(scope: Scope, headers: Headers) -> bool:
    """Whether a page of another site may have had this sent without its origin being named, and so with no preflight.

    Only browsers send Sec-Fetch-Site, and only to loopback and over TLS: elsewhere the token is what no page has.
    A download may be a link on such a page, since that page learns nothing of what the browser shows.
    """
    if headers.get("sec-fetch-site", "none") in ("same-origin", "none"):
        return False
    if scope["path"] != "/graphql" and headers.get("sec-fetch-dest") == "document":
        return False
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    return content_type in _FORM_TYPES and not any(name in headers for name in PREFLIGHTED_HEADERS)


class _BodyTooLarge(Exception):
    pass


async def _read_body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if len(body) > BODY_LIMIT:
            raise _BodyTooLarge
        if not message.get("more_body", False):
            return bytes(body)


def _host_name(host: str) -> str:
    """The name in a Host header, without port; IPv6 addresses without their brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()
