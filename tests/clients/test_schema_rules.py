"""Other people's rules for schema.graphql: graphql-eslint's for its form, graphql-inspector's for its changes."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.clients.node import Node

pytestmark = pytest.mark.external

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "schema.graphql"
#: The breaking changes that were meant, one a line in graphql-inspector's words, ever since the file is there.
MEANT = "tests/clients/breaking_changes.txt"


async def test_graphql_eslint_finds_nothing(node: Node) -> None:
    """The schema follows what is recommended for schemas and for Relay; the exceptions stand in eslint.config.js."""
    shutil.copy(SCHEMA, node.directory)
    found = await node.run("lint.js")

    assert found == []


async def test_graphql_eslint_would_find(node: Node) -> None:
    """What is against the rules is told."""
    wrong = '''
type RecordType { first_name: String }

"""A page."""
type RecordConnection { edges: [RecordType] pageInfo: PageInfo }
'''
    (node.directory / "schema.graphql").write_text(SCHEMA.read_text() + wrong)
    found = await node.run("lint.js")

    assert {finding.split()[1].strip(":").removeprefix("@graphql-eslint/") for finding in found} == {
        "naming-convention",
        "no-unreachable-types",
        "relay-connection-types",
        "relay-edge-types",
        "require-description",
        "strict-id-in-types",
    }


async def test_no_client_is_broken_unasked(node: Node) -> None:
    """Since the list of breaking changes is there, no version of the schema breaks the one before, but for those."""
    versions = [*committed_schemas(ROOT), SCHEMA.read_text()]
    found = await breaking(node, versions)
    meant = [line for line in (ROOT / MEANT).read_text().splitlines() if line and not line.startswith("#")]

    assert [message for message in found if message not in meant] == []


@pytest.mark.parametrize(
    ("pattern", "replacement", "message"),
    [
        (
            r'  """24 hex digits."""\n  id: ID!\n\n(?=  """\n  Grows)',
            "",
            "Field 'id' was removed from object type 'StackUpdate'",
        ),
        (
            r"  idempotencyKey: String\n",
            "  idempotencyKey: String!\n",
            "Input field 'DeployCloudResourceInput.idempotencyKey' changed type from 'String' to 'String!'",
        ),
        (r"  CANCELLED\n", "  STOPPED\n", "Enum value 'CANCELLED' was removed from enum 'StackUpdateStatus'"),
    ],
    ids=["field", "input", "enum"],
)
async def test_a_breaking_change_is_found(node: Node, pattern: str, replacement: str, message: str) -> None:
    """A client that relies on what is gone would be told of here."""
    schema = SCHEMA.read_text()
    changed = re.sub(pattern, replacement, schema)
    found = await breaking(node, [schema, changed, changed])

    assert message in found


async def test_an_addition_breaks_nothing(node: Node) -> None:
    """A new field and a new type may come at any time."""
    schema = SCHEMA.read_text()
    changed = schema.replace("type ServerInfo {", "type ServerInfo {\n  uptime: Uptime\n") + "\nscalar Uptime\n"
    found = await breaking(node, [schema, changed])

    assert found == []


def test_every_version_since_the_list_was_begun_is_compared(tmp_path: Path) -> None:
    """Also those between the first and the last commit of a submission; a shallow clone compares what it has."""
    root, clone = tmp_path / "root", tmp_path / "clone"
    (root / MEANT).parent.mkdir(parents=True)
    git(root, "init", "--quiet")
    unborn = commit(root, "before")
    for number in range(4):
        if number == 1:
            (root / MEANT).touch()
        commit(root, f"version {number}")
    git(tmp_path, "clone", "--quiet", "--depth=1", root.as_uri(), str(clone))

    assert unborn == ["before"]
    assert committed_schemas(root) == ["version 0", "version 1", "version 2", "version 3"]
    assert committed_schemas(clone) == ["version 3"]
    assert committed_schemas(tmp_path) == []


def commit(root: Path, schema: str) -> list[str]:
    """Commit a version of the schema; what would be compared then."""
    (root / SCHEMA.name).write_text(schema)
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--no-gpg-sign", "--message", schema)
    return committed_schemas(root)


async def breaking(node: Node, versions: list[str]) -> list[str]:
    """The breaking changes from each version of the schema to the next."""
    files = []
    for number, version in enumerate(versions):
        files.append(f"schema-{number}.graphql")
        (node.directory / files[-1]).write_text(version)
    return [message for messages in await node.run("breaking.js", *files) for message in messages]


def committed_schemas(root: Path) -> list[str]:
    """The versions of the schema that git has, oldest first: from right before the list of breaking changes was begun.

    HEAD's alone while the list is not committed; in a shallow clone those that are there; none outside a repository.
    """
    if not (root / ".git").exists():
        return []
    log = ("log", "--first-parent", "--format=%H")
    added = git(root, *log, "--diff-filter=A", "--", MEANT).split()
    start = git(root, "rev-list", "--parents", "-1", added[-1]).split()[:2][-1] if added else "HEAD"
    changes = git(root, *log, "--reverse", f"{start}..HEAD", "--", SCHEMA.name).split()
    return [git(root, "show", f"{commit}:{SCHEMA.name}") for commit in [start, *changes]]


def git(root: Path, *arguments: str) -> str:
    argv = ["git", "-c", "safe.directory=*", "-c", "user.name=tests", "-c", "user.email=tests@localhost", *arguments]
    return subprocess.run(argv, cwd=root, capture_output=True, check=True).stdout.decode()
