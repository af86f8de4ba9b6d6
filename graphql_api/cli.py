"""The command `stackcast`. Everything but serving is a client of the public API."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import typer

from graphql_api import demo as demonstration
from graphql_api.app import build_pulumi
from graphql_api.client import connect
from graphql_api.domain.errors import StackcastError
from graphql_api.server import serving
from graphql_api.settings import Settings

cli = typer.Typer(help="Pulumi deployments behind one GraphQL API.", no_args_is_help=True, add_completion=False)


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


def _run(command: Callable[[Settings], Coroutine[Any, Any, int]]) -> None:
    """Run a command until it ends or is interrupted; a refusal is one sentence and exit code 2."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("gql", "websockets", "pymongo"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        code = asyncio.run(_until_terminated(command))
    except KeyboardInterrupt:
        code = 130
    except StackcastError as refusal:
        typer.echo(refusal.message, err=True)
        code = 2
    raise typer.Exit(code)


async def _until_terminated(command: Callable[[Settings], Coroutine[Any, Any, int]]) -> int:
    """SIGTERM ends the command as Ctrl-C does: whatever it has open is closed in order, deployments first of all."""
    work = asyncio.ensure_future(command(Settings.from_environment()))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
    try:
        return await work
    except asyncio.CancelledError:
        if (current := asyncio.current_task()) is not None and current.cancelling():
            raise
        return 0


async def _serve(settings: Settings) -> int:
    async with serving(settings) as address:
        typer.echo(_addresses(address))
        await asyncio.Event().wait()
    return 0


async def _demo(settings: Settings, exit_: bool) -> int:
    logging.getLogger().setLevel(logging.WARNING)
    settings = settings.model_copy(update={"modules": None, "module_dir": None})  # the sample is of a shipped kind
    await build_pulumi(settings, typer.echo)
    token = settings.token.get_secret_value() if settings.token else None
    async with serving(settings) as address:
        async with connect(f"ws://{address}/graphql", token) as client:
            succeeded = await demonstration.deploy_sample(client, typer.echo)
        if not exit_:
            typer.echo(f"{_addresses(address)}\nStop with Ctrl-C.")
            await asyncio.Event().wait()
    return 0 if succeeded else 1


def _addresses(address: str) -> str:
    return f"GraphQL over HTTP:      http://{address}/graphql\nGraphQL over websocket: ws://{address}/graphql"
