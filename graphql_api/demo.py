"""The demo: a sample manifest, deployed through the public API, with its live status on the terminal."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

from graphql_api.client import ApiClient

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


async def deploy_sample(client: ApiClient, say: Callable[[str], None]) -> bool:
    """Apply and deploy the sample, saying what the subscription pushes; True when it succeeded.

    Raises RequestRefused when the server does not take it.
    """
    resource = await client.apply(SAMPLE)
    say(f"Keeping the sample manifest {resource['kind']}/{resource['name']} as cloud resource {resource['id']}.")
    update = await client.deploy(resource["id"])
    say(f"Deploying it to {update['stackFqdn']} as stack update {update['id']}; what follows is pushed by the server:")
    status = ""
    async with aclosing(client.watch(update["id"])) as changes:
        async for change in changes:
            status = change["status"]
            for line in _lines(change):
                say(line)
    return status == "SUCCESS"


def _lines(change: dict[str, Any]) -> list[str]:
    lines = [f"  {change['updatedAt']}  {change['status']}  {change['phase'].lower()}"]
    if change["failure"]:
        lines.append(f"    {change['failure']['kind']}: {change['failure']['message']}")
    for output in change["stackOutputs"]:
        value = "[secret]" if output["secret"] else json.dumps(output["value"], ensure_ascii=False)
        lines.append(f"    {output['name']} = {value}")
    return lines
