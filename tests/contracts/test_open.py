"""Opening and closing the backends: URLs, refusals and what stays out of them."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from time import monotonic

import pytest

from graphql_api.adapters import Backends, open_backends
from graphql_api.domain.errors import StartRefused, StoreUnavailable
from tests.builders import (
    MANIFEST,
    a_chunk,
    a_claim,
    a_cloud_resource,
    a_request,
    a_stack_update,
    an_idempotency_key,
)
from tests.contracts.shown import shown


async def test_a_database_that_answers_is_pinged(backends: Backends) -> None:
    """The ping of an open database returns."""
    await backends.ping()


@pytest.mark.parametrize(
    "url",
    ["", "sqlite:///", "sqlite://:memory:", "/tmp/x.db", "postgres://user:hunter2@host/name", "MONGODB://hunter2"],  # noqa: S108
)
def test_a_url_of_no_known_form_is_refused(url: str) -> None:
    """The sentence names the setting and the forms that work, and keeps the URL's password to itself."""
    with pytest.raises(StartRefused, match="STACKCAST_DATABASE_URL") as refusal:
        open_backends(url)

    assert "sqlite:///PATH" in refusal.value.message
    assert "hunter2" not in refusal.value.message


@pytest.mark.parametrize(
    "url",
    [
        "mongodb://",
        "mongodb://user:hunter2/@host/name",
        "mongodb://user:hunt@er2@host/name",
        "mongodb://user:hunter2@host:99999/name",
        "mongodb://user:hunter2@host/na me$",
        "mongodb+srv://user:hunter2@host.example:1/name",
    ],
)
async def test_a_malformed_mongodb_url_is_refused_without_its_password(url: str) -> None:
    """A URL that the driver doesn't take is refused with the form to write; no text shown has a part of it."""
    with pytest.raises(StartRefused, match="mongodb://USER:PASSWORD@HOST:PORT/NAME") as refusal:
        async with open_backends(url):
            pass

    assert "hunt" not in shown(refusal.value)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port at which nobody listens, and nobody else can while it is held."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


async def test_a_mongodb_that_does_not_run_is_unavailable_within_the_limit(closed_port: int) -> None:
    """No server there: a sentence after the limit, without the password."""
    begun = monotonic()

    with pytest.raises(StoreUnavailable, match=r"within 0\.5 seconds") as refusal:
        async with open_backends(f"mongodb://user:hunter2@127.0.0.1:{closed_port}/name", timedelta(seconds=0.5)):
            pass

    assert monotonic() - begun < 5
    assert "hunter2" not in shown(refusal.value)


async def test_a_mongodb_that_never_answers_is_unavailable_within_the_limit() -> None:
    """A server that takes the connection and stays silent is no better than none."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = monotonic()
        with pytest.raises(StoreUnavailable):
            async with open_backends(f"mongodb://127.0.0.1:{silent.getsockname()[1]}/", timedelta(seconds=0.5)):
                pass

    assert monotonic() - begun < 5


def test_a_start_with_sqlite_loads_no_mongodb_driver() -> None:
    """Who uses SQLite doesn't wait for MongoDB's driver to load."""
    program = (
        "import asyncio, sys\n"
        "from graphql_api.adapters import open_backends\n"
        "async def main():\n"
        "    async with open_backends('sqlite:///:memory:') as backends:\n"
        "        await backends.ping()\n"
        "asyncio.run(main())\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'motor', 'pymongo', 'bson'}))\n"
    )

    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)

    assert (ran.stdout, ran.stderr) == ("[]\n", "")


async def test_a_relative_path_is_one_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three slashes and a name make the file where the service was started, directories included."""
    monkeypatch.chdir(tmp_path)

    async with open_backends("sqlite:///deep/er/100% mine?.db"):
        pass

    assert [path.name for path in (tmp_path / "deep" / "er").iterdir()] == ["100% mine?.db"]


async def test_what_was_kept_is_there_after_reopening(database_url: str) -> None:
    """A database outlives its connection with all its records; one in memory ends with it."""
    resource, update, claim = a_cloud_resource(), a_stack_update(), a_claim()
    chunk, request, key = a_chunk(), a_request(), an_idempotency_key()
    async with open_backends(database_url) as backends:
        await backends.resources.insert(resource)
        await backends.updates.insert(update, MANIFEST)
        await backends.updates.save(update.started(update.created_at), "{}")
        assert await backends.claims.claim(claim)
        assert await backends.events.append(chunk)
        await backends.requests.make(request)
        await backends.keys.keep(key, key.created_at)

    async with open_backends(database_url) as backends:
        found = (
            await backends.resources.get(resource.id),
            await backends.updates.get(update.id),
            await backends.updates.output(update.id),
            await backends.claims.current(claim.stack),
            await backends.events.last(chunk.update_id),
            next(iter(await backends.requests.open(1)), None),
            await backends.keys.find(key.caller, key.key, key.created_at),
        )

    lasting = (resource, update.started(update.created_at), "{}", claim, chunk, request, key)
    assert found == ((None,) * 7 if ":memory:" in database_url else lasting)
