"""The command line as a user has it: real processes, against a service with the fake Pulumi."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from graphql_api.cli.client import RequestRefused, ServerUnavailable, websocket_url
from graphql_api.cli.following import follow
from runners.toolchain import PulumiCli
from tests import fake_pulumi
from tests.acceptance.command import Ended, begin, end, on_a_terminal, screen, serving_process, stackcast, variables
from tests.acceptance.conftest import Start
from tests.runner.waiting import eventually
from tests.service import PATIENCE, Service, environment, manifest, running_service

TOKEN = "correct-horse-battery-staple"  # noqa: S105
WRONG_TOKEN = {"STACKCAST_TOKEN": "another-token-of-16-characters"}
ID = re.compile(r"[0-9a-f]{24}")


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    """A service in this process, with a manifest in `one.yaml` for the kind Thing, whose module gives an output."""
    fake_pulumi.install(tmp_path / "bin")
    (tmp_path / "one.yaml").write_text(manifest())
    async with running_service(tmp_path) as running:
        running.module("Thing", outputs={"who": "one"})
        yield running


# --- deploying and watching


async def test_deploy_prints_the_id_alone(service: Service) -> None:
    """Without --follow, stdout is the stack update's id, for a script to take; a sentence is beside it."""
    ended = await stackcast(service, "deploy", "-f", "one.yaml")
    outcome = await service.outcome(ended.out.strip())

    assert ended.code == 0
    assert ID.fullmatch(ended.out.strip())
    assert ended.sentence == f"Deploying Thing/one to organization/tests/one as stack update {ended.out.strip()}."
    assert outcome["status"] == "SUCCESS"


async def test_deploy_follow_prints_lines(service: Service) -> None:
    """Away from a terminal all is lines without any escape: phases, what Pulumi printed, the outcome, its outputs."""
    service.module("Thing", stdout="Updating\nand more", stderr="a word", outputs={"who": "one"})
    ended = await stackcast(service, "deploy", "-f", "one.yaml", "--follow", TERM="xterm-256color", FORCE_COLOR="1")

    assert ended.code == 0, ended
    lines = ended.out.splitlines()
    times = r"[0-9T:.-]+Z  "
    assert [re.sub(times, "", line) for line in lines if re.match(times, line)] == [
        "IN_PROGRESS  queued",
        "IN_PROGRESS  preparing",
        "IN_PROGRESS  running",
        "SUCCESS  finished",
    ]
    assert {"Updating", "and more", "a word"} <= set(lines)
    assert "\x1b" not in ended.out
    assert lines[-2].endswith("  SUCCESS  finished")
    assert lines[-1] == '  who = "one"'


async def test_a_push_is_printed_when_it_comes(service: Service) -> None:
    """A pipe gets each line at once, while the deployment still runs."""
    service.module("Thing", sleep=60)
    id_ = await service.deploy(manifest())
    watching = await begin(variables(service), service.root, "watch", id_)
    assert watching.stdout is not None
    async with asyncio.timeout(PATIENCE):
        line = (await watching.stdout.readline()).decode()
    watching.kill()
    await end(watching)

    assert "  IN_PROGRESS  " in line


@pytest.mark.parametrize(
    ("plan", "code", "status"), [({}, 0, "SUCCESS"), ({"error": "the quota is used up", "exit": 255}, 1, "FAILED")]
)
async def test_the_exit_code_is_the_outcome(service: Service, plan: dict[str, Any], code: int, status: str) -> None:
    """deploy --follow and watch end with 0 for SUCCESS and 1 for FAILED, and JSON says the same."""
    service.module("Thing", **plan)
    deployed = await stackcast(service, "deploy", "-f", "one.yaml", "--follow", "--json")
    watched = await stackcast(service, "watch", deployed.records[-1]["id"], "--json")

    assert (deployed.code, watched.code) == (code, code), deployed
    assert deployed.err == watched.err == ""
    assert deployed.records[0]["status"] in ("IN_PROGRESS", status)
    assert deployed.records[-1] == watched.records[-1]
    assert watched.records[-1]["status"] == status
    assert [record["revision"] for record in deployed.records] == sorted(
        {record["revision"] for record in deployed.records}
    )


async def test_a_cancelled_deployment_ends_with_3(service: Service) -> None:
    """What was stopped because somebody asked is neither a success nor a failure."""
    async with pushing(service, [{"status": "CANCELLED", "phase": "FINISHED"}]) as address:
        ended = await stackcast(service, "watch", "0" * 24, STACKCAST_SERVER=address)

    assert ended.code == 3, ended
    assert "CANCELLED" in ended.out


async def test_a_manifest_comes_from_stdin_and_its_time_is_passed_on(service: Service) -> None:
    """`-f -` reads the manifest, and --timeout is the stack update's own."""
    ended = await stackcast(service, "deploy", "-f", "-", "--timeout", "77", "--json", stdin=manifest(name="piped"))

    assert ended.code == 0, ended
    assert ended.records[0]["cloudResource"]["name"] == "piped"
    assert ended.records[0]["timeoutSeconds"] == 77
    await service.outcome(ended.records[0]["id"])


async def test_apply_keeps_without_deploying(service: Service) -> None:
    """The first time it says that the resource is created, the second time not, and nothing is deployed."""
    first = await stackcast(service, "apply", "-f", "one.yaml")
    second = await stackcast(service, "apply", "-f", "one.yaml", "--json")

    assert first.code == second.code == 0
    assert second.records[0]["created"] is False
    assert first.out == f"Thing/one is created as cloud resource {second.records[0]['id']}.\n"
    assert service.starts() == []


async def test_list_shows_what_there_is(service: Service) -> None:
    """Stack updates and cloud resources, the newest first, restricted by status and limit, as a table or as JSON."""
    service.module("Bad", error="no", exit=255)
    for text in (manifest(), manifest(kind="Bad", name="two")):
        await service.outcome(await service.deploy(text))
    updates = await stackcast(service, "list")
    failed = await stackcast(service, "list", "--status", "FAILED", "--json")
    resources = await stackcast(service, "list", "--resources", "--json", "--limit", "1")
    none = await stackcast(service, "list", "--status", "in_progress", "--status", "cancelled")

    rows = [line.split() for line in updates.out.splitlines()]
    assert rows[0] == ["ID", "STATUS", "PHASE", "ACCEPTED", "BY", "RESOURCE", "STACK"]
    assert [(row[1], *row[4:6]) for row in rows[1:]] == [("FAILED", "-", "Bad/two"), ("SUCCESS", "-", "Thing/one")]
    assert [record["cloudResource"]["name"] for record in failed.records] == ["two"]
    assert [record["name"] for record in resources.records] == ["two"]
    assert (none.code, none.out, none.sentence) == (0, "", "There are no such stack updates.")


async def test_list_goes_through_pages(service: Service) -> None:
    """A limit over what the API gives at once is met by several pages."""
    for number in range(103):
        await service.apply(manifest(name=f"n{number}"))
    ended = await stackcast(service, "list", "--resources", "--json", "--limit", "102")

    assert [record["name"] for record in ended.records] == [f"n{number}" for number in range(102, 0, -1)]


# --- refusals


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("deploy", "-f", "nowhere.yaml"), "can't be read (No such file or directory)"),
        (("deploy", "-f", "."), "can't be read (Is a directory)"),
        (("apply", "-f", "binary"), "is not written in UTF-8"),
        (("apply", "-f", "large"), "over 262144 bytes"),
        (("deploy", "-f", "other.yaml"), "No Pulumi module is there for the kind 'Other'"),
        (("deploy", "-f", "empty"), "this is empty"),
        (("watch", "f" * 24), f"There is no stack update with id {'f' * 24}"),
        (("watch", "nonsense"), "24 hex digits"),
        (("logs", "f" * 24), f"There is no stack update with id {'f' * 24}"),
        (("logs", "f" * 24, "--follow"), f"There is no stack update with id {'f' * 24}"),
        (("cancel", "f" * 24), f"There is no stack update with id {'f' * 24}"),
        (("extend", "f" * 24, "60"), f"There is no stack update with id {'f' * 24}"),
        (("deploy", "-f", "one.yaml", "--idempotency-key", "k" * 201), "200"),
        (("list", "--server", "ftp://host"), "is no address of a server"),
        (("list", "--server", "localhost:8321"), "Write it as http://HOST:PORT"),
        (("list", "--server", "http://user:hunter2@host"), "Put the token in STACKCAST_TOKEN"),
        (("list", "--server", "http://127.0.0.1:1"), "(Connection refused). Start one with `stackcast serve`"),
        (("watch", "f" * 24, "--server", "http://127.0.0.1:1"), "No stackcast answers at http://127.0.0.1:1"),
        (("list", "--server", "http://no-such-host.invalid"), "No stackcast answers at http://no-such-host.invalid"),
    ],
)
async def test_a_refusal_is_one_sentence_and_2(service: Service, arguments: tuple[str, ...], words: str) -> None:
    """Whatever can't be done ends with 2, nothing on stdout and one sentence on stderr."""
    (service.root / "binary").write_bytes(b"\xff\xfe\x00")
    (service.root / "large").write_text(" " * 262_145)
    (service.root / "empty").write_text("")
    (service.root / "other.yaml").write_text(manifest(kind="Other"))
    ended = await stackcast(service, *arguments)

    assert (ended.code, ended.out) == (2, ""), ended
    assert words in ended.sentence
    assert "hunter2" not in ended.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("deploy",),
        ("deploy", "-f", "one.yaml", "--timeout", "0"),
        ("deploy", "-f", "one.yaml", "--when-busy", "perhaps"),
        ("list", "--limit", "0"),
        ("logs", "x", "--after", "-1"),
        ("extend", "x", "0"),
        ("extend", "x"),
        ("list", "--status", "sleeping"),
        ("list", "--resources", "--status", "failed"),
        ("wach", "x"),
    ],
)
async def test_wrong_usage_is_2(service: Service, arguments: tuple[str, ...]) -> None:
    """What the command line itself does not take."""
    ended = await stackcast(service, *arguments)

    assert (ended.code, ended.out) == (2, "")
    assert "Usage:" in ended.err


async def test_the_token_comes_from_the_environment_alone(tmp_path: Path) -> None:
    """With the server's token all works; without it, or with another, a sentence says what to set."""
    async with running_service(tmp_path, STACKCAST_TOKEN=TOKEN) as service:
        right = await stackcast(service, "list", STACKCAST_TOKEN=TOKEN)
        wrong = await stackcast(service, "list", **WRONG_TOKEN)
        none = await stackcast(service, "list")

    assert right.code == 0, right
    assert (wrong.code, none.code) == (2, 2)
    assert "Set STACKCAST_TOKEN to the value that the server has" in wrong.sentence
    assert wrong.err == none.err


async def test_who_asked_is_shown(tmp_path: Path) -> None:
    """Where the server knows tokens by names, a list and the words of a cancellation show the name."""
    fake_pulumi.install(tmp_path / "bin")
    tokens = tmp_path / "tokens"
    tokens.touch(mode=0o600)
    tokens.write_text(f"ann:{TOKEN}\n")
    async with running_service(tmp_path, STACKCAST_TOKENS_FILE=str(tokens)) as service:
        service.module("Thing", sleep=60)
        (tmp_path / "one.yaml").write_text(manifest())
        id_ = (await stackcast(service, "deploy", "-f", "one.yaml", STACKCAST_TOKEN=TOKEN)).out.strip()
        listed = await stackcast(service, "list", STACKCAST_TOKEN=TOKEN)
        await stackcast(service, "cancel", id_, STACKCAST_TOKEN=TOKEN)
        watched = await stackcast(service, "watch", id_, STACKCAST_TOKEN=TOKEN)

    assert listed.out.splitlines()[1].split()[4:6] == ["ann", "Thing/one"]
    assert "ann asked for it" in watched.out


async def test_the_server_is_where_the_settings_say(service: Service) -> None:
    """Without --server, host and port of the settings are the address; one that listens everywhere is asked here."""
    host, port = service.address.split(":")
    environ = environment(service.root, STACKCAST_HOST=host, STACKCAST_PORT=port)
    everywhere = {**environ, "STACKCAST_HOST": "0.0.0.0", "STACKCAST_TOKEN": TOKEN}  # noqa: S104
    found = await end(await begin(environ, service.root, "list"))
    from_everywhere = await end(await begin(everywhere, service.root, "list"))
    free_port = await end(await begin({**environ, "STACKCAST_PORT": "0"}, service.root, "list"))

    assert (found.code, from_everywhere.code) == (0, 0), from_everywhere
    assert free_port.code == 2
    assert "name its address with --server" in free_port.sentence


async def test_what_is_no_stackcast_is_told(service: Service) -> None:
    """A server of HTTP that knows no such websocket, and one that speaks no HTTP at all."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        writer.close()

    ended = []
    for behaviour in (answer, babble):
        async with await asyncio.start_server(behaviour, "127.0.0.1", 0) as server:
            address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            ended.append(await stackcast(service, "list", "--server", address))

    assert [one.code for one in ended] == [2, 2]
    assert "answered HTTP 404" in ended[0].sentence
    assert "No stackcast answers" in ended[1].sentence


# --- being interrupted, and a server that goes away


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_does_not_abandon_a_deployment(tmp_path: Path, second: signal.Signals) -> None:
    """Told twice to end, a service still ends its deployment and records how, whichever signals it was told by."""
    fake_pulumi.install(tmp_path / "bin")
    async with serving_process(tmp_path, "0", stderr=asyncio.subprocess.PIPE) as (process, address):
        service = Service(address, tmp_path)
        service.module("Thing", sleep=60)
        id_ = await service.deploy(manifest())
        await eventually(lambda: any(started.startswith("up ") for started in service.starts()))
        process.terminate()
        await eventually(lambda: is_deaf(address))
        process.send_signal(second)
        ended = await end(process)
    async with serving_process(tmp_path, "0") as (_, address):
        outcome = await Service(address, tmp_path).outcome(id_)

    assert ended.code == 0, ended
    assert "Already ending" in ended.err
    assert outcome["failure"]["kind"] != "WORKER_LOST", outcome


def is_deaf(address: str) -> bool:
    """Whether nobody listens there any more."""
    host, port = address.split(":")
    try:
        with socket.create_connection((host, int(port))):
            return False
    except OSError:
        return True


async def test_the_log_of_a_service_tells_no_connections(tmp_path: Path) -> None:
    """What is normal for a server, such as a websocket that opens and closes, is not in its log."""
    fake_pulumi.install(tmp_path / "bin")
    async with serving_process(tmp_path, "0", stderr=asyncio.subprocess.PIPE) as (process, address):
        async with Service(address, tmp_path).websocket():
            pass
        process.terminate()
        ended = await end(process)

    assert ended.code == 0
    assert "connection open" not in ended.err
    assert "accepted" not in ended.err


@pytest.mark.parametrize(("signal_", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_an_interrupted_watcher_leaves_the_deployment_alone(
    service: Service, signal_: signal.Signals, code: int
) -> None:
    """Ctrl-C ends the command, not the deployment, and the user is told how to watch it again."""
    service.module("Thing", sleep=2)
    process = await begin(variables(service), service.root, "deploy", "-f", "one.yaml", "--follow")
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        await process.stdout.readline()
    process.send_signal(signal_)
    ended = await end(process)
    id_ = ID.findall(ended.err)[0]
    again = await stackcast(service, "watch", id_)

    assert ended.code == code, ended
    server = f"--server http://{service.address}"
    assert ended.err.splitlines()[-1] == (
        f"The deployment goes on without this command. Watch it again: `stackcast watch {id_} {server}`, or end it: "
        f"`stackcast cancel {id_} {server}`"
    )
    assert again.code == 0, again


async def test_a_reader_that_goes_away_is_no_failure(service: Service) -> None:
    """When whoever reads stdout is gone, the command ends quietly, as killed by SIGPIPE."""
    id_ = await service.deploy(manifest())
    read, write = os.pipe()
    os.close(read)
    process = await begin(variables(service), service.root, "watch", id_, stdout=write)
    os.close(write)
    ended = await end(process)

    assert (ended.code, ended.err) == (141, "")


async def test_a_server_killed_and_started_again_is_followed_on(tmp_path: Path) -> None:
    """Through kill -9 and a restart on the same port the command goes on to the outcome, and says what happened."""
    fake_pulumi.install(tmp_path / "bin")
    (tmp_path / "one.yaml").write_text(manifest())
    Service("", tmp_path).module("Thing", sleep=4)
    async with serving_process(tmp_path, "0") as (first, address):
        service = Service(address, tmp_path)
        process = await begin(variables(service), tmp_path, "deploy", "-f", "one.yaml", "--follow", "--json")
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            while b'"RUNNING"' not in await process.stdout.readline():
                pass
        await eventually(lambda: [start for start in service.starts() if start.startswith("up")])
        first.kill()
        await first.wait()
        assert process.stderr is not None
        async with asyncio.timeout(PATIENCE):
            lost = (await process.stderr.readline()).decode()
        async with serving_process(tmp_path, address.split(":")[1]):
            ended = await end(process)

    assert f"The connection to http://{address} was lost" in lost
    assert "Trying again for 60 s." in lost
    assert ended.sentence == f"Connected to http://{address} again."
    assert ended.code == 0, ended
    assert ended.records[-1]["status"] == "SUCCESS"


async def test_a_server_that_stays_away_is_given_up(tmp_path: Path) -> None:
    """After its patience, following ends with what was seen and what to do."""
    fake_pulumi.install(tmp_path / "bin")
    said: list[str] = []
    patience = timedelta(seconds=1)
    async with running_service(tmp_path, STACKCAST_SHUTDOWN_GRACE="1") as service:
        service.module("Thing", sleep=60)
        id_ = await service.deploy(manifest())
        changes = follow(f"http://{service.address}", None, id_, said.append, patience=patience)
        await anext(changes)
    async with aclosing(changes):
        with pytest.raises(ServerUnavailable, match=r"did not come back within 1 s\. Watch the deployment again"):
            async for _ in changes:
                pass

    assert len(said) == 1
    assert "was lost" in said[0]


@asynccontextmanager
async def pushing(service: Service, changes: list[dict[str, Any]]) -> AsyncIterator[str]:
    """A server that pushes these changes, each on top of a stack update of the service's, and the end of a log."""
    from websockets.asyncio.server import ServerConnection, serve
    from websockets.typing import Subprotocol

    base = (await stackcast(service, "deploy", "-f", "one.yaml", "--follow", "--json")).records[-1]

    def answers(log: bool) -> list[dict[str, Any]]:
        if log:
            return [{"stackUpdateEvents": {"events": [], "seq": 0, "caughtUp": True, "finished": True}}]
        return [{"stackUpdateChanged": {"stackUpdate": {**base, **change}}} for change in changes]

    async def answer(client: ServerConnection) -> None:
        async for text in client:
            message = json.loads(text)
            if message["type"] == "connection_init":
                await client.send(json.dumps({"type": "connection_ack"}))
            elif message["type"] == "subscribe":
                for data in answers("stackUpdateEvents" in message["payload"]["query"]):
                    await client.send(json.dumps({"type": "next", "id": message["id"], "payload": {"data": data}}))
                await client.send(json.dumps({"type": "complete", "id": message["id"]}))

    async with serve(answer, "127.0.0.1", 0, subprotocols=[Subprotocol("graphql-transport-ws")]) as server:
        yield f"http://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("http://127.0.0.1:8321", "ws://127.0.0.1:8321/graphql"),
        ("https://host/", "wss://host/graphql"),
        ("https://host/stackcast", "wss://host/stackcast/graphql"),
        ("http://[::1]:8321/graphql", "ws://[::1]:8321/graphql"),
        ("ws://host:1/graphql", "ws://host:1/graphql"),
    ],
)
def test_an_address_names_its_websocket(address: str, url: str) -> None:
    """http becomes ws and https wss; the path before /graphql stays."""
    assert websocket_url(address) == url


@pytest.mark.parametrize("address", ["", "host", "http://", "http://host:99999", "http://[::1", "file:///x"])
def test_other_addresses_are_refused(address: str) -> None:
    """What names no server."""
    with pytest.raises(RequestRefused, match="is no address of a server"):
        websocket_url(address)


# --- on a terminal


async def test_a_terminal_gets_a_live_picture_that_stays(service: Service) -> None:
    """The status changes in place below the lines, the time runs, and the final picture is what is left at the end."""
    service.module("Thing", sleep=2.5, stdout="Updating", outputs={"who": "one"})
    environ = variables(service, TERM="xterm-256color")
    code, printed = await on_a_terminal(environ, service.root, "deploy", "-f", "one.yaml", "--follow")

    assert code == 0, printed
    assert "IN_PROGRESS" in printed
    assert "  running  1 s" in printed
    assert printed.rindex("\x1b[?25h") > printed.rindex("\x1b[?25l") >= 0
    left = [line for line in screen(printed) if line]
    assert left[0].startswith("Deploying Thing/one to organization/tests/one as stack update ")
    assert left[1:3] == ["Created stack 'organization/tests/one'", "Updating"]
    assert re.fullmatch(r"SUCCESS  finished  \d s", left[3]), left
    assert left[4].startswith("Thing/one  organization/tests/one  ")
    assert left[5:] == ['  who = "one"']


async def test_nothing_from_outside_drives_the_terminal(service: Service) -> None:
    """Names, lines and errors with escapes in them are shown as text: live, in lines and as JSON."""
    evil = "\x1b]0;owned\x07\x1b[2J\x9b2J\u202e"
    name = json.dumps(f"one{evil}")
    (service.root / "evil.yaml").write_text(manifest(name="plain").replace("name: plain", f"name: {name}", 1))
    service.module("Thing", stdout=f"line {evil}", error=f"bad {evil}", exit=255)
    environ = variables(service, TERM="xterm-256color")
    commands = [
        ("apply", "-f", "evil.yaml"),
        ("deploy", "-f", "one.yaml", "--follow"),
        ("logs", (await stackcast(service, "deploy", "-f", "one.yaml")).out.strip(), "--follow"),
    ]
    shown = [(await on_a_terminal(environ, service.root, *arguments))[1] for arguments in commands]
    for arguments in commands:
        for options in ((), ("--json",)):
            ended = await stackcast(service, *arguments, *options)
            shown.append(ended.out + ended.err)

    for output in shown:
        assert "2J" in output  # what is left of it, or its escapes
        assert not any(part in output for part in ("\x1b]", "\x07", "\x1b[2J", "\x9b", "\u202e")), output


@pytest.mark.parametrize(
    ("more", "allowed"), [({"TERM": "dumb"}, r"\r"), ({"TERM": "xterm", "NO_COLOR": "1"}, r"\x1b\[[0-9?]*[AKhl]|\r")]
)
async def test_no_color_and_dumb_terminals_are_honoured(service: Service, more: dict[str, str], allowed: str) -> None:
    """TERM=dumb gets no escape at all, NO_COLOR none that sets a colour."""
    id_ = await service.deploy(manifest())
    code, printed = await on_a_terminal(variables(service, **more), service.root, "watch", id_)
    rest = re.sub(allowed, "", printed)

    assert code == 0
    assert re.search(r"SUCCESS(\x1b\[0m)?  finished", rest)
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", rest)
    assert ("\x1b" in rest) <= ("NO_COLOR" in more)


# --- what is about the command itself


async def test_version_and_help(service: Service) -> None:
    """--version prints the product's; --help names every command; without one, help is what is printed."""
    printed = await stackcast(service, "--version")
    helped = await stackcast(service, "--help")

    assert (printed.code, printed.out) == (0, f"stackcast {version('stackcast')}\n")
    assert helped.code == 0
    for command in ("serve", "demo", "deploy", "apply", "list", "watch", "logs", "cancel", "extend", "doctor"):
        assert re.search(rf"\b{command}\b", helped.out)
    assert "--install-completion" in helped.out


async def test_a_shell_completes_commands(service: Service) -> None:
    """What a shell's completion asks for is answered with the commands that begin so."""
    environ = environment(service.root, _STACKCAST_COMPLETE="complete_bash", COMP_WORDS="stackcast d", COMP_CWORD="1")
    ended = await end(await begin(environ, service.root))

    assert ended.out.split() == ["demo", "deploy", "doctor"]


async def test_help_needs_neither_server_nor_client() -> None:
    """What --help and completion import is neither the server with its framework, nor GraphQL, nor a driver."""
    code = "import sys, graphql_api.cli.front; print(*{name.partition('.')[0] for name in sys.modules})"
    # Without our environment: a measured process would load what the measuring needs.
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE, env={})
    imported = (await process.communicate())[0].decode().split()

    assert not {"strawberry", "graphql", "gql", "uvicorn", "starlette", "sqlite3", "pymongo", "runners"} & set(imported)


# --- the doctor


async def test_the_doctor_is_content_with_a_sound_installation(service: Service, tmp_path: Path) -> None:
    """Every line begins with ok, the service's own in use included, nothing is changed, and the exit code is 0."""
    add_language(tmp_path)
    before = tree(tmp_path)
    ended = await stackcast(service, "doctor")

    assert ended.code == 0, ended
    lines = ended.out.splitlines()
    assert len(lines) == 8
    assert all(line.startswith("ok ") for line in lines)
    assert f"Pulumi {fake_pulumi.VERSION} is at {tmp_path / 'bin' / 'pulumi'}." in lines[0]
    assert lines[-1] == f"ok A stackcast answers at http://{service.address} and is ready."
    assert service.starts() == []
    assert tree(tmp_path) == before


async def test_the_doctor_says_what_is_wrong_and_no_secret(tmp_path: Path) -> None:
    """Each fault is a line of its own beginning with !!, in JSON as well; secrets of the settings appear in none."""
    (tmp_path / "modules").mkdir()
    environ = environment(
        tmp_path,
        PATH="/usr/bin:/bin",
        STACKCAST_TOKEN="hunter2-hunter2-hunter2",  # noqa: S106
        STACKCAST_DATABASE_URL="mongodb://u:hunter2@127.0.0.1:1/x",
        PULUMI_BACKEND_URL="ftp://u:hunter2@host",
        PULUMI_CONFIG_PASSPHRASE="hunter2-hunter2",  # noqa: S106
        STACKCAST_SERVER="http://127.0.0.1:1",
    )
    plain, as_json = await asyncio.gather(
        *(begin_and_end(environ, tmp_path, "doctor", *options) for options in ((), ("--json",)))
    )

    assert (plain.code, as_json.code) == (1, 1)
    faulty = {record["subject"] for record in as_json.records if not record["ok"]}
    assert faulty == {"pulumi", "languages", "backend", "modules", "store", "server"}
    assert [line[:2] == "ok" for line in plain.out.splitlines()] == [record["ok"] for record in as_json.records]
    assert "hunter2" not in plain.out + plain.err + as_json.out + as_json.err


async def test_the_doctor_finds_a_server_that_wants_another_token(tmp_path: Path) -> None:
    """That a server answers is not enough: it has to take the token."""
    fake_pulumi.install(tmp_path / "bin")
    async with running_service(tmp_path, STACKCAST_TOKEN=TOKEN) as service:
        ended = await stackcast(service, "doctor", **WRONG_TOKEN)

    assert ended.code == 1
    assert ended.out.splitlines()[-1].startswith("!! The server at ")
    assert "does not take the token" in ended.out


async def test_the_doctor_tells_of_settings_that_cannot_be_used(tmp_path: Path) -> None:
    """A setting that is none is a fault, not a crash."""
    ended = await begin_and_end(environment(tmp_path, STACKCAST_PORT="x"), tmp_path, "doctor")

    assert ended.code == 1
    assert ended.out.startswith("!! STACKCAST_PORT can't be used")


async def test_the_doctor_prints_where_pulumi_is(tmp_path: Path) -> None:
    """`doctor --pulumi` prints the path alone, for a script; without a CLI, a sentence and 1."""
    environ = environment(tmp_path, PATH=f"{tmp_path / 'bin'}:/usr/bin:/bin")
    none = await begin_and_end(environ, tmp_path, "doctor", "--pulumi")
    path = fake_pulumi.install(tmp_path / "bin")
    found = await begin_and_end(environ, tmp_path, "doctor", "--pulumi")

    assert (none.code, none.out) == (1, "")
    assert "install one and put it on PATH" in none.sentence
    assert (found.code, found.out, found.err) == (0, f"{path}\n", "")
    assert not (tmp_path / "data").exists()


@pytest.mark.external
async def test_with_the_real_pulumi_all_is_well(start: Start, pulumi_cli: PulumiCli, real: dict[str, str]) -> None:
    """The doctor finds the real CLI with its language, and a deployment is followed to its outputs."""
    async with start() as running:
        service = running.service
        (service.root / "one.yaml").write_text(manifest(spec="{say: hello}"))
        more = {name: real[name] for name in ("PATH", "TMPDIR")}
        checked = await stackcast(service, "doctor", "--json", **more)
        deployed = await stackcast(service, "deploy", "-f", "one.yaml", "--follow", **more)

    assert checked.code == 0, checked
    assert checked.records[0]["path"] == str(pulumi_cli.path)
    assert deployed.code == 0, deployed
    assert '  say = "hello"' in deployed.out.splitlines()


async def begin_and_end(environ: Mapping[str, str], directory: Path, *arguments: str) -> Ended:
    return await end(await begin(environ, directory, *arguments))


def add_language(root: Path) -> None:
    """A language host beside the fake Pulumi."""
    host = root / "bin" / "pulumi-language-yaml"
    host.write_text("#!/bin/sh\n")
    host.chmod(0o755)


def tree(root: Path) -> dict[str, int]:
    """Every file below a directory with the time of its last change."""
    return {str(path): path.lstat().st_mtime_ns for path in root.rglob("*")}
