"""The demo: a sample manifest, deployed through the public API, with its live status on the terminal."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from graphql_api.cli.client import ApiClient, Record
from graphql_api.cli.terminal import clean

SAMPLE = """\
apiVersion: stackcast.dev/v1
kind: StackcastDemo
metadata:
  name: world
  labels:
    pulumi.project-planton.org/stack.fqdn: organization/stackcast-demo/world
spec:
  greeting: Hello
  notes:
    - Pulumi keeps each note as a resource of this stack.
    - No cloud, no account and no download is needed.
"""


async def deploy_sample(client: ApiClient, say: Callable[[str], None]) -> AsyncGenerator[Record, None]:
    """Apply and deploy the sample; the stack update each time that the subscription pushes it.

    Raises RequestRefused when the server does not take it, and ServerUnavailable when it does not answer.
    """
    resource = await client.apply(SAMPLE)
    say(f"Keeping the sample manifest {resource['kind']}/{resource['name']} as cloud resource {clean(resource['id'])}.")
    update = await client.deploy(resource["id"])
    place = f"{clean(update['stackFqdn'])} as stack update {clean(update['id'])}"
    say(f"Deploying it to {place}; what follows is pushed by the server:")
    async with aclosing(client.watch(update["id"])) as changes:
        async for change in changes:
            yield change
