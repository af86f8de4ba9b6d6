"""The README promises what works: its examples run, its table is the settings."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path

import pytest
import yaml
from graphql import build_schema, parse, validate

from graphql_api.settings import Settings
from tests import fake_pulumi
from tests.service import PATIENCE, Service, receive, running_service

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The README's code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def documents() -> dict[str, str]:
    """The README's GraphQL operations by their names."""
    return {re.findall(r"\w+", text)[1]: text for text in blocks("graphql")}


def test_the_table_of_settings_is_the_settings() -> None:
    """The README's table has each variable with its default and meaning, in the order of the code."""
    rows = re.findall(r"^\| `([A-Z_]+)` \| (.*?) \| (.*?) \|$", README, re.MULTILINE)

    assert rows == [
        (field.alias, shown_default(name), field.description)
        for name, field in Settings.model_fields.items()
        if field.alias
    ]


def shown_default(name: str) -> str:
    default = Settings.model_fields[name].default
    if name == "max_concurrent":
        return "cores"
    if default in (None, "", ()):
        return ""
    seconds = getattr(default, "total_seconds", None)
    return f"{seconds():g}" if seconds else str(default)


def test_the_examples_are_valid() -> None:
    """Every GraphQL example of the README is valid under schema.graphql."""
    schema = build_schema((ROOT / "schema.graphql").read_text())

    assert len(documents()) == 7
    for text in documents().values():
        assert validate(schema, parse(text)) == []


def test_the_cache_for_apollo_is_the_tested_one() -> None:
    """What the README gives to Apollo's users is what the tests of Apollo Client use."""
    tested = (ROOT / "tests" / "clients" / "scripts" / "apollo_cache.js").read_text()

    assert tested in blocks("js")


async def test_the_examples_work_one_after_the_other(tmp_path: Path) -> None:
    """The manifest of the README is applied, deployed, watched and listed by its own documents and its script."""
    fake_pulumi.install(tmp_path / "bin")
    text = next(block for block in blocks("yaml"))
    operations = documents()
    async with running_service(tmp_path) as service:
        service.module(yaml.safe_load(text)["kind"], outputs={"message": "Hello"})
        applied = await service.execute(operations["Apply"], manifest=text)
        deployed = await service.execute(operations["Deploy"], id=applied["applyCloudResource"]["cloudResource"]["id"])
        update_id = deployed["deployCloudResource"]["stackUpdate"]["id"]
        pushed = await watched(service, operations["Watch"], update_id)
        listed = await service.execute(operations["History"])
        printed = await script_output(tmp_path, f"ws://{service.address}/graphql", update_id)

    assert pushed[-1]["stackUpdateChanged"]["stackUpdate"]["status"] == "SUCCESS"
    assert listed["stackUpdates"]["nodes"] == []
    assert printed.splitlines()[-1] == "SUCCESS"


async def watched(service: Service, document: str, update_id: str) -> list[dict[str, dict[str, dict[str, str]]]]:
    pushed = []
    async with service.websocket() as socket:
        payload = {"query": document, "variables": {"id": update_id}}
        await socket.send(json.dumps({"type": "subscribe", "id": "1", "payload": payload}))
        while (message := await receive(socket))["type"] == "next":
            pushed.append(message["payload"]["data"])
    return pushed


async def script_output(directory: Path, url: str, update_id: str) -> str:
    script = directory / "watch.py"
    script.write_text(blocks("python")[0])
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", script, url, update_id), stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(PATIENCE):
        printed = (await process.communicate())[0].decode()
    assert process.returncode == 0
    return printed


@pytest.mark.parametrize("name", re.findall(r"\]\(([^)#:]+)\)", README))
def test_links_lead_somewhere(name: str) -> None:
    """A file that the README links to is there."""
    assert (ROOT / name).exists()


def test_the_first_screen_is_the_two_commands() -> None:
    """What a newcomer types first is what is tested: the demo by uv."""
    assert blocks("shell")[0] == "pip install uv\nuv run stackcast demo\n"
    assert blocks("shell")[1] == "uv run pytest\n"
