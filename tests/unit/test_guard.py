"""What the guard lets pass when a browser says for which page it asks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from graphql_api.transport.access import Access
from graphql_api.transport.guard import Guard

LOG = "/stack-updates/0123456789abcdef01234567/log.txt"
PORTAL = "https://portal.example"
IMAGE = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
LINK = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
FRAME = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}
NEIGHBOUR = {**IMAGE, "Sec-Fetch-Site": "same-site"}


async def _passed(_: Scope, __: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b'{"passed": true}'})


async def ask(
    headers: Mapping[str, str], path: str = "/graphql", method: str = "GET", token: str | None = None
) -> tuple[int, Any]:
    """The status and the JSON of the answer to a request that names the host rightly unless it says otherwise."""
    guard = Guard(_passed, access=Access({token: None} if token else {}), hosts=["127.0.0.1"], origins=[PORTAL])
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    all_headers = {"Host": "127.0.0.1:8321", **headers}
    raw = [(name.lower().encode(), value.encode()) for name, value in all_headers.items()]
    await guard({"type": "http", "method": method, "path": path, "headers": raw}, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"])


@pytest.mark.parametrize("headers", [IMAGE, LINK, FRAME, NEIGHBOUR], ids=["image", "link", "frame", "neighbour"])
async def test_another_sites_page_can_not_make_a_browser_ask(headers: dict[str, str]) -> None:
    """An image, a link or a frame on it whose address is a query is refused with a sentence."""
    status, answer = await ask(headers)

    [error] = answer["errors"]
    assert (status, error["extensions"]["code"]) == (403, "CSRF")
    assert "apollo-require-preflight" in error["message"]


@pytest.mark.parametrize(
    "more",
    [
        {"Content-Type": "application/json"},
        {"Content-Type": "application/json; charset=utf-8"},
        {"Apollo-Require-Preflight": "true"},
        {"X-Apollo-Operation-Name": "List"},
        {"Origin": PORTAL},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ],
)
async def test_what_no_page_can_send_in_secret_passes(more: dict[str, str]) -> None:
    """A header that a browser allows only after a preflight, a known origin, our own page, the address bar."""
    assert await ask({**IMAGE, **more}) == (200, {"passed": True})


@pytest.mark.parametrize("kind", ["text/plain", "Text/Plain; charset=utf-8", "multipart/form-data; boundary=x", ""])
async def test_what_a_form_can_send_proves_nothing(kind: str) -> None:
    """Its types need no preflight."""
    assert (await ask({**IMAGE, "Content-Type": kind}))[0] == 403


async def test_a_known_header_does_not_open_to_an_unknown_origin() -> None:
    """The origin is judged first."""
    status, answer = await ask({**IMAGE, "Apollo-Require-Preflight": "true", "Origin": "https://evil.example"})

    assert (status, answer["errors"][0]["extensions"]["code"]) == (403, "ORIGIN_NOT_ALLOWED")


async def test_what_is_no_browser_passes() -> None:
    """Only browsers name the site; other clients need no more than before."""
    assert await ask({}) == (200, {"passed": True})


@pytest.mark.parametrize(("headers", "status"), [(LINK, 200), (IMAGE, 403), (FRAME, 403), ({}, 200)])
async def test_a_download_may_be_a_link_on_another_site(headers: dict[str, str], status: int) -> None:
    """Whoever follows it sees the log, and the page learns nothing; it can't be fetched behind the user's back."""
    assert (await ask(headers, LOG))[0] == status


@pytest.mark.parametrize("path", ["/graphiql", "/graphiql/", "/graphiql/assets/main.js"])
@pytest.mark.parametrize("headers", [{}, LINK, IMAGE])
async def test_graphiql_needs_no_token(path: str, headers: dict[str, str]) -> None:
    """The page asks for it, and holds no secret; it is told to pages of known origins and under known names alone."""
    assert await ask(headers, path, token="correct-horse-battery") == (200, {"passed": True})  # noqa: S106
    assert (await ask({**headers, "Host": "evil.example"}, path))[0] == 421
    assert (await ask({**headers, "Origin": "https://evil.example"}, path))[0] == 403


@pytest.mark.parametrize("path", ["/graphiqlx", "/graphql", "/", "/x/graphiql/", "/graphiql.js"])
async def test_nothing_beside_graphiql_is_open(path: str) -> None:
    """Only the page and what lies below it."""
    status, answer = await ask({}, path, token="correct-horse-battery")  # noqa: S106

    assert status == 401
    assert "STACKCAST_TOKENS_FILE" in answer["errors"][0]["message"]
