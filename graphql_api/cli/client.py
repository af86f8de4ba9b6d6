"""A client of the public API over one websocket, as the command line uses it."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from gql import Client, GraphQLRequest
from gql.client import AsyncClientSession
from gql.transport.exceptions import TransportError, TransportQueryError
from gql.transport.websockets import WebsocketsTransport
from graphql import ExecutionResult
from websockets.exceptions import ConnectionClosed, InvalidStatus

from graphql_api.domain.errors import StackcastError, StoreUnavailable

#: A record as the API gives it: GraphQL's names, JSON's values.
Record = dict[str, Any]

#: How long to try to connect, and how long to wait for an answer: preflight alone may ask Pulumi for its version.
CONNECT_PATIENCE = timedelta(seconds=10)
ANSWER_PATIENCE = timedelta(seconds=45)
#: The largest answer that is taken, in bytes.
MESSAGE_LIMIT = 64 * 1024 * 1024
_CLOSE_PATIENCE = 2  # seconds; the process is about to end
_QUEUED = 8  # how many answers to one question may wait to be used
_PAGE = 100  # the most that the API gives at once
_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}

_REFUSAL = "... on UserError { message code }"
_STACK_UPDATE = """
  id revision status phase stackFqdn createdAt startedAt finishedAt updatedAt deadline timeoutSeconds exitCode
  requestedBy
  failure { kind message retryable }
  cloudResource { id kind name }
"""
_CANCELLATION = "requestedAt requestedBy reason stage nextStageAt lockLeft"
_PRESENT = f"""{_STACK_UPDATE}
  progress {{ total inProgress done failed interrupted }}
  queue {{ position reason blockedBy {{ id }} }}
  cancellation {{ {_CANCELLATION} }}
"""
_APPLY = f"""
mutation Apply($manifest: String!) {{
  applyCloudResource(input: {{manifest: $manifest}}) {{
    ... on ApplyCloudResourceSuccess {{ created cloudResource {{ id kind name stackFqdn createdAt updatedAt }} }}
    {_REFUSAL}
  }}
}}"""
_DEPLOY = f"""
mutation Deploy($input: DeployCloudResourceInput!) {{
  deployCloudResource(input: $input) {{
    ... on DeployCloudResourceSuccess {{ joined stackUpdate {{ {_PRESENT} }} }}
    {_REFUSAL}
  }}
}}"""
_CANCEL = f"""
mutation Cancel($input: CancelStackUpdateInput!) {{
  cancelStackUpdate(input: $input) {{
    ... on CancelStackUpdateSuccess {{ stackUpdate {{ {_PRESENT} }} }}
    {_REFUSAL}
  }}
}}"""
_EXTEND = f"""
mutation Extend($input: ExtendStackUpdateDeadlineInput!) {{
  extendStackUpdateDeadline(input: $input) {{
    ... on ExtendStackUpdateDeadlineSuccess {{ stackUpdate {{ {_PRESENT} }} }}
    {_REFUSAL}
  }}
}}"""
_WATCH = f"""
subscription Watch($id: ID!) {{
  stackUpdateChanged(id: $id) {{
    ... on StackUpdateChange {{ stackUpdate {{ {_PRESENT} stackOutputs {{ name value secret }} }} }}
    {_REFUSAL}
  }}
}}"""
_EVENTS = f"""
subscription Events($id: ID!, $after: Int!) {{
  stackUpdateEvents(id: $id, after: $after) {{
    ... on StackUpdateEventBatch {{
      events {{
        __typename
        seq
        at
        ... on StatusChanged {{ status phase }}
        ... on LogLine {{ stream text truncated }}
        ... on ResourceChanged {{ resource {{ id urn name type operation state startedAt endedAt }} }}
        ... on DiagnosticReported {{ severity message urn }}
        ... on CancellationChanged {{ cancellation {{ {_CANCELLATION} }} }}
        ... on DeadlineApproaching {{ deadline }}
        ... on DeadlineChanged {{ deadline }}
        ... on LogOmissionStarted {{ limit }}
        ... on LogOmitted {{ lines bytes }}
        ... on OwnerChanged {{ epoch }}
      }}
      seq
      caughtUp
      finished
    }}
    ... on EventsExpired {{ firstAvailableSeq }}
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


class EventsExpired(RequestRefused):
    """Events are kept no longer; ``first_available_seq`` is the first that is, None when none of the log is."""

    code = "EVENTS_EXPIRED"

    def __init__(self, message: str, first_available_seq: int | None) -> None:
        super().__init__(message)
        self.first_available_seq = first_available_seq


class ServerUnavailable(StackcastError):
    """The server can't be reached, or can't answer now; the same call may work later."""

    code = "SERVER_UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class Batch:
    """Events of a log that follow each other without a gap, as the API gives them.

    ``seq`` is where to go on, ``caught_up`` is False while more are there already, and ``finished`` is True in the last
    batch of all.
    """

    events: Sequence[Record]
    seq: int
    caught_up: bool
    finished: bool


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

    async def deploy(
        self,
        cloud_resource_id: str,
        timeout: timedelta | None = None,
        when_busy: str = "QUEUE",
        idempotency_key: str | None = None,
    ) -> Record:
        """Ask for a deployment; its stack update, with ``joined``: whether that was there before.

        Without ``timeout`` the server's own limit applies. ``when_busy`` is one of the API's WhenBusy.
        """
        wanted = {
            "cloudResourceId": cloud_resource_id,
            "timeoutSeconds": None if timeout is None else int(timeout.total_seconds()),
            "whenBusy": when_busy,
            "idempotencyKey": idempotency_key,
        }
        answer = await self._execute(_DEPLOY, "deployCloudResource", input=wanted)
        return {**answer["stackUpdate"], "joined": answer["joined"]}

    async def cancel(self, stack_update_id: str, *, force: bool = False) -> Record:
        """Ask for the end of a stack update, or for the next step of an end that has begun; the stack update."""
        wanted = {"id": stack_update_id, "force": force}
        answer = await self._execute(_CANCEL, "cancelStackUpdate", input=wanted)
        update: Record = answer["stackUpdate"]
        return update

    async def extend(self, stack_update_id: str, timeout: timedelta) -> Record:
        """Ask that a stack update may run for so long from its start; the stack update."""
        wanted = {"id": stack_update_id, "timeoutSeconds": int(timeout.total_seconds())}
        answer = await self._execute(_EXTEND, "extendStackUpdateDeadline", input=wanted)
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
        async with aclosing(self._subscribe(_WATCH, "stackUpdateChanged", id=stack_update_id)) as pushes:
            async for push in pushes:
                yield push["stackUpdate"]

    async def events(self, stack_update_id: str, after: int) -> AsyncGenerator[Batch, None]:
        """The log after the event with this seq, in batches; ends with the log. May raise EventsExpired as well."""
        async with aclosing(self._subscribe(_EVENTS, "stackUpdateEvents", id=stack_update_id, after=after)) as pushes:
            async for push in pushes:
                yield Batch(push["events"], push["seq"], push["caughtUp"], push["finished"])

    async def _subscribe(self, document: str, field: str, **variables: Any) -> AsyncGenerator[Record, None]:
        request = GraphQLRequest(document, variable_values=variables)
        try:
            async with aclosing(self._session.subscribe(request)) as pushes:
                async for data in pushes:
                    yield _accepted(data[field])
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
    transport = _Transport(
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


class _Transport(WebsocketsTransport):
    """Reads no faster than what was read is used: gql keeps all that a server sends, however much that is."""

    async def _handle_answer(
        self, answer_type: str, answer_id: int | None, execution_result: ExecutionResult | None
    ) -> None:
        await super()._handle_answer(answer_type, answer_id, execution_result)
        while self._waiting(answer_id) > _QUEUED:  # noqa: ASYNC110 - gql's queue sets no event
            await asyncio.sleep(0.001)

    def _waiting(self, answer_id: int | None) -> int:
        listener = self.listeners.get(answer_id) if answer_id else None
        return listener._queue.qsize() if listener else 0  # noqa: SLF001


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
    if "message" not in answer:
        return answer
    if answer["code"] == EventsExpired.code:
        raise EventsExpired(answer["message"], answer["firstAvailableSeq"])
    raise RequestRefused(answer["message"])


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
