"""graphql-transport-ws against clients that keep to no protocol: whatever they send, the socket closes with a code."""

from __future__ import annotations

from typing import Any

from strawberry.asgi import ASGIWebSocketAdapter
from strawberry.http.exceptions import WebSocketDisconnected
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import BaseGraphQLTransportWSHandler
from strawberry.subscriptions.protocols.graphql_transport_ws.types import Message

from graphql_api.schema.context import Context

#: The most that a close frame can carry as its reason, in bytes of UTF-8.
_REASON_LIMIT = 123


class Socket(ASGIWebSocketAdapter):
    """A socket whose close reason always fits its frame: some repeat what a client sent."""

    async def close(self, code: int, reason: str) -> None:
        cut = reason.encode(errors="replace")[:_REASON_LIMIT]
        await super().close(code, cut.decode(errors="ignore"))


class Handler(BaseGraphQLTransportWSHandler[Context, None]):
    """Strawberry's handler, for messages of the right shape alone."""

    async def handle_message(self, message: Message) -> None:
        if fault := _fault(message):
            await self.handle_invalid_message(fault)
        else:
            await super().handle_message(message)

    async def handle_task_exception(self, error: Exception) -> None:
        """Log what went wrong; a client that leaves while it is sent something is nothing that did."""
        if not isinstance(error, WebSocketDisconnected):
            await super().handle_task_exception(error)


def _fault(message: object) -> str | None:
    """What is wrong with a message, whatever JSON it is; None when it can be handled."""
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        return "A message must be a JSON object with the string 'type'."
    if message["type"] in ("subscribe", "complete") and not isinstance(message.get("id"), str):
        return f"The message {message['type']!r} must have the string 'id'."
    if message["type"] == "subscribe":
        return _payload_fault(message.get("payload"))
    return None


def _payload_fault(payload: Any) -> str | None:
    if not isinstance(payload, dict) or not isinstance(payload.get("query"), str):
        return "The payload of 'subscribe' must be an object with the string 'query'."
    if not isinstance(payload.get("variables"), dict | None):
        return "The 'variables' of 'subscribe' must be an object."
    if not isinstance(payload.get("operationName"), str | None):
        return "The 'operationName' of 'subscribe' must be a string."
    return None
