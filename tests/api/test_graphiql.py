"""GraphiQL as it is served, and the examples that it opens with; tests/browser has it in a browser."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from graphql import OperationDefinitionNode, StringValueNode, build_schema, parse, validate
from graphql.language import Visitor, visit
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from graphql_api.cli.demo import SAMPLE
from graphql_api.transport.graphiql import GraphiQL
from tests import fake_pulumi
from tests.service import Service, running_service

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "graphql_api" / "web" / "src" / "examples").glob("*.graphql"))
SCRIPT = b"import './other-56ef.js'\n"


@pytest.fixture
def built(tmp_path: Path) -> GraphiQL:
    """A page with one script, as the package's build leaves them."""
    directory = tmp_path / "dist"
    (directory / "graphiql").mkdir(parents=True)
    (directory / "index.html.gz").write_bytes(gzip.compress(b"<!doctype html><title>built</title>"))
    (directory / "graphiql" / "main-12ab.js.gz").write_bytes(gzip.compress(SCRIPT))
    (directory / "secret.gz").write_bytes(gzip.compress(b"not to be had"))
    return GraphiQL(directory)


def asking(name: str = "", host: str = "localhost:8321", encoding: str = "gzip, br") -> Request:
    headers = [(b"host", host.encode()), (b"accept-encoding", encoding.encode())]
    return Request({"type": "http", "method": "GET", "headers": headers, "path_params": {"name": name}})


def policy(response: Response) -> dict[str, set[str]]:
    """The sources that the content security policy allows, by its directives."""
    directives = (part.split() for part in response.headers["content-security-policy"].split(";"))
    return {name: set(sources) for name, *sources in directives}


def test_the_page_may_reach_this_server_alone(built: GraphiQL) -> None:
    """Nothing is loaded from or sent to anywhere else, no frame may hold it, and nothing tells where it was open."""
    response = built.page(asking())

    allowed = policy(response)
    assert allowed["default-src"] == allowed["frame-ancestors"] == allowed["base-uri"] == {"'none'"}
    assert allowed["script-src"] == {"'self'"}
    assert allowed["connect-src"] == {"'self'", "ws://localhost:8321", "wss://localhost:8321"}
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("host", ["", "localhost:1;script-src *", "localhost:1 *", "[::1", "localhost:1\n"])
def test_a_host_that_is_none_does_not_reach_the_policy(built: GraphiQL, host: str) -> None:
    """What follows an allowed name in Host adds nothing to what the page may do."""
    assert policy(built.page(asking(host=host)))["connect-src"] == {"'self'"}


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:80", "[::1]:8321", "stackcast.example:443"])
def test_the_socket_is_allowed_under_the_name_that_was_asked_for(built: GraphiQL, host: str) -> None:
    """The websocket of the page has the page's own host and port."""
    assert policy(built.page(asking(host=host)))["connect-src"] == {"'self'", f"ws://{host}", f"wss://{host}"}


def test_assets_are_kept_and_the_page_is_not(built: GraphiQL) -> None:
    """A new release is seen at the next load, and what it has in common with the last one is not fetched again."""
    assert built.page(asking()).headers["cache-control"] == "no-cache"
    assert "immutable" in built.asset(asking("main-12ab.js")).headers["cache-control"]


def test_assets_are_sent_compressed_to_who_takes_that(built: GraphiQL) -> None:
    """Every browser does; to others they are sent as they are, as the script that they are."""
    packed, plain = built.asset(asking("main-12ab.js")), built.asset(asking("main-12ab.js", encoding="identity"))

    assert isinstance(packed, FileResponse)
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert plain.body == SCRIPT
    assert {response.headers["content-type"] for response in (packed, plain)} == {"text/javascript; charset=utf-8"}
    assert {response.headers["vary"] for response in (packed, plain)} == {"Accept-Encoding"}


@pytest.mark.parametrize("name", ["other.js", "..", "../secret", "..%2Fsecret", "", ".", "main-12ab.js.gz", "a\0b"])
def test_nothing_else_is_found(built: GraphiQL, name: str) -> None:
    """Only what was built can be had, whatever the name."""
    with pytest.raises(HTTPException) as caught:
        built.asset(asking(name))

    assert caught.value.status_code == 404


def test_without_a_build_the_page_says_what_to_run(tmp_path: Path) -> None:
    """It is an error for programs and a sentence for people, and it is not kept."""
    response = GraphiQL(tmp_path).page(asking())

    assert response.status_code == 503
    assert b"uv sync --reinstall-package stackcast" in bytes(response.body)
    assert response.headers["cache-control"] == "no-store"
    assert policy(response)["frame-ancestors"] == {"'none'"}


async def test_it_is_served_without_a_token_but_under_known_names_only(tmp_path: Path) -> None:
    """The page asks for the token, so it comes without one; a name that the server does not know gets nothing."""
    fake_pulumi.install(tmp_path / "bin")
    async with running_service(tmp_path, STACKCAST_TOKEN="t" * 40) as service:
        page = await service.request("GET", "/graphiql")
        missing = await service.request("GET", "/graphiql/none.js")
        foreign = await service.request("GET", "/graphiql", headers={"Host": "evil.example"})
        forged = await service.request("GET", "/graphiql", headers={"Host": f"{service.address}; script-src *"})

    assert page.status in (200, 503)  # whether it was built is not this test's matter
    assert f"ws://{service.address}" in page.headers["content-security-policy"]
    assert (missing.status, missing.errors[0]["code"]) == (404, "NOT_FOUND")
    assert foreign.status == 421
    assert "*" not in forged.headers.get("content-security-policy", "")


async def test_it_is_read_only(service: Service) -> None:
    """HEAD is GET without its body; nothing can be sent there."""
    page, head = [await service.request(method, "/graphiql") for method in ("GET", "HEAD")]
    sent = await service.post({}, path="/graphiql")

    assert (head.status, head.body) == (page.status, b"")
    assert (sent.status, sent.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_valid(example: Path) -> None:
    """Every ready example is one named operation that is valid under schema.graphql and begins with what it does."""
    document = parse(example.read_text())

    (operation,) = document.definitions
    assert isinstance(operation, OperationDefinitionNode)
    assert operation.name is not None
    assert operation.name.value.lower() == example.stem.split("-")[1]
    assert validate(build_schema((ROOT / "schema.graphql").read_text()), document) == []
    assert example.read_text().startswith("# ")


def test_the_examples_use_every_kind_of_operation() -> None:
    """A newcomer finds a query, a mutation and a subscription."""
    operations = [parse(example.read_text()).definitions[0] for example in EXAMPLES]

    kinds = {node.operation.value for node in operations if isinstance(node, OperationDefinitionNode)}
    assert kinds == {"query", "mutation", "subscription"}


def test_the_example_s_manifest_is_the_demo_s() -> None:
    """What `stackcast demo` deploys and what GraphiQL offers is the same."""
    found: list[str] = []

    class Manifests(Visitor):
        def enter_string_value(self, node: StringValueNode, *_: object) -> None:
            found.append(node.value)

    for example in EXAMPLES:
        visit(parse(example.read_text()), Manifests())

    assert [f"{text}\n" for text in found] == [SAMPLE]
