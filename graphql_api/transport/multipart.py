"""Subscriptions over HTTP, as Apollo's clients take them: an answer of many parts that goes on until the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import timedelta

from starlette.types import Receive, Scope, Send

from graphql_api.schema.operations import RequestRefused
from graphql_api.transport.encoding import encode

MULTIPART = "multipart/mixed"
#: How often an answer is heard of, even if it is silent, so that nothing on the way takes it for dead.
HEARTBEAT = timedelta(seconds=5)

_HEADERS = [
    (b"content-type", f'{MULTIPART};boundary="graphql";subscriptionSpec="1.0"'.encode()),
    (b"cache-control", b"no-store"),
    (b"vary", b"Accept"),
    (b"x-content-type-options", b"nosniff"),
]


class Multipart:
    """The response that gives ``frames``, a subscription's answers as JSON, each in a part of its own.

    A part without a payload is a heartbeat; the first comes at once. What ends the subscription before its time is told
    in the last part. A client that leaves ends it as well.
    """

    def __init__(self, frames: AsyncGenerator[bytes, None], heartbeat: timedelta = HEARTBEAT) -> None:
        self._frames = frames
        self._heartbeat = heartbeat

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await _write(send, b"--graphql" + _part(b"{}"))
        tasks = [
            asyncio.create_task(part, name="multipart subscription")
            for part in (self._give(send), self._beat(send), _gone(receive))
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if not (whole := tasks[0]).cancelled():
            whole.result()
            await _write(send, b"--\r\n", more=False)

    async def _give(self, send: Send) -> None:
        try:
            async with aclosing(self._frames) as frames:
                async for frame in frames:
                    await _write(send, _part(b'{"payload":' + frame + b"}"))
        except RequestRefused as refused:
            await _write(send, _part(encode({"payload": None, **refused.answer})))

    async def _beat(self, send: Send) -> None:
        while True:
            await asyncio.sleep(self._heartbeat.total_seconds())
            await _write(send, _part(b"{}"))


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _write(send: Send, content: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": content, "more_body": more})


def _part(content: bytes) -> bytes:
    """A part, and the boundary behind it: clients take a part when they see its end."""
    return b"\r\ncontent-type: application/json; charset=utf-8\r\n\r\n" + content + b"\r\n--graphql"
