"""Bad input: refused with a code and a sentence, with nothing stored, nothing changed and no process started."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.service import APPLY, DEPLOY, Service, manifest, running_service

COUNTS = "{ cloudResources { totalCount } stackUpdates { totalCount } }"


async def counts(service: Service) -> tuple[int, int]:
    data = await service.execute(COUNTS)
    return data["cloudResources"]["totalCount"], data["stackUpdates"]["totalCount"]


def anchors_bomb() -> str:
    levels = [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 10)]
    return "\n".join(["kind: A", "metadata: {name: a}", "a0: &a0 [x, x, x, x, x, x, x, x, x, x]", *levels])


BAD_MANIFESTS = {
    "empty": ("", "empty"),
    "blank": ("\n\n", "empty"),
    "comment only": ("# nothing", "empty"),
    "not a mapping": ("- a\n- b", "a list"),
    "a text": ("hello", "the text 'hello'"),
    "two documents": ("kind: A\nmetadata: {name: a}\n---\nkind: B", "second one"),
    "duplicate key": ("kind: A\nkind: B\nmetadata: {name: a}", "stands twice"),
    "nested duplicate key": ("kind: A\nmetadata: {name: a}\nspec:\n  x: 1\n  x: 2", "stands twice"),
    "anchors bomb": (anchors_bomb(), "Use fewer"),
    "an alias in its own anchor": ("kind: &k [*k]\nmetadata: {name: a}", "inside its own anchor"),
    "nested too deep": ("kind: A\nmetadata: {name: a}\nspec: " + "[" * 100 + "]" * 100, "nest deeper"),
    "nested far too deep": ("kind: A\nmetadata: {name: a}\nspec: " + "[" * 9000 + "]" * 9000, "nesting depth"),
    "too long": (f"kind: A\nmetadata: {{name: a}}\nspec: {'x' * 256 * 1024}", "at most 262144"),
    "no kind": ("metadata: {name: a}", "needs 'kind'"),
    "empty kind": ("kind: ''\nmetadata: {name: a}", "'kind' must be a text"),
    "no metadata": ("kind: A", "needs 'metadata'"),
    "no name": ("kind: A\nmetadata: {labels: {}}", "needs 'metadata.name'"),
    "a number as name": ("kind: A\nmetadata: {name: 7}", "'metadata.name' must be a text"),
    "NUL": ("kind: A\nmetadata: {name: a}\nspec: '\u0000'", "a control character"),
    "NUL, escaped": ('kind: A\nmetadata: {name: "a\\0b"}', "printable"),
    "half a surrogate pair": ("kind: A\nmetadata: {name: a\ud800}", "surrogate"),
    "broken YAML": ("kind: [A\nmetadata: {name: a}", "not YAML"),
    "a tag of a language": ("kind: A\nmetadata: {name: a}\nspec: !!python/object:os.system x", "tag"),
}


@pytest.mark.parametrize(("text", "words"), BAD_MANIFESTS.values(), ids=BAD_MANIFESTS.keys())
async def test_a_bad_manifest_is_not_kept(service: Service, text: str, words: str) -> None:
    """applyCloudResource answers InvalidManifest with a sentence, and nothing is kept."""
    answer = (await service.execute(APPLY, manifest=text))["applyCloudResource"]

    assert (answer["__typename"], answer["code"], answer["path"]) == (
        "InvalidManifest",
        "INVALID_MANIFEST",
        ["manifest"],
    )
    assert words in answer["message"]
    assert [problem["message"] for problem in answer["problems"]] != []
    assert (await counts(service), service.starts()) == ((0, 0), [])


@pytest.mark.parametrize(
    "body", [b'{"query": "\xff"}', b"\xff\xfe", b'{"query": "{ __typename }"', b"", b"[" * 100_000]
)
async def test_a_body_that_is_not_json_in_utf8_is_refused(service: Service, body: bytes) -> None:
    """Bytes that are no UTF-8 or no JSON are answered 400 with a sentence."""
    answer = await service.post(body)

    assert (answer.status, answer.errors[0]["code"]) == (400, "BAD_REQUEST")
    assert "JSON" in answer.errors[0]["message"]


@pytest.mark.parametrize("body", ["1", "null", '"x"', "[]", "[1]", "{}", '{"query": null}', '{"query": ""}'])
async def test_a_body_without_a_query_is_refused(service: Service, body: str) -> None:
    """JSON that is no GraphQL request is answered 400 with a sentence and a code."""
    answer = await service.post(body.encode())

    assert (answer.status, answer.errors[0]["code"]) == (400, "BAD_REQUEST")


BAD_STACKS = {
    "traversal": "organization/../dev",
    "leading hyphen": "organization/-project/dev",
    "leading hyphen in the stack": "organization/project/--yes",
    "a space": "organization/my project/dev",
    "a space at the end": "'organization/project/dev '",
    "two parts": "project/dev",
    "four parts": "organization/project/dev/x",
    "an empty part": "organization//dev",
    "101 characters": f"organization/project/{'x' * 101}",
    "another organization": "acme/project/dev",
    "a newline": '"organization/project/dev\\nx"',
    "NUL": '"organization/project/dev\\0"',
}


@pytest.mark.parametrize("stack", BAD_STACKS.values(), ids=BAD_STACKS.keys())
async def test_a_stack_that_pulumi_would_not_take_is_refused(service: Service, stack: str) -> None:
    """deployCloudResource answers InvalidManifest with the label lines to write; no update is made."""
    service.module("Thing")
    id_ = await service.apply(manifest(stack=stack))

    answer = (await service.execute(DEPLOY, id=id_))["deployCloudResource"]

    assert (answer["__typename"], answer["code"]) == ("InvalidManifest", "INVALID_MANIFEST")
    assert 'pulumi.project-planton.org/stack.fqdn: "organization/' in answer["message"]
    assert (await counts(service), service.starts()) == ((1, 0), [])


def no_module(_: Service) -> None:
    pass


def broken_project(service: Service) -> None:
    (service.module("Thing") / "Pulumi.yaml").write_text("name: [")


def project_without_runtime(service: Service) -> None:
    (service.module("Thing") / "Pulumi.yaml").write_text("name: x\n")


def link_to_passwd(service: Service) -> None:
    (service.module("Thing") / "users").symlink_to("/etc/passwd")


def link_upwards(service: Service) -> None:
    (service.module("Thing") / "up").symlink_to("../../../..")


def project_is_a_link(service: Service) -> None:
    module = service.module("Thing")
    (module / "Pulumi.yaml").unlink()
    outside = service.root / "outside.yaml"
    outside.write_text("name: x\nruntime: yaml\n")
    (module / "Pulumi.yaml").symlink_to(outside)


def pipe(service: Service) -> None:
    os.mkfifo(service.module("Thing") / "pipe")


BAD_MODULES: dict[str, tuple[Callable[[Service], None], str, str]] = {
    "none for the kind": (no_module, "MODULE_NOT_FOUND", "'Thing'"),
    "broken Pulumi.yaml": (broken_project, "MODULE_INVALID", "can't be read as YAML"),
    "no runtime": (project_without_runtime, "MODULE_INVALID", "'runtime'"),
    "a link to /etc/passwd": (link_to_passwd, "MODULE_INVALID", "leaves the module"),
    "a link upwards": (link_upwards, "MODULE_INVALID", "leaves the module"),
    "Pulumi.yaml is a link": (project_is_a_link, "MODULE_INVALID", "leaves the module"),
    "a pipe": (pipe, "MODULE_INVALID", "neither file nor folder"),
}


@pytest.mark.parametrize(("make", "code", "words"), BAD_MODULES.values(), ids=BAD_MODULES.keys())
async def test_a_module_that_can_not_be_used_is_refused(
    service: Service, make: Callable[[Service], None], code: str, words: str
) -> None:
    """deployCloudResource says what is wrong with the module; no update is made and no process is started."""
    make(service)
    id_ = await service.apply(manifest())

    answer = (await service.execute(DEPLOY, id=id_))["deployCloudResource"]

    assert answer["code"] == code
    assert words in answer["message"]
    assert (await counts(service), service.starts()) == ((1, 0), [])


@pytest.mark.parametrize("kind", ["../thing", "/etc", "..", "thing/../thing", "-rf"])
async def test_a_kind_never_becomes_a_path(service: Service, kind: str) -> None:
    """A kind that looks like a path names no module."""
    service.module("Thing")
    id_ = await service.apply(manifest(kind=f'"{kind}"'))

    answer = (await service.execute(DEPLOY, id=id_))["deployCloudResource"]

    assert answer["code"] == "MODULE_NOT_FOUND"
    assert (await counts(service), service.starts()) == ((1, 0), [])


async def test_without_a_pulumi_a_deployment_is_refused(tmp_path: Path) -> None:
    """On a machine without a Pulumi CLI the refusal says how to get one."""
    async with running_service(tmp_path, PATH=str(tmp_path / "empty")) as service:
        service.module("Thing")
        id_ = await service.apply(manifest())
        answer = (await service.execute(DEPLOY, id=id_))["deployCloudResource"]
        left = await counts(service)

    assert answer["code"] == "PULUMI_NOT_FOUND"
    assert "stackcast demo" in answer["message"]
    assert left == (1, 0)


async def test_an_unknown_cloud_resource_is_refused(service: Service) -> None:
    """Deploying what is not kept answers CloudResourceNotFound."""
    answer = (await service.execute(DEPLOY, id="0" * 24))["deployCloudResource"]

    assert (answer["code"], answer["path"]) == ("CLOUD_RESOURCE_NOT_FOUND", ["cloudResourceId"])
    assert (await counts(service), service.starts()) == ((0, 0), [])


@pytest.mark.parametrize(
    ("variables", "argument"),
    [
        ({"id": "x"}, "cloudResourceId"),
        ({"id": "0" * 24, "timeout": 0}, "timeoutSeconds"),
        ({"id": "0" * 24, "timeout": -5}, "timeoutSeconds"),
    ],
)
async def test_malformed_arguments_of_a_deployment_are_errors(
    service: Service, variables: dict[str, Any], argument: str
) -> None:
    """A malformed id or time is BAD_USER_INPUT, and names the argument."""
    answer = await service.post({"query": DEPLOY, "variables": variables})

    assert [(error["code"], error["argument"]) for error in answer.errors] == [("BAD_USER_INPUT", argument)]
    assert (await counts(service), service.starts()) == ((0, 0), [])


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("{ nothing }", "GRAPHQL_VALIDATION_FAILED"),
        ("{ __typename", "GRAPHQL_PARSE_FAILED"),
        ("query ($n: Int!) { stackUpdates(first: $n) { totalCount } }", "BAD_USER_INPUT"),
        ("{ " + " ".join(f"a{n}: __typename" for n in range(2000)) + " }", "GRAPHQL_PARSE_FAILED"),
    ],
    ids=["unknown field", "syntax", "missing variable", "too many tokens"],
)
async def test_graphql_mistakes_have_codes(service: Service, query: str, code: str) -> None:
    """A client's mistake in the document carries a code that says of what sort it is."""
    answer = await service.post({"query": query})

    assert [error["code"] for error in answer.errors] == [code]
