"""GraphQL over HTTP (POST) and websocket (graphql-transport-ws)."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from cross_web import AsyncHTTPRequestAdapter, HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.exceptions import ConnectionRejectionError, MissingQueryError
from strawberry.http import GraphQLRequestData
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.types import ExecutionResult
from strawberry.types.graphql import OperationType

from graphql_api.schema import SCHEMA
from graphql_api.schema.context import Context
from graphql_api.service import Services
from graphql_api.transport.access import Access
from graphql_api.transport.guard import error_response
from graphql_api.transport.websocket import Handler, Socket

#: How long an open socket may wait with its connection_init.
INIT_PATIENCE = timedelta(seconds=10)


class Endpoint(GraphQL[Context, None]):
    """Strawberry's view, with errors of the transport as GraphQL errors and the token checked on websockets."""

    graphql_transport_ws_handler_class = Handler
    websocket_adapter_class = Socket

    def __init__(self, access: Access, services: Services) -> None:
        super().__init__(
            SCHEMA,
            graphql_ide=None,
            allow_queries_via_get=False,
            subscription_protocols=(GRAPHQL_TRANSPORT_WS_PROTOCOL,),
            connection_init_wait_timeout=INIT_PATIENCE,
            allowed_origins=("*",),  # the guard in front has decided
        )
        self._access = access
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        try:
            response = await self.run(Request(scope, receive))
        except HTTPException as refusal:
            response = error_response(refusal.status_code, "BAD_REQUEST", refusal.reason)
        await response(scope, receive, send)

    async def get_context(self, request: Request | WebSocket, response: Response | WebSocket) -> Context:
        return Context(self._services, request.headers.get("authorization"))

    async def on_ws_connect(self, context: Context) -> None:
        """Let a socket in by the header of its handshake or by ``authorization`` in its connection_init."""
        params = context.connection_params or {}
        named = {name.lower(): value for name, value in params.items() if isinstance(value, str)}
        if self._access.identify(named.get("authorization", context.authorization)) is None:
            raise ConnectionRejectionError({"code": "UNAUTHENTICATED"})

    async def execute_operation(
        self,
        request: Request,
        request_adapter: AsyncHTTPRequestAdapter,
        request_data: GraphQLRequestData | list[GraphQLRequestData],
        context: Context,
        root_value: None,
        sub_response: Response,
    ) -> ExecutionResult:
        """Answer once: a subscription answers many times, so it is for a websocket, whatever the client accepts."""
        if isinstance(request_data, list) or request_adapter.method != "POST":
            raise HTTPException(400, "Send one operation in a POST request.")
        try:
            return await self.schema.execute(
                request_data.query,
                variable_values=request_data.variables,
                context_value=context,
                operation_name=request_data.operation_name,
                allowed_operation_types=(OperationType.QUERY, OperationType.MUTATION),
            )
        except CannotGetOperationTypeError as error:
            raise HTTPException(400, error.as_http_error_reason()) from error
        except InvalidOperationTypeError as error:
            raise HTTPException(
                400, "Subscriptions are not answered over HTTP. Subscribe over a websocket (graphql-transport-ws)."
            ) from error
        except MissingQueryError as error:
            raise HTTPException(400, "The request has no 'query'. Put the GraphQL document there.") from error

    def decode_json(self, data: str | bytes) -> object:
        """What a websocket carries. Raises JSONDecodeError, which closes it, for all that can't be read."""
        try:
            return json.loads(data)
        except json.JSONDecodeError:
            raise
        except (ValueError, RecursionError) as error:  # a number or a nesting beyond Python's limits
            raise json.JSONDecodeError(str(error), "", 0) from error

    def parse_json(self, data: str | bytes) -> Any:
        try:
            value = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise HTTPException(400, "The request's body must be JSON, in UTF-8.") from error
        if not isinstance(value, dict):
            raise HTTPException(400, "The request's body must be a JSON object with the member 'query'.")
        return value
