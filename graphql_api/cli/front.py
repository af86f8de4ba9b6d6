"""The command `stackcast`. Everything but serving is a client of the public API."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import shlex
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphql_api.domain.errors import StackcastError, StartRefused
from graphql_api.domain.manifest import MANIFEST_LIMIT
from graphql_api.domain.records import Status
from graphql_api.settings import WILDCARDS, Settings
from graphql_api.terminal import clean, json_line, note, showing, table

if TYPE_CHECKING:
    from graphql_api.domain.diagnosis import Check

# The server with its framework, and the client with its, are imported by the commands that use them: together they
# take longer to load than `--help` and shell completion may take.

EXIT_CODES = {Status.SUCCESS: 0, Status.FAILED: 1, Status.CANCELLED: 3}
REFUSED, INTERRUPTED, READER_GONE, TERMINATED = 2, 128 + signal.SIGINT, 128 + signal.SIGPIPE, 128 + signal.SIGTERM

cli = typer.Typer(
    help="Pulumi deployments behind one GraphQL API.",
    epilog="Exit codes of deploy --follow and watch: 0 SUCCESS, 1 FAILED, 3 CANCELLED, 2 a refusal or no server.",
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
        typer.Option(metavar="SECONDS", min=1, max=2**31 - 1, help="How long it may run; the server has a default."),
    ] = None,
    as_json: AsJson = False,
    server: Server = None,
) -> None:
    """Apply a manifest and deploy it. Prints the stack update's id; with --follow, how it goes instead."""
    limit = timedelta(seconds=timeout) if timeout else None
    with _ending():
        manifest = _read(file)
        _ask(server, lambda target: _deploy(target, manifest, limit, follow, as_json))


@cli.command()
def apply(file: File, as_json: AsJson = False, server: Server = None) -> None:
    """Keep a manifest as a cloud resource, without deploying it."""
    with _ending():
        manifest = _read(file)
        _ask(server, lambda target: _apply(target, manifest, as_json))


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
    with _ending():
        _ask(server, lambda target: _list(target, resources, statuses, limit, as_json))


@cli.command()
def watch(id_: UpdateId, as_json: AsJson = False, server: Server = None) -> None:
    """Show how a stack update goes until it has ended. The exit code is its outcome."""
    with _ending():
        _ask(server, lambda target: _follow(target, id_, as_json, known=False))


@cli.command()
def doctor(
    pulumi: Annotated[bool, typer.Option("--pulumi", help="Print only the path of the Pulumi CLI.")] = False,
    as_json: AsJson = False,
    server: Server = None,
) -> None:
    """Check what a service needs here, and whether one answers. Changes nothing; 0 only if all is well."""
    with _ending():
        _finish(_find_pulumi() if pulumi else _examine(server, as_json))


# --- how a command begins and ends


def _run(command: Callable[[Settings], Coroutine[Any, Any, int]]) -> None:
    """Run a command that serves until it ends or is interrupted."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("gql", "websockets", "pymongo", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    with _ending():
        _finish(command(Settings.from_environment()), terminated=0)


def _ask(server: str | None, command: Callable[[_Target], Coroutine[Any, Any, int]]) -> None:
    """Run a command that asks a server, until it ends or is interrupted."""
    logging.getLogger().addHandler(logging.NullHandler())  # or libraries' warnings come to stderr beside our sentences
    _finish(command(_target(Settings.from_environment(), server)))


def _finish(work: Coroutine[Any, Any, int], terminated: int = TERMINATED) -> None:
    raise typer.Exit(asyncio.run(_until_told(work, terminated)))


@contextmanager
def _ending() -> Iterator[None]:
    """Whatever ends a command is an exit code, and a refusal one sentence."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # not every terminal can show every name
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except StackcastError as refusal:
        note(refusal.message)
        raise typer.Exit(REFUSED) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it closes stdout
        raise typer.Exit(READER_GONE) from None


async def _until_told(command: Coroutine[Any, Any, int], terminated: int) -> int:
    """The first SIGTERM or Ctrl-C ends the command: whatever it has open is closed in order, deployments first of all.

    Another one would cut that short and leave Pulumi at work without anybody, so it is only answered.
    """
    work = asyncio.ensure_future(command)
    told: list[int] = []

    def end(number: int) -> None:
        told.append(number)
        if len(told) == 1:
            work.cancel()
        else:
            note("Already ending: what is open is being closed.")

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end, number)
    try:
        return await work
    except asyncio.CancelledError:
        if not told:
            raise
        return terminated if told[0] == signal.SIGTERM else INTERRUPTED
    finally:
        loop.remove_signal_handler(signal.SIGINT)  # Ctrl-C again ends a command whose threads still wait for a network


# --- serving


async def _serve(settings: Settings) -> int:
    from graphql_api.server import serving

    async with serving(settings) as address:
        typer.echo(_addresses(address))
        await asyncio.Event().wait()
    return 0


async def _demo(settings: Settings, exit_: bool) -> int:
    from graphql_api import demo as demonstration
    from graphql_api.app import build_pulumi
    from graphql_api.client import connect
    from graphql_api.server import serving

    logging.getLogger().setLevel(logging.WARNING)
    settings = settings.model_copy(update={"modules": None, "module_dir": None})  # the sample is of a shipped kind
    await build_pulumi(settings, typer.echo)
    async with serving(settings) as address:
        async with connect(f"http://{address}", _token(settings)) as client:
            with showing(sys.stdout, indent="  ") as show:
                succeeded = await demonstration.deploy_sample(client, typer.echo, show)
        if not exit_:
            typer.echo(f"{_addresses(address)}\nStop with Ctrl-C.")
            await asyncio.Event().wait()
    return 0 if succeeded else 1


def _addresses(address: str) -> str:
    return f"GraphQL over HTTP:      http://{address}/graphql\nGraphQL over websocket: ws://{address}/graphql"


# --- asking a server


@dataclass(frozen=True)
class _Target:
    """The server to ask, and the words with which the user named it, for a command to type again."""

    address: str
    token: str | None
    option: str

    def watch_command(self, stack_update_id: str) -> str:
        return f"`stackcast watch {clean(stack_update_id)}{self.option}`"


def _target(settings: Settings, server: str | None) -> _Target:
    if server:
        return _Target(server, _token(settings), f" --server {shlex.quote(server)}")
    if settings.port == 0:
        raise StartRefused(
            "STACKCAST_PORT is 0, which says nothing of where the server is: name its address with --server."
        )
    host = WILDCARDS.get(settings.host, settings.host)
    return _Target(f"http://{f'[{host}]' if ':' in host else host}:{settings.port}", _token(settings), "")


def _token(settings: Settings) -> str | None:
    return settings.token.get_secret_value() if settings.token else None


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


async def _apply(target: _Target, manifest: str, as_json: bool) -> int:
    from graphql_api.client import connect

    async with connect(target.address, target.token) as client:
        resource = await client.apply(manifest)
    if as_json:
        typer.echo(json_line(resource))
    else:
        done = "created" if resource["created"] else "kept"
        typer.echo(clean(f"{resource['kind']}/{resource['name']} is {done} as cloud resource {resource['id']}."))
    return 0


async def _deploy(target: _Target, manifest: str, timeout: timedelta | None, follow: bool, as_json: bool) -> int:
    from graphql_api.client import connect

    try:
        async with connect(target.address, target.token) as client:
            resource = await client.apply(manifest)
            update = await client.deploy(resource["id"], timeout)
    except asyncio.CancelledError:
        note("It is not certain whether the deployment was accepted: `stackcast list` shows those that were.")
        raise
    if not as_json:
        note(
            f"Deploying {resource['kind']}/{resource['name']} to {update['stackFqdn']} as stack update {update['id']}."
        )
    if follow:
        return await _follow(target, update["id"], as_json, known=True)
    typer.echo(json_line(update) if as_json else clean(update["id"]))
    return 0


async def _follow(target: _Target, id_: str, as_json: bool, *, known: bool) -> int:
    """Show a stack update until it has ended; the code for its outcome. ``known`` says that the server has it."""
    from graphql_api import client

    try:
        with showing(sys.stdout, as_json=as_json) as show:
            async with aclosing(client.follow(target.address, target.token, id_, note, known=known)) as changes:
                async for change in changes:
                    known = True
                    show(change)
        return EXIT_CODES[Status[change["status"]]]
    except asyncio.CancelledError:
        if known:
            note(f"The deployment goes on without this command. Watch it again: {target.watch_command(id_)}")
        raise


async def _list(target: _Target, resources: bool, statuses: list[str] | None, limit: int, as_json: bool) -> int:
    from graphql_api.client import connect

    async with connect(target.address, target.token) as client:
        found = await (client.cloud_resources(limit) if resources else client.stack_updates(limit, statuses))
    if as_json:
        for record in found:
            typer.echo(json_line(record))
    elif not found:
        note("There are no cloud resources." if resources else "There are no such stack updates.")
    elif resources:
        rows = [(one["id"], one["kind"], one["name"], one["stackFqdn"] or "-", one["updatedAt"]) for one in found]
        table(sys.stdout, ("ID", "KIND", "NAME", "STACK", "CHANGED"), rows)
    else:
        table(sys.stdout, ("ID", "STATUS", "PHASE", "ACCEPTED", "RESOURCE", "STACK"), [_row(one) for one in found])
    return 0


def _row(update: dict[str, Any]) -> tuple[str, ...]:
    resource = update["cloudResource"]
    name = f"{resource['kind']}/{resource['name']}" if resource else "-"
    place = update["stackFqdn"] or "-"
    return update["id"], update["status"], update["phase"].lower(), update["createdAt"], name, place


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
    from graphql_api.doctor import checkup
    from graphql_api.domain.diagnosis import Check

    try:
        settings = Settings.from_environment()
        target = _target(settings, server)
    except StartRefused as refusal:
        yield Check("settings", False, refusal.message)
        return
    async for check in checkup(settings, target.address, target.token):
        yield check
