"""The command `stackcast`. Everything but serving is a client of the public API."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from dataclasses import asdict
from datetime import timedelta
from enum import StrEnum
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphql_api.cli.running import ending, finish, finish_serving
from graphql_api.cli.target import Target
from graphql_api.cli.terminal import clean, json_line, note
from graphql_api.domain.errors import StartRefused
from graphql_api.domain.manifest import MANIFEST_LIMIT
from graphql_api.domain.records import Status
from graphql_api.settings import Settings

if TYPE_CHECKING:
    from graphql_api.cli.commands import Commands
    from graphql_api.domain.diagnosis import Check

# The server with its framework, and the client with its, are imported by the commands that use them: together they
# take longer to load than `--help` and shell completion may take.

cli = typer.Typer(
    help="Pulumi deployments behind one GraphQL API.",
    epilog="Exit codes of watch, deploy --follow and logs --follow: 0 SUCCESS, 1 FAILED, 3 CANCELLED, 2 a refusal or "
    "no server.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)

Server = Annotated[
    str | None,
    typer.Option(
        "--server",
        envvar="STACKCAST_SERVER",
        metavar="URL",
        help="Where the server is; by default STACKCAST_HOST and STACKCAST_PORT say it. STACKCAST_TOKEN is its token.",
    ),
]
File = Annotated[str, typer.Option("--file", "-f", metavar="FILE", help="The manifest; - reads it from stdin.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object in a line, and nothing else.")]
UpdateId = Annotated[str, typer.Argument(metavar="ID", help="The stack update's id.")]
_LARGEST = 2**31 - 1  # what the API takes as a whole number


class WhenBusy(StrEnum):
    """What to do where the stack is being deployed already; the API's words."""

    QUEUE = "queue"
    REJECT = "reject"
    SUPERSEDE_PENDING = "supersede-pending"
    JOIN = "join"


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"stackcast {installed_version('stackcast')}")
        raise typer.Exit


@cli.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None: ...


@cli.command()
def serve() -> None:
    """Serve the API until interrupted. Settings come from the environment; the README lists them."""
    _run(_serve)


@cli.command()
def demo(
    exit_: Annotated[bool, typer.Option("--exit", help="End after the deployment: 0 if it succeeded, else 1.")] = False,
) -> None:
    """Deploy a sample with the real Pulumi CLI, show its live status, then keep serving."""
    _run(lambda settings: _demo(settings, exit_))


@cli.command()
def deploy(
    file: File,
    follow: Annotated[bool, typer.Option("--follow", help="Show how it goes until it has ended.")] = False,
    timeout: Annotated[
        int | None,
        typer.Option(metavar="SECONDS", min=1, max=_LARGEST, help="How long it may run; the server has a default."),
    ] = None,
    when_busy: Annotated[
        WhenBusy,
        typer.Option(
            case_sensitive=False,
            help="Where the stack is being deployed already: wait; refuse; wait in place of those that wait; or answer "
            "with one that deploys the same.",
        ),
    ] = WhenBusy.QUEUE,
    idempotency_key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Repeated with the same key within a day, it deploys only once."),
    ] = None,
    as_json: AsJson = False,
    server: Server = None,
) -> None:
    """Apply a manifest and deploy it. Prints the stack update's id; with --follow, how it goes instead."""
    limit = timedelta(seconds=timeout) if timeout else None
    with ending():
        manifest = _read(file)
        _ask(server, as_json, lambda ask: ask.deploy(manifest, limit, when_busy.name, idempotency_key, watched=follow))


@cli.command()
def apply(file: File, as_json: AsJson = False, server: Server = None) -> None:
    """Keep a manifest as a cloud resource, without deploying it."""
    with ending():
        manifest = _read(file)
        _ask(server, as_json, lambda ask: ask.apply(manifest))


@cli.command("list")
def list_(
    resources: Annotated[
        bool, typer.Option("--resources/--updates", help="What to list: cloud resources, or stack updates.")
    ] = False,
    status: Annotated[
        list[Status] | None,
        typer.Option(
            case_sensitive=False,
            metavar="STATUS",
            help="Only stack updates that are in_progress, success, failed or cancelled; may be given more than once.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=10_000, help="How many at most.")] = 20,
    as_json: AsJson = False,
    server: Server = None,
) -> None:
    """List stack updates or cloud resources, newest first."""
    if resources and status:
        raise typer.BadParameter("a cloud resource has no status; leave out --resources or --status")
    statuses = [one.name for one in status] if status else None
    with ending():
        _ask(
            server,
            as_json,
            lambda ask: ask.list_resources(limit) if resources else ask.list_updates(statuses, limit),
        )


@cli.command()
def watch(id_: UpdateId, as_json: AsJson = False, server: Server = None) -> None:
    """Show how a stack update goes until it has ended. The exit code is its outcome."""
    with ending():
        _ask(server, as_json, lambda ask: ask.watch(id_))


@cli.command()
def logs(
    id_: UpdateId,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on until it has ended; the exit code is its outcome.")
    ] = False,
    after: Annotated[
        int, typer.Option(metavar="SEQ", min=0, max=_LARGEST, help="Only events after the one with this number.")
    ] = 0,
    as_json: AsJson = False,
    server: Server = None,
) -> None:
    """Print the log of a stack update: what Pulumi printed, and with the time in front what happened meanwhile."""
    with ending():
        _ask(server, as_json, lambda ask: ask.follow_logs(id_, after) if follow else ask.logs(id_, after))


@cli.command()
def cancel(
    id_: UpdateId,
    force: Annotated[
        bool, typer.Option("--force", help="Go on to the next step at once where its end has begun already.")
    ] = False,
    as_json: AsJson = False,
    server: Server = None,
) -> None:
    """Cancel a stack update: at once while it waits, else Pulumi is told to stop, then told again, then killed."""
    with ending():
        _ask(server, as_json, lambda ask: ask.cancel(id_, force))


@cli.command()
def extend(
    id_: UpdateId,
    seconds: Annotated[
        int, typer.Argument(metavar="SECONDS", min=1, max=_LARGEST, help="How long it may run, from its start.")
    ],
    as_json: AsJson = False,
    server: Server = None,
) -> None:
    """Give a stack update more time."""
    with ending():
        _ask(server, as_json, lambda ask: ask.extend(id_, timedelta(seconds=seconds)))


@cli.command()
def doctor(
    pulumi: Annotated[bool, typer.Option("--pulumi", help="Print only the path of the Pulumi CLI.")] = False,
    as_json: AsJson = False,
    server: Server = None,
) -> None:
    """Check what a service needs here, and whether one answers. Changes nothing; 0 only if all is well."""
    with ending():
        finish(_find_pulumi() if pulumi else _examine(server, as_json))


# --- how a command begins


def _run(command: Callable[[Settings], Coroutine[Any, Any, int]]) -> None:
    """Run a command that serves until it ends or is interrupted."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("gql", "websockets", "pymongo", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    with ending():
        finish_serving(command(Settings.from_environment()))


def _ask(server: str | None, as_json: bool, command: Callable[[Commands], Coroutine[Any, Any, int]]) -> None:
    """Run a command that asks a server, until it ends or is interrupted."""
    from graphql_api.cli.commands import Commands

    logging.getLogger().addHandler(logging.NullHandler())  # or libraries' warnings come to stderr beside our sentences
    finish(command(Commands(Target.of(Settings.from_environment(), server), as_json)))


def _read(file: str) -> str:
    """The manifest's text, from a file or stdin, read no further than what a server would take."""
    try:
        if file == "-":
            content = sys.stdin.buffer.read(MANIFEST_LIMIT + 1)
        else:
            with Path(file).open("rb") as stream:
                content = stream.read(MANIFEST_LIMIT + 1)
        text = content.decode()
    except OSError as error:
        raise StartRefused(f"The manifest {file} can't be read ({error.strerror}). Name a file with -f.") from error
    except UnicodeDecodeError as error:
        raise StartRefused(f"The manifest {file} is not written in UTF-8. Convert it.") from error
    if len(content) > MANIFEST_LIMIT:
        raise StartRefused(f"The manifest {file} has over {MANIFEST_LIMIT} bytes, which no server keeps. Shorten it.")
    return text


# --- serving


async def _serve(settings: Settings) -> int:
    from graphql_api.server import serving

    async with serving(settings) as address:
        typer.echo(_addresses(address))
        await asyncio.Event().wait()
    return 0


async def _demo(settings: Settings, exit_: bool) -> int:
    from graphql_api.app import build_pulumi
    from graphql_api.cli.client import connect
    from graphql_api.cli.demo import deploy_sample
    from graphql_api.cli.display import REFRESH, showing
    from graphql_api.cli.following import paced
    from graphql_api.server import serving

    logging.getLogger().setLevel(logging.WARNING)
    settings = settings.model_copy(
        update={"modules": None, "module_dir": None, "shutdown": "drain"}
    )  # the sample is of a shipped kind
    await build_pulumi(settings, typer.echo)
    succeeded = False
    async with serving(settings) as address:
        async with connect(f"http://{address}", Target.of(settings, address).token) as client:
            pushes = paced(deploy_sample(client, typer.echo), REFRESH)
            with showing(sys.stdout, log=False, indent="  ") as show:
                async with aclosing(pushes) as arriving:
                    async for change in arriving:
                        show(change)
                        succeeded = succeeded or (change is not None and change["status"] == "SUCCESS")
        if not exit_:
            typer.echo(f"{_addresses(address)}\nStop with Ctrl-C.")
            await asyncio.Event().wait()
    return 0 if succeeded else 1


def _addresses(address: str) -> str:
    return (
        f"GraphQL over HTTP:      http://{address}/graphql\n"
        f"GraphQL over websocket: ws://{address}/graphql\n"
        f"GraphiQL:               http://{address}/graphiql"
    )


# --- the doctor


async def _find_pulumi() -> int:
    from graphql_api.app import diagnose

    async with aclosing(diagnose(Settings.from_environment())) as checks:
        check = await anext(checks)
    if check.path is None:
        note(check.message)
        return 1
    typer.echo(check.path)
    return 0


async def _examine(server: str | None, as_json: bool) -> int:
    all_well = True
    async with aclosing(_checks(server)) as checks:
        async for check in checks:
            all_well = all_well and check.ok
            typer.echo(json_line(asdict(check)) if as_json else f"{'ok' if check.ok else '!!'} {clean(check.message)}")
    return 0 if all_well else 1


async def _checks(server: str | None) -> AsyncGenerator[Check, None]:
    from graphql_api.cli.doctor import checkup
    from graphql_api.domain.diagnosis import Check

    try:
        settings = Settings.from_environment()
        target = Target.of(settings, server)
    except StartRefused as refusal:
        yield Check("settings", False, refusal.message)
        return
    async for check in checkup(settings, target.address, target.token):
        yield check
