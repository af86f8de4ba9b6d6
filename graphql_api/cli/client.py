"""A client of the public API over one websocket, as the command line uses it."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from gql import Client, GraphQLRequest
from gql.client import AsyncClientSession
from gql.transport.exceptions import TransportError, TransportQueryError
from gql.transport.websockets import WebsocketsTransport
from websockets.exceptions import ConnectionClosed, InvalidStatus

from graphql_api.domain.errors import StackcastError, StoreUnavailable

#: A record as the API gives it: GraphQL's names, JSON's values.
Record = dict[str, Any]

#: How long to try to connect, and how long to wait for an answer: preflight alone may ask Pulumi for its version.
CONNECT_PATIENCE = timedelta(seconds=10)
ANSWER_PATIENCE = timedelta(seconds=45)
#: How long a connection that was lost is tried again, with pauses that double up to the longest.
RECONNECT_PATIENCE = timedelta(seconds=60)
FIRST_PAUSE = timedelta(seconds=0.25)
LONGEST_PAUSE = timedelta(seconds=5)
#: The largest answer that is taken, in bytes.
MESSAGE_LIMIT = 64 * 1024 * 1024
_CLOSE_PATIENCE = 2  # seconds; the process is about to end
_PAGE = 100  # the most that the API gives at once
_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}

_REFUSAL = "... on UserError { message code }"
_STACK_UPDATE = """
  id revision status phase stackFqdn createdAt startedAt finishedAt updatedAt deadline timeoutSeconds exitCode
  failure { kind message retryable }
  cloudResource { id kind name }
"""
_APPLY = f"""
mutation Apply($manifest: String!) {{
  applyCloudResource(input: {{manifest: $manifest}}) {{
    ... on ApplyCloudResourceSuccess {{ created cloudResource {{ id kind name stackFqdn createdAt updatedAt }} }}
    {_REFUSAL}
  }}
}}"""
_DEPLOY = f"""
mutation Deploy($id: ID!, $timeout: Int) {{
  deployCloudResource(input: {{cloudResourceId: $id, timeoutSeconds: $timeout}}) {{
    ... on DeployCloudResourceSuccess {{ stackUpdate {{ {_STACK_UPDATE} }} }}
    {_REFUSAL}
  }}
}}"""
_WATCH = f"""
subscription Watch($id: ID!) {{
  stackUpdateChanged(id: $id) {{
    ... on StackUpdateChange {{ stackUpdate {{ {_STACK_UPDATE} stackOutputs {{ name value secret }} }} }}
    {_REFUSAL}
  }}
}}"""
_STACK_UPDATES = f"""
query StackUpdates($first: Int!, $after: String, $filter: StackUpdateFilter) {{
  stackUpdates(first: $first, after: $after, filter: $filter) {{
    nodes {{ {_STACK_UPDATE} }}
    pageInfo {{ hasNextPage endCursor }}
  }}
}}"""
_CLOUD_RESOURCES = """
query CloudResources($first: Int!, $after: String) {
  cloudResources(first: $first, after: $after) {
    nodes { id kind name stackFqdn createdAt updatedAt }
    pageInfo { hasNextPage endCursor }
  }
}"""


class RequestRefused(StackcastError):
    """The API did not do what was asked; the message is its own."""

    code = "REQUEST_REFUSED"


class ServerUnavailable(StackcastError):
    """The server can't be reached, or can't answer now; the same call may work later."""

    code = "SERVER_UNAVAILABLE"


class ApiClient:
    """What the command line asks of a server.

    Every method raises RequestRefused when the server does not do it, and ServerUnavailable when it gives no answer.
    """

    def __init__(self, session: AsyncClientSession, address: str) -> None:
        self._session = session
        self._address = address

    async def apply(self, manifest: str) -> Record:
        """Keep the manifest; its cloud resource, with ``created``: whether it is new."""
        answer = await self._execute(_APPLY, "applyCloudResource", manifest=manifest)
        return {**answer["cloudResource"], "created": answer["created"]}

    async def deploy(self, cloud_resource_id: str, timeout: timedelta | None = None) -> Record:
        """Queue a deployment; its stack update. Without ``timeout`` the server's own limit applies."""
        seconds = None if timeout is None else int(timeout.total_seconds())
        answer = await self._execute(_DEPLOY, "deployCloudResource", id=cloud_resource_id, timeout=seconds)
        update: Record = answer["stackUpdate"]
        return update

    async def stack_updates(self, limit: int, statuses: Sequence[str] | None = None) -> list[Record]:
        """The newest stack updates, at most ``limit``; only those in one of ``statuses`` where that is given."""
        where = None if statuses is None else {"statuses": list(statuses)}
        return await self._pages(_STACK_UPDATES, "stackUpdates", limit, filter=where)

    async def cloud_resources(self, limit: int) -> list[Record]:
        """The newest cloud resources, at most ``limit``."""
        return await self._pages(_CLOUD_RESOURCES, "cloudResources", limit)

    async def watch(self, stack_update_id: str) -> AsyncGenerator[Record, None]:
        """The stack update each time that the server pushes it; ends when it has ended."""
        request = GraphQLRequest(_WATCH, variable_values={"id": stack_update_id})
        try:
            async with aclosing(self._session.subscribe(request)) as pushes:
                async for data in pushes:
                    yield _accepted(data["stackUpdateChanged"])["stackUpdate"]
        except TransportError as error:
            raise _translated(error, self._address) from error

    async def _pages(self, document: str, field: str, limit: int, **variables: Any) -> list[Record]:
        nodes: list[Record] = []
        after = None
        while len(nodes) < limit:
            first = min(_PAGE, limit - len(nodes))
            page = await self._execute(document, field, first=first, after=after, **variables)
            nodes += page["nodes"]
            if not page["pageInfo"]["hasNextPage"]:
                break
            after = page["pageInfo"]["endCursor"]
        return nodes

    async def _execute(self, document: str, field: str, **variables: Any) -> Record:
        try:
            data = await self._session.execute(GraphQLRequest(document, variable_values=variables))
        except (TimeoutError, TransportError) as error:
            raise _translated(error, self._address) from error
        return _accepted(data[field])


@asynccontextmanager
async def connect(address: str, token: str | None, limit: timedelta = CONNECT_PATIENCE) -> AsyncIterator[ApiClient]:
    """A client of the server at ``address``, as in ``websocket_url``.

    Raises RequestRefused when it does not let us in, and ServerUnavailable when nothing answers within ``limit``.
    """
    transport = WebsocketsTransport(
        url=websocket_url(address),
        init_payload={"authorization": f"Bearer {token}"} if token else {},
        subprotocols=[WebsocketsTransport.GRAPHQLWS_SUBPROTOCOL],
        connect_timeout=limit.total_seconds(),
        ack_timeout=limit.total_seconds(),
        close_timeout=_CLOSE_PATIENCE,
        connect_args={"proxy": None, "max_size": MESSAGE_LIMIT, "close_timeout": _CLOSE_PATIENCE},
    )
    client = Client(transport=transport, execute_timeout=ANSWER_PATIENCE.total_seconds())
    async with AsyncExitStack() as stack:
        try:
            session = await stack.enter_async_context(client)
        except (TimeoutError, TransportError) as error:
            raise _not_connected(error, address) from error
        yield ApiClient(session, address)


async def follow(
    address: str,
    token: str | None,
    stack_update_id: str,
    notice: Callable[[str], None],
    *,
    known: bool = False,
    patience: timedelta = RECONNECT_PATIENCE,
) -> AsyncGenerator[Record, None]:
    """Every push of the stack update until it has ended, over as many connections as that takes.

    A connection that is lost is made again within ``patience``, and ``notice`` gets a sentence on it; the first push
    afterwards is the state as it is then. ``known`` says that the server has had the stack update, so that even the
    first connection is tried again. Raises as ApiClient.watch.
    """
    clock = asyncio.get_running_loop().time
    outage = _Outage(clock, patience)
    while True:
        try:
            limit = min(CONNECT_PATIENCE, outage.left())
            async with connect(address, token, limit) as client, aclosing(client.watch(stack_update_id)) as changes:
                async for change in changes:
                    if outage.over():
                        notice(f"Connected to {address} again.")
                    known = True
                    yield change
                    if change["status"] != "IN_PROGRESS":
                        return
            raise ServerUnavailable(f"The server at {address} ended the subscription early.")
        except ServerUnavailable as error:
            if not known:
                raise
            if outage.begins():
                notice(f"{error.message} Trying again for {patience.total_seconds():g} s.")
            elif outage.left() <= timedelta(0):
                raise ServerUnavailable(
                    f"{error.message} It did not come back within {patience.total_seconds():g} s. Watch the deployment "
                    "again once the server runs."
                ) from error
            await asyncio.sleep(outage.pause().total_seconds())


class _Outage:
    """The time since the connection was lost, if it is."""

    def __init__(self, clock: Callable[[], float], patience: timedelta) -> None:
        self._clock = clock
        self._patience = patience
        self._since: float | None = None
        self._next_pause = FIRST_PAUSE

    def begins(self) -> bool:
        """Say that the connection is lost; True when it was not before."""
        if self._since is not None:
            return False
        self._since, self._next_pause = self._clock(), FIRST_PAUSE
        return True

    def over(self) -> bool:
        """Say that there is a connection; True when it was lost before."""
        was_lost, self._since = self._since is not None, None
        return was_lost

    def left(self) -> timedelta:
        """How long it may still take."""
        spent = 0.0 if self._since is None else self._clock() - self._since
        return max(self._patience - timedelta(seconds=spent), timedelta(0))

    def pause(self) -> timedelta:
        """How long to wait before the next attempt."""
        pause, self._next_pause = self._next_pause, min(self._next_pause * 2, LONGEST_PAUSE)
        return min(pause, self.left())


def websocket_url(address: str) -> str:
    """The URL of the API's websocket at an address: ``http(s)://HOST:PORT``, with a path before ``/graphql`` or none.

    ``ws`` and ``wss`` are taken too. Raises RequestRefused for anything else.
    """
    try:
        parts = urlsplit(address)
        usable = parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise RequestRefused(f"{address!r} is no address of a server. Write it as http://HOST:PORT or https://HOST.")
    if "@" in parts.netloc:
        raise RequestRefused("The server's address holds a user or a password. Put the token in STACKCAST_TOKEN.")
    path = parts.path.rstrip("/")
    return f"{_SCHEMES[parts.scheme]}://{parts.netloc}{path.removesuffix('/graphql')}/graphql"


def _accepted(answer: Record) -> Record:
    if "message" in answer:
        raise RequestRefused(answer["message"])
    return answer


def _translated(error: Exception, address: str) -> StackcastError:
    """What an error in mid-connection is to whoever asked."""
    if not isinstance(error, TransportQueryError):
        return ServerUnavailable(f"The connection to {address} was lost ({_reason(error)}).")
    first: Record = error.errors[0] if error.errors else {"message": str(error)}
    if (first.get("extensions") or {}).get("code") == StoreUnavailable.code:
        return ServerUnavailable(first["message"])
    return RequestRefused(first["message"])


def _not_connected(error: Exception, address: str) -> StackcastError:
    cause = error.__cause__ or error
    if isinstance(cause, ConnectionClosed) and cause.rcvd and cause.rcvd.code in (4401, 4403):
        return RequestRefused(
            f"The server at {address} does not take the token. Set STACKCAST_TOKEN to the value that the server has."
        )
    if isinstance(cause, InvalidStatus) and cause.response.status_code < 500:
        return RequestRefused(
            f"The server at {address} answered HTTP {cause.response.status_code}. Correct the address; if it is right, "
            "the server has to know its host name: add it to STACKCAST_ALLOWED_HOSTS there."
        )
    return ServerUnavailable(
        f"No stackcast answers at {address} ({_reason(error)}). Start one with `stackcast serve`, or name another "
        "address with --server or STACKCAST_SERVER."
    )


def _reason(error: Exception) -> str:
    """In a few words, from the innermost error that says something."""
    cause = error.__cause__ or error
    if isinstance(cause, InvalidStatus):
        return f"HTTP {cause.response.status_code}"
    if isinstance(cause, ConnectionClosed):
        return f"closed with code {cause.rcvd.code}" if cause.rcvd else "closed"
    if isinstance(cause, TimeoutError):
        return "no answer in time"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {cause.verify_message}"
    if isinstance(cause, OSError) and cause.errno:
        return os.strerror(cause.errno) if cause.errno > 0 else str(cause.strerror)
    return str(cause) or type(cause).__name__
