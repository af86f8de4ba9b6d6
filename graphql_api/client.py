"""A client of the public API over one websocket, as the command line uses it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from gql import Client, GraphQLRequest
from gql.client import AsyncClientSession
from gql.transport.exceptions import TransportError, TransportQueryError
from gql.transport.websockets import WebsocketsTransport

from graphql_api.domain.errors import StackcastError

_REFUSAL = "... on UserError { message code }"
_APPLY = f"""
mutation Apply($manifest: String!) {{
  applyCloudResource(input: {{manifest: $manifest}}) {{
    ... on ApplyCloudResourceSuccess {{ created cloudResource {{ id kind name }} }}
    {_REFUSAL}
  }}
}}"""
_DEPLOY = f"""
mutation Deploy($id: ID!) {{
  deployCloudResource(input: {{cloudResourceId: $id}}) {{
    ... on DeployCloudResourceSuccess {{ stackUpdate {{ id stackFqdn }} }}
    {_REFUSAL}
  }}
}}"""
_WATCH = f"""
subscription Watch($id: ID!) {{
  stackUpdateChanged(id: $id) {{
    ... on StackUpdateChange {{
      stackUpdate {{
        id status phase stackFqdn updatedAt exitCode
        failure {{ kind message }}
        stackOutputs {{ name value secret }}
      }}
    }}
    {_REFUSAL}
  }}
}}"""


class RequestRefused(StackcastError):
    """The API did not do what was asked; the message is its own."""

    code = "REQUEST_REFUSED"


class ApiClient:
    """What the command line asks of a server. Every method raises RequestRefused when the server does not do it."""

    def __init__(self, session: AsyncClientSession) -> None:
        self._session = session

    async def apply(self, manifest: str) -> dict[str, Any]:
        """Keep the manifest; its cloud resource: id, kind and name."""
        answer = await self._execute(_APPLY, "applyCloudResource", manifest=manifest)
        resource: dict[str, Any] = answer["cloudResource"]
        return resource

    async def deploy(self, cloud_resource_id: str) -> dict[str, Any]:
        """Queue a deployment; its stack update: id and stackFqdn."""
        answer = await self._execute(_DEPLOY, "deployCloudResource", id=cloud_resource_id)
        update: dict[str, Any] = answer["stackUpdate"]
        return update

    async def watch(self, stack_update_id: str) -> AsyncGenerator[dict[str, Any], None]:
        """The stack update each time that the server pushes it; ends when it has ended."""
        request = GraphQLRequest(_WATCH, variable_values={"id": stack_update_id})
        try:
            async for data in self._session.subscribe(request):
                yield _accepted(data["stackUpdateChanged"])["stackUpdate"]
        except TransportError as error:
            raise RequestRefused(_sentence(error)) from error

    async def _execute(self, document: str, field: str, **variables: str) -> dict[str, Any]:
        try:
            data = await self._session.execute(GraphQLRequest(document, variable_values=variables))
        except TransportError as error:
            raise RequestRefused(_sentence(error)) from error
        return _accepted(data[field])


@asynccontextmanager
async def connect(url: str, token: str | None) -> AsyncIterator[ApiClient]:
    """A client of the server whose websocket is at ``url``. Raises RequestRefused when it does not let us in."""
    transport = WebsocketsTransport(
        url=url,
        init_payload={"authorization": f"Bearer {token}"} if token else {},
        subprotocols=[WebsocketsTransport.GRAPHQLWS_SUBPROTOCOL],
        connect_args={"proxy": None},
    )
    try:
        async with Client(transport=transport) as session:
            yield ApiClient(session)
    except (OSError, TransportError) as error:
        raise RequestRefused(f"Connecting to {url}: {_sentence(error)}") from error


def _accepted(answer: dict[str, Any]) -> dict[str, Any]:
    if "message" in answer:
        raise RequestRefused(answer["message"])
    return answer


def _sentence(error: Exception) -> str:
    if isinstance(error, TransportQueryError) and error.errors:
        return str(error.errors[0]["message"])
    return str(error) or type(error).__name__
