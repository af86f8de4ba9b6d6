"""Puts everything together: the only place that knows both the API and the runners, and that picks adapters."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute

from graphql_api.adapters import Backends, open_backends
from graphql_api.domain.errors import StackcastError
from graphql_api.service.resources import Resources
from graphql_api.service.updates import Updates
from graphql_api.service.watch import Watch
from graphql_api.settings import LOOPBACK, Settings
from graphql_api.transport.endpoint import Endpoint
from graphql_api.transport.guard import Access, Guard
from runners import toolchain
from runners.datadir import DataDirectory, open_data_directory
from runners.deployment import Deployer
from runners.pulumi import PulumiSettings
from runners.worker import Worker, WorkerSettings
from runners.workspace import Modules

_WILDCARDS = frozenset({"0.0.0.0", "::"})  # noqa: S104 (names, nothing is bound here)

_log = logging.getLogger("stackcast")


@asynccontextmanager
async def open_app(settings: Settings) -> AsyncIterator[Starlette]:
    """The ASGI application, for as long as all that it stands on is open: data directory, store and worker.

    Leaving drains the worker within the shutdown's grace. Raises StartRefused, StoreRefused or StoreUnavailable.
    """
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(open_data_directory(settings.data_path))
        backends = await stack.enter_async_context(open_backends(settings.store_url))
        deployer = _deployer(settings, directory)
        work = await stack.enter_async_context(_working(_worker(settings, directory, backends, deployer), settings))
        access = Access(settings.token.get_secret_value() if settings.token else None)
        endpoint = Endpoint(
            access,
            Resources(backends.resources, self_managed=settings.self_managed),
            _updates(settings, backends, deployer),
            Watch(backends.updates, backends.wakeups),
        )
        yield Starlette(
            routes=[
                Route("/graphql", endpoint),
                WebSocketRoute("/graphql", endpoint),
                Route("/healthz", _healthz),
                Route("/readyz", partial(_readyz, backends, work)),
            ],
            middleware=_middleware(settings, access),
        )


async def build_pulumi(settings: Settings, report: Callable[[str], None]) -> None:
    """Make sure that there is a Pulumi CLI: find one, or build the pinned one. Raises StackcastError."""
    cache = toolchain.cache_directory(settings.environment)
    cli = await toolchain.find(settings.environment.get("PATH"), cache)
    if cli is None:
        cli = await toolchain.build(cache, report, settings.environment)
    report(f"Using Pulumi {cli.version} at {cli.path}.")


def _middleware(settings: Settings, access: Access) -> list[Middleware]:
    hosts = LOOPBACK | ({settings.host} - _WILDCARDS) | set(settings.allowed_hosts)
    guard = Middleware(Guard, access=access, hosts=hosts, origins=settings.allowed_origins)
    if not settings.allowed_origins:
        return [guard]
    headers = ["authorization", "content-type"]
    cors = Middleware(
        CORSMiddleware, allow_origins=settings.allowed_origins, allow_methods=["POST"], allow_headers=headers
    )
    return [cors, guard]


def _updates(settings: Settings, backends: Backends, deployer: Deployer) -> Updates:
    return Updates(
        backends.resources,
        backends.updates,
        backends.wakeups,
        deployer,
        timeout=settings.deploy_timeout,
        timeout_limit=settings.deploy_timeout_limit,
        self_managed=settings.self_managed,
    )


def _worker(settings: Settings, directory: DataDirectory, backends: Backends, deployer: Deployer) -> Worker:
    worker_settings = WorkerSettings(
        owner=directory.owner,
        runs=directory.runs,
        locks=directory.locks,
        graces=(settings.interrupt_grace, settings.terminate_grace),
        max_concurrent=settings.max_concurrent,
    )
    return Worker(backends.updates, backends.claims, backends.wakeups, deployer, worker_settings)


@asynccontextmanager
async def _working(worker: Worker, settings: Settings) -> AsyncIterator[asyncio.Task[None]]:
    """The worker at work until leaving, which drains it."""
    work = asyncio.create_task(worker.run(), name="worker")
    try:
        yield work
    finally:
        if not await worker.stop(settings.shutdown_grace):
            _log.error("some deployments could not be ended in time; the next start ends and records them")
            work.cancel()
        await asyncio.wait([work])
        if not work.cancelled() and (error := work.exception()):
            _log.error("the worker had failed", exc_info=error)


def _deployer(settings: Settings, directory: DataDirectory) -> Deployer:
    passphrase = settings.passphrase.get_secret_value() if settings.passphrase else None
    finder = toolchain.Finder(settings.environment.get("PATH"), toolchain.cache_directory(settings.environment))
    return Deployer(
        modules=Modules(_absolute(settings.modules), _absolute(settings.module_dir)),
        settings=PulumiSettings(
            backend_url=settings.backend_url or directory.state.as_uri(),
            home=_absolute(settings.pulumi_home) or directory.pulumi_home,
            passphrase=passphrase,
            passphrase_file=None if passphrase else _absolute(settings.passphrase_file) or directory.passphrase,
            service_environment=settings.environment,
            pass_env=settings.pass_env,
        ),
        find_cli=finder.find,
    )


def _absolute(path: Path | None) -> Path | None:
    return path.expanduser().absolute() if path else None


async def _healthz(_: Request) -> Response:
    """The process answers."""
    return JSONResponse({"status": "ok"})


async def _readyz(backends: Backends, work: asyncio.Task[None], _: Request) -> Response:
    """The store answers and the worker works; otherwise 503 and a sentence."""
    checks = {"store": "ok", "worker": "ok"}
    try:
        await backends.ping()
    except StackcastError as error:
        checks["store"] = error.message
    if work.done():
        checks["worker"] = "The worker has stopped. Restart the service; its log says why."
    ready = all(answer == "ok" for answer in checks.values())
    return JSONResponse({"status": "ok" if ready else "not ready", **checks}, 200 if ready else 503)
