"""Websockets below their messages: what uvicorn does with a client that takes nothing, or sends what is no text."""

from __future__ import annotations

import struct

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from graphql_api.transport.connections import SHUTDOWN_PATIENCE

NO_UTF_8 = 1007
#: Under this name among the scope's extensions an application finds what sends a text at once.
DIRECT = "stackcast.direct"


class Socket(WebSocketsSansIOProtocol):
    """uvicorn's websocket, which keeps no stopping server waiting and has no client's mistake in the log.

    It sends texts in a shorter way, too: to a thousand watchers, ASGI's costs more than all else together. It does not
    hold on to the headers of the handshake, a tenth of what one who waits in silence needs.
    """

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        event.headers.clear()  # the scope has them; this would be held as long as the socket
        if not self.handshake_complete:  # or it is refused already, without a scope
            self.scope["extensions"][DIRECT] = {"send": self.send_directly}

    def start_keepalive(self) -> None:
        """What is called when the handshake is complete: nobody needs its headers any more."""
        self.response.headers.clear()
        super().start_keepalive()

    def send_directly(self, text: bytes) -> bool:
        """Send a text, in UTF-8, if it can be sent without waiting; whether it could.

        One frame without a mask, as RFC 6455 (5.2) has it; that no extension changes frames is the server's setting.
        """
        if not self.handshake_complete or self.close_sent or self.disconnected or not self.writable.is_set():
            return False
        self.transport.write(_header(len(text)) + text)
        return True

    def shutdown(self) -> None:
        super().shutdown()
        if self.transport.get_write_buffer_size():
            self.loop.call_later(SHUTDOWN_PATIENCE.total_seconds(), self.transport.abort)

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text" and not self.close_sent and not _is_utf_8(self.frames):
            self.conn.fail(NO_UTF_8)
            self.handle_parser_exception()
        else:
            super().send_receive_event_to_app()


def _header(length: int) -> bytes:
    if length < 126:
        return bytes((0x81, length))
    return struct.pack("!BBH", 0x81, 126, length) if length < 65536 else struct.pack("!BBQ", 0x81, 127, length)


def _is_utf_8(parts: list[bytes]) -> bool:
    try:
        b"".join(parts).decode()
    except UnicodeDecodeError:
        return False
    return True
