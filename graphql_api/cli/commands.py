"""The commands that ask a server. Each returns the exit code."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, aclosing, nullcontext
from datetime import UTC, datetime, timedelta

from graphql_api.cli.client import Batch, Record, connect
from graphql_api.cli.display import REFRESH, Show, show_log, showing
from graphql_api.cli.following import follow, paced
from graphql_api.cli.target import Target
from graphql_api.cli.terminal import Line, clean, json_line, note, print_lines, table
from graphql_api.cli.wording import cancelled_words, extended_words
from graphql_api.domain.records import Status

EXIT_CODES = {Status.SUCCESS: 0, Status.FAILED: 1, Status.CANCELLED: 3}


class Commands:
    """What the command line asks of a server, and how it prints the answers: for people, or as JSON.

    Every method raises StackcastError when the server refuses or does not answer.
    """

    def __init__(self, target: Target, as_json: bool) -> None:
        self._target = target
        self._as_json = as_json

    async def apply(self, manifest: str) -> int:
        """Keep a manifest."""
        async with connect(self._target.address, self._target.token) as client:
            resource = await client.apply(manifest)
        done = "created" if resource["created"] else "kept"
        self._answer(resource, f"{resource['kind']}/{resource['name']} is {done} as cloud resource {resource['id']}.")
        return 0

    async def deploy(
        self, manifest: str, timeout: timedelta | None, when_busy: str, idempotency_key: str | None, watched: bool
    ) -> int:
        """Keep a manifest and deploy it; the code is that of the outcome where it is ``watched``."""
        try:
            async with connect(self._target.address, self._target.token) as client:
                resource = await client.apply(manifest)
                update = await client.deploy(resource["id"], timeout, when_busy, idempotency_key)
        except asyncio.CancelledError:
            note("It is not certain whether the deployment was accepted: `stackcast list` shows those that were.")
            raise
        if not self._as_json:
            place = f"{resource['kind']}/{resource['name']} to {update['stackFqdn']}"
            id_ = f"stack update {update['id']}"
            note(f"Joining {id_}, which deploys {place}." if update["joined"] else f"Deploying {place} as {id_}.")
        if watched:
            return await self.watch(update["id"], known=True)
        self._answer(update, update["id"])
        return 0

    async def watch(self, id_: str, *, known: bool = False) -> int:
        """Show a stack update until it has ended; the code for its outcome. ``known`` says that the server has it."""
        display = showing(sys.stdout, as_json=self._as_json)
        after = None if self._as_json else 0
        return await self._follow(id_, display, after, known, lambda _: self._target.command("watch", id_))

    async def logs(self, id_: str, after: int) -> int:
        """Print what there is of a log now."""
        batches = follow(self._target.address, self._target.token, id_, note, changes=False, after=after)
        async with aclosing(batches) as arriving:
            async for batch in arriving:
                self._show_log(batch)
                if isinstance(batch, Batch) and batch.caught_up:
                    break
        return 0

    async def follow_logs(self, id_: str, after: int) -> int:
        """Print a log until the stack update has ended; the code for its outcome."""

        def again(seq: int | None) -> str:
            return self._target.command("logs", id_, "--follow", "--after", str(seq))

        return await self._follow(id_, nullcontext(self._show_log), after, False, again)

    async def _follow(
        self,
        id_: str,
        display: AbstractContextManager[Show],
        after: int | None,
        known: bool,
        again: Callable[[int | None], str],
    ) -> int:
        update: Record = {}
        try:
            with display as show:
                pushes = follow(self._target.address, self._target.token, id_, note, after=after, known=known)
                async with aclosing(paced(pushes, REFRESH)) as arriving:
                    async for news in arriving:
                        show(news)
                        if isinstance(news, Batch):
                            known, after = True, news.seq
                        elif news is not None:
                            known, update = True, news
        except asyncio.CancelledError:
            if known:
                end = self._target.command("cancel", id_)
                note(f"The deployment goes on without this command. Watch it again: {again(after)}, or end it: {end}")
            raise
        return EXIT_CODES[Status[update["status"]]]

    def _show_log(self, news: Record | Batch | None) -> None:
        if isinstance(news, Batch):
            show_log(sys.stdout, news, as_json=self._as_json)

    async def cancel(self, id_: str, force: bool) -> int:
        """Ask for the end of a stack update."""
        async with connect(self._target.address, self._target.token) as client:
            update = await client.cancel(id_, force=force)
        watching, forcing = self._target.command("watch", id_), self._target.command("cancel", id_, "--force")
        self._answer(update, cancelled_words(update, datetime.now(UTC), watching, forcing))
        return 0

    async def extend(self, id_: str, timeout: timedelta) -> int:
        """Ask for more time for a stack update."""
        async with connect(self._target.address, self._target.token) as client:
            update = await client.extend(id_, timeout)
        self._answer(update, extended_words(update, timeout))
        return 0

    async def list_updates(self, statuses: Sequence[str] | None, limit: int) -> int:
        """List stack updates."""
        async with connect(self._target.address, self._target.token) as client:
            found = await client.stack_updates(limit, statuses)
        headers = ("ID", "STATUS", "PHASE", "ACCEPTED", "BY", "RESOURCE", "STACK")
        self._table(found, headers, map(_update_row, found), "There are no such stack updates.")
        return 0

    async def list_resources(self, limit: int) -> int:
        """List cloud resources."""
        async with connect(self._target.address, self._target.token) as client:
            found = await client.cloud_resources(limit)
        headers = ("ID", "KIND", "NAME", "STACK", "CHANGED")
        self._table(found, headers, map(_resource_row, found), "There are no cloud resources.")
        return 0

    def _answer(self, record: Record, words: str) -> None:
        print_lines(sys.stdout, [Line(json_line(record) if self._as_json else clean(words))])

    def _table(
        self, found: Sequence[Record], headers: Sequence[str], rows: Iterable[tuple[str, ...]], none: str
    ) -> None:
        if self._as_json:
            print_lines(sys.stdout, [Line(json_line(record)) for record in found])
        elif found:
            table(sys.stdout, headers, list(rows))
        else:
            note(none)


def _update_row(update: Record) -> tuple[str, ...]:
    resource = update["cloudResource"]
    name = f"{resource['kind']}/{resource['name']}" if resource else "-"
    place, by = update["stackFqdn"] or "-", update["requestedBy"] or "-"
    return update["id"], update["status"], update["phase"].lower(), update["createdAt"], by, name, place


def _resource_row(resource: Record) -> tuple[str, ...]:
    return resource["id"], resource["kind"], resource["name"], resource["stackFqdn"] or "-", resource["updatedAt"]
