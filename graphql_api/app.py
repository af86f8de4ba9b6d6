"""Puts everything together: the only place that knows both the API and the runners, and that picks adapters."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route, WebSocketRoute

from graphql_api.adapters import Backends, open_backends
from graphql_api.adapters.probe import probe
from graphql_api.domain.diagnosis import Check
from graphql_api.domain.errors import StartRefused
from graphql_api.service import Services
from graphql_api.service.control import Control
from graphql_api.service.events import Events
from graphql_api.service.facts import ServerFacts
from graphql_api.service.manifests import Manifests
from graphql_api.service.queue import Queue
from graphql_api.service.resources import Resources
from graphql_api.service.turns import Turns
from graphql_api.service.updates import Updates
from graphql_api.service.watch import Watch
from graphql_api.settings import LOOPBACK, WILDCARDS, Settings
from graphql_api.tokens import read_tokens
from graphql_api.transport.access import Access
from graphql_api.transport.api import Api
from graphql_api.transport.download import Download
from graphql_api.transport.endpoint import Endpoint
from graphql_api.transport.graphiql import GraphiQL
from graphql_api.transport.guard import PREFLIGHTED_HEADERS, Guard
from graphql_api.transport.health import Readiness, healthz
from graphql_api.transport.refusals import EXCEPTION_HANDLERS, Cors
from graphql_api.transport.websocket import WebSocketEndpoint
from runners import toolchain
from runners.changes import FileChanges
from runners.datadir import DataDirectory, open_data_directory
from runners.deployment import Deployer
from runners.doctor import Installation, examine
from runners.fork_server import ForkServer
from runners.job import JobSettings
from runners.lease import Lease, the_only_service
from runners.limits import RunLimits, default_memory_limit
from runners.patience import beside, to_the_end
from runners.pulumi import PulumiSettings
from runners.retention import RetentionSettings, Tidying
from runners.worker import Worker, WorkerPorts, WorkerSettings
from runners.workspace import Modules

_MEBIBYTE = 1024 * 1024

_log = logging.getLogger("stackcast")


@asynccontextmanager
async def open_app(settings: Settings) -> AsyncIterator[Starlette]:
    """The ASGI application, for as long as all that it stands on is open: data directory, store and worker.

    Leaving hands deployments over to the next start, or drains them within the grace, as the settings say. Raises
    StartRefused, StoreRefused or StoreUnavailable.
    """
    access = _access(settings)
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(open_data_directory(settings.data_path))
        backends = await stack.enter_async_context(open_backends(settings.store_url))
        service = await stack.enter_async_context(the_only_service(backends.claims, directory.title))
        deployer = _deployer(settings, directory, stack.enter_context(ForkServer()))
        changes = await stack.enter_async_context(FileChanges())
        worker = _worker(settings, directory, backends, deployer, changes, service)
        work = await stack.enter_async_context(_working(worker, settings))
        if tidying := _tidying(settings, directory, backends, service):
            await stack.enter_async_context(beside(tidying.keep_tidy()))
        services = _services(settings, backends, deployer, worker)
        api, download, graphiql = Api.of(services, access), Download(services.events), GraphiQL()
        yield Starlette(
            routes=[
                Route("/graphql", Endpoint(api)),
                WebSocketRoute("/graphql", WebSocketEndpoint(api)),
                Route("/graphiql", graphiql.page),
                Route("/graphiql/{name}", graphiql.asset),
                Route("/stack-updates/{id}/log.txt", download.text),
                Route("/stack-updates/{id}/log.ndjson", download.ndjson),
                Route("/healthz", healthz),
                Route("/readyz", Readiness(backends.ping, work.done, deployer.find_cli).answer),
            ],
            middleware=_middleware(settings, access),
            exception_handlers=EXCEPTION_HANDLERS,
        )


async def build_pulumi(settings: Settings, report: Callable[[str], None]) -> None:
    """Make sure that there is a Pulumi CLI: find one, or build the pinned one. Raises StackcastError."""
    cache = toolchain.cache_directory(settings.environment)
    cli = await toolchain.find(settings.environment.get("PATH"), cache)
    if cli is None:
        cli = await toolchain.build(cache, report, settings.environment)
    report(f"Using Pulumi {cli.version} at {cli.path}.")


async def diagnose(settings: Settings) -> AsyncGenerator[Check, None]:
    """What a service with these settings needs, one check after the other; nothing is changed."""
    # With the backend's URL filled in, no directory is made for it.
    settings = settings.model_copy(update={"backend_url": settings.backend_url or settings.state_path.as_uri()})
    installation = Installation(
        search_path=settings.environment.get("PATH", ""),
        cache=toolchain.cache_directory(settings.environment),
        data=settings.data_path,
        pulumi=_pulumi(settings, DataDirectory(settings.data_path, owner="")),
        modules=_absolute(settings.modules),
        single_module=_absolute(settings.module_dir),
    )
    async for check in examine(installation):
        yield check
    yield await probe(settings.store_url)


def _access(settings: Settings) -> Access:
    tokens: dict[str, str | None] = dict(read_tokens(settings.tokens_file)) if settings.tokens_file else {}
    if settings.token:
        token = settings.token.get_secret_value()
        if token in tokens:
            raise StartRefused(
                f"STACKCAST_TOKENS_FILE can't be used: the token of {tokens[token]} is that of STACKCAST_TOKEN, which "
                "has no name. Give each one of its own, or unset STACKCAST_TOKEN."
            )
        tokens[token] = None
    return Access(tokens)


def _middleware(settings: Settings, access: Access) -> list[Middleware]:
    hosts = LOOPBACK | ({settings.host} - WILDCARDS.keys()) | set(settings.allowed_hosts)
    guard = Middleware(Guard, access=access, hosts=hosts, origins=settings.allowed_origins)
    if not settings.allowed_origins:
        return [guard]
    cors = Middleware(
        Cors,
        allow_origins=settings.allowed_origins,
        allow_methods=["GET", "POST"],
        allow_headers=["authorization", "content-type", *PREFLIGHTED_HEADERS],
    )
    return [cors, guard]


def _services(settings: Settings, backends: Backends, deployer: Deployer, worker: Worker) -> Services:
    turns, manifests = Turns(), Manifests(self_managed=settings.self_managed)
    queue = Queue(backends.history, settings.max_concurrent, lambda: worker.at_work, lambda: worker.served)
    return Services(
        resources=Resources(backends.resources, backends.history, backends.wakeups, turns, manifests),
        updates=Updates(
            backends.resources,
            backends.updates,
            backends.history,
            backends.requests,
            backends.keys,
            backends.wakeups,
            deployer,
            turns,
            manifests,
            timeout=settings.deploy_timeout,
            timeout_limit=settings.deploy_timeout_limit,
            self_managed=settings.self_managed,
        ),
        control=Control(backends.updates, backends.requests, backends.wakeups, settings.deploy_timeout_limit),
        queue=queue,
        events=Events(backends.updates, backends.events, backends.wakeups),
        watch=Watch(backends.updates, backends.history, backends.resources, backends.wakeups, queue),
        facts=_facts(settings, backends, deployer, worker),
    )


def _facts(settings: Settings, backends: Backends, deployer: Deployer, worker: Worker) -> ServerFacts:
    async def find_pulumi() -> str | None:
        cli = await deployer.find_cli()
        return cli.version if cli else None

    return ServerFacts(
        version=version("stackcast"),
        backend=urlsplit(deployer.settings.backend_url).scheme,
        store="SQLite" if settings.store_url.startswith("sqlite:") else "MongoDB",
        max_concurrent=settings.max_concurrent,
        timeout=min(settings.deploy_timeout, settings.deploy_timeout_limit),
        timeout_limit=settings.deploy_timeout_limit,
        history=backends.history,
        find_pulumi=find_pulumi,
        at_work=lambda: len(worker.at_work),
    )


def _worker(
    settings: Settings,
    directory: DataDirectory,
    backends: Backends,
    deployer: Deployer,
    changes: FileChanges,
    service: Lease,
) -> Worker:
    memory = settings.memory_limit * _MEBIBYTE if settings.memory_limit else default_memory_limit()
    worker_settings = WorkerSettings(
        owner=directory.owner,
        runs=directory.runs,
        locks=directory.locks,
        jobs=JobSettings(
            graces=(settings.interrupt_grace, settings.terminate_grace),
            limits=RunLimits(settings.output_limit * _MEBIBYTE, memory),
        ),
        log_limit=settings.log_limit * _MEBIBYTE,
        max_concurrent=settings.max_concurrent,
    )
    ports = WorkerPorts(
        backends.updates, backends.history, backends.claims, backends.events, backends.requests, backends.wakeups
    )
    return Worker(ports, deployer, changes, worker_settings, service)


@asynccontextmanager
async def _working(worker: Worker, settings: Settings) -> AsyncIterator[asyncio.Task[None]]:
    """The worker at work until leaving, which hands over to the next start, or drains it."""
    work = asyncio.create_task(worker.run(), name="worker")
    work.add_done_callback(_log_failure)
    try:
        yield work
    finally:
        await to_the_end(_stop(worker, work, settings))


async def _stop(worker: Worker, work: asyncio.Task[None], settings: Settings) -> None:
    if settings.shutdown == "drain" and not await worker.drain(settings.shutdown_grace):
        _log.error("some deployments could not be ended in time; the next start goes on with them")
    elif settings.shutdown == "handover" and worker.at_work:
        _log.info("%d deployments go on without the service; the next start takes them over", len(worker.at_work))
    work.cancel()
    await asyncio.wait([work])


def _tidying(settings: Settings, directory: DataDirectory, backends: Backends, service: Lease) -> Tidying | None:
    """None where everything is kept for ever."""
    if settings.retention is None:
        return None
    state = None if settings.backend_url else settings.state_path
    what = RetentionSettings(settings.retention, settings.retention_newest, directory.runs, state)
    return Tidying(backends.retention, backends.updates, what, service)


def _log_failure(work: asyncio.Task[None]) -> None:
    if not work.cancelled() and (error := work.exception()):
        _log.error("the worker has failed: nothing is deployed until a restart", exc_info=error)


def _deployer(settings: Settings, directory: DataDirectory, supervisors: ForkServer) -> Deployer:
    return Deployer(
        modules=Modules(_absolute(settings.modules), _absolute(settings.module_dir)),
        settings=_pulumi(settings, directory),
        find_cli=toolchain.Finder(
            settings.environment.get("PATH"), toolchain.cache_directory(settings.environment)
        ).find,
        supervisors=supervisors,
    )


def _pulumi(settings: Settings, directory: DataDirectory) -> PulumiSettings:
    passphrase = settings.passphrase.get_secret_value() if settings.passphrase else None
    return PulumiSettings(
        backend_url=settings.backend_url or _made(settings.state_path).as_uri(),
        home=_absolute(settings.pulumi_home) or directory.pulumi_home,
        passphrase=passphrase,
        passphrase_file=None if passphrase else _absolute(settings.passphrase_file) or directory.passphrase,
        service_environment=settings.environment,
        pass_env=settings.pass_env,
    )


def _made(state: Path) -> Path:
    """Pulumi's state directory, which has to be there before its backend is opened."""
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StartRefused(
            f"Pulumi's state directory {state} can't be made: {error.strerror}. Correct its permissions, or set "
            "PULUMI_STATE_DIR to another one."
        ) from error
    return state


def _absolute(path: Path | None) -> Path | None:
    return path.expanduser().absolute() if path else None
