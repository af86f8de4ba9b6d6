"""Whatever the server does not answer it refuses as a GraphQL error: a sentence with a code."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message

from graphql_api.transport.refusals import EXCEPTION_HANDLERS
from tests import fake_pulumi
from tests.service import Answer, Service, running_service

UNKNOWN = "0" * 24
PORTAL = "https://portal.example"
TOKEN = "correct-horse-battery"  # noqa: S105 (a test's token)


@pytest.fixture
async def open_to_portal(tmp_path: Path) -> AsyncIterator[Service]:
    """A service with a token, and a page that may ask."""
    fake_pulumi.install(tmp_path / "bin")
    async with running_service(tmp_path, STACKCAST_ALLOWED_ORIGINS=PORTAL, STACKCAST_TOKEN=TOKEN) as running:
        yield running


def code(answer: Answer) -> Any:
    """The code of the one error, whose message is a sentence."""
    assert answer.headers["content-type"].startswith("application/json")
    [error] = answer.errors
    assert error["message"].endswith(".")
    return error["code"]


@pytest.mark.parametrize("path", ["/", "/graphql/x", "/GraphQL", "/stack-updates", f"/stack-updates/{UNKNOWN}/log.xml"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
async def test_an_address_with_nothing_is_told(service: Service, path: str, method: str) -> None:
    """404, whatever is sent there, and where GraphQL is."""
    answer = await service.request(method, path)

    assert (answer.status, code(answer)) == (404, "NOT_FOUND")
    assert "/graphql" in answer.errors[0]["message"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY"])
@pytest.mark.parametrize(
    "path", ["/healthz", "/readyz", f"/stack-updates/{UNKNOWN}/log.txt", f"/stack-updates/{UNKNOWN}/log.ndjson"]
)
async def test_what_can_only_be_read_says_so(service: Service, path: str, method: str) -> None:
    """405 with the methods that can be used."""
    answer = await service.request(method, path)

    assert (answer.status, code(answer), answer.headers["allow"]) == (405, "METHOD_NOT_ALLOWED", "GET, HEAD")
    assert method in answer.errors[0]["message"]


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY"])
async def test_graphql_is_sent_by_get_and_post(service: Service, method: str) -> None:
    """405 for all else, also for OPTIONS where no other origin may ask."""
    answer = await service.request(method, "/graphql")

    assert (answer.status, code(answer), answer.headers["allow"]) == (405, "METHOD_NOT_ALLOWED", "GET, POST")


async def test_the_head_of_an_answer_is_not_given(service: Service) -> None:
    """It would have to carry the operation out for nothing."""
    answer = await service.request("HEAD", "/graphql?query=%7B__typename%7D")

    assert (answer.status, answer.headers["allow"], answer.body) == (405, "GET, POST", b"")


async def test_what_goes_wrong_unexpectedly_is_masked() -> None:
    """500 and a code; what it was goes to whoever runs the server."""

    async def fail(_: Request) -> Response:
        raise LookupError("a secret")

    app = Starlette(routes=[Route("/", fail)], exception_handlers=EXCEPTION_HANDLERS)
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    with pytest.raises(LookupError):
        await app({"type": "http", "method": "GET", "path": "/", "headers": []}, receive, send)

    answer = Answer(sent[0]["status"], {"content-type": "application/json"}, sent[1]["body"])
    assert (answer.status, code(answer)) == (500, "INTERNAL_SERVER_ERROR")
    assert b"a secret" not in answer.body


# --- pages of other origins


def preflight(method: str, headers: str, origin: str = PORTAL) -> dict[str, str]:
    asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
    return {"Origin": origin, **asked}


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_known_page_may_send_what_apollo_sends(open_to_portal: Service, method: str) -> None:
    """Every header that Apollo Client sets is allowed; nothing but the answer can be read, and no cookie is sent."""
    headers = "accept,apollo-require-preflight,authorization,content-type,x-apollo-operation-name"
    answer = await open_to_portal.request("OPTIONS", "/graphql", headers=preflight(method, headers))

    allowed = {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}
    listed = {name.strip().lower() for name in allowed.pop("access-control-allow-headers").split(",")}
    assert answer.status == 200
    assert set(headers.split(",")) <= listed
    assert allowed == {
        "access-control-allow-origin": PORTAL,
        "access-control-allow-methods": "GET, POST",
        "access-control-max-age": "600",
    }


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        (preflight("POST", "authorization", "https://evil.example"), "origin"),
        (preflight("DELETE", "authorization"), "method"),
        (preflight("POST", "x-anything"), "headers"),
        (preflight("PUT", "x-anything", "null"), "origin and method and headers"),
    ],
)
async def test_a_preflight_that_fails_says_why(open_to_portal: Service, asked: dict[str, str], what: str) -> None:
    """A developer who looks finds the setting; a page on an unknown origin reads nothing of it."""
    answer = await open_to_portal.request("OPTIONS", "/graphql", headers=asked)

    assert (answer.status, code(answer)) == (400, "CORS_REFUSED")
    assert f"because of its {what}. STACKCAST_ALLOWED_ORIGINS" in answer.errors[0]["message"]
    assert answer.headers.get("access-control-allow-origin") == (PORTAL if asked["Origin"] == PORTAL else None)


async def test_a_known_page_reads_its_refusals(open_to_portal: Service) -> None:
    """Also the guard's: without the token the page learns that it needs one."""
    origin = {"Origin": PORTAL}
    refused = await open_to_portal.post({"query": "{ __typename }"}, origin)
    read = await open_to_portal.request(
        "GET",
        "/graphql?query=%7B__typename%7D",
        headers={**origin, "Sec-Fetch-Site": "cross-site", "Authorization": f"Bearer {TOKEN}"},
    )

    assert (refused.status, code(refused), refused.headers["access-control-allow-origin"]) == (
        401,
        "UNAUTHENTICATED",
        PORTAL,
    )
    assert (read.status, read.headers["access-control-allow-origin"]) == (200, PORTAL)


async def test_an_image_on_another_site_asks_nothing(service: Service) -> None:
    """Its address can't be a query to the service on the visitor's machine."""
    image = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
    path = "/graphql?query=%7B__typename%7D"
    refused = await service.request("GET", path, headers=image)
    answered = await service.request("GET", path)

    assert (refused.status, code(refused)) == (403, "CSRF")
    assert (answered.status, answered.json["data"]) == (200, {"__typename": "Query"})
