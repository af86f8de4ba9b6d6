"""The doctor: every check of the set-up, and whether a server answers."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import AsyncGenerator
from datetime import timedelta
from urllib.parse import urlsplit

from graphql_api.app import diagnose
from graphql_api.cli.client import RequestRefused, ServerUnavailable, connect, websocket_url
from graphql_api.domain.diagnosis import Check
from graphql_api.settings import Settings

ANSWER_PATIENCE = timedelta(seconds=10)
_SUBJECT = "server"
_BODY_LIMIT = 64 * 1024


async def checkup(settings: Settings, address: str, token: str | None) -> AsyncGenerator[Check, None]:
    """One check after the other: what a service needs here, then the server at the address."""
    async for check in diagnose(settings):
        yield check
    yield await check_server(address, token)


async def check_server(address: str, token: str | None) -> Check:
    """Whether the server is ready and takes the token."""
    try:
        url = websocket_url(address)
        wrong = await asyncio.to_thread(_not_ready, url)
        if wrong is None:
            async with connect(address, token, ANSWER_PATIENCE):
                return Check(_SUBJECT, True, f"A stackcast answers at {address} and is ready.")
    except (RequestRefused, ServerUnavailable) as refusal:
        return Check(_SUBJECT, False, refusal.message)
    except OSError:
        return Check(
            _SUBJECT,
            False,
            f"No stackcast answers at {address}: start one with `stackcast serve`, or name another address with "
            "--server or STACKCAST_SERVER.",
        )
    except (http.client.HTTPException, ValueError):
        wrong = "what answers is no stackcast: correct --server or STACKCAST_SERVER."
    return Check(_SUBJECT, False, f"At {address} {wrong}")


def _not_ready(websocket: str) -> str | None:
    """What is wrong, from /readyz; None when nothing is. Raises OSError, HTTPException or ValueError without answer."""
    parts = urlsplit(websocket)
    kind = http.client.HTTPSConnection if parts.scheme == "wss" else http.client.HTTPConnection
    connection = kind(parts.netloc, timeout=ANSWER_PATIENCE.total_seconds())
    try:
        connection.request("GET", f"{parts.path.removesuffix('/graphql')}/readyz")
        answer = connection.getresponse()
        body = json.loads(answer.read(_BODY_LIMIT))
    finally:
        connection.close()
    if not isinstance(body, dict) or "status" not in body:
        raise ValueError
    if answer.status == 200 and body["status"] == "ok":
        return None
    said = [str(text) for name, text in body.items() if name != "status" and text != "ok"]
    return f"the service is not ready: {' '.join(said) or 'its log says why.'}"
