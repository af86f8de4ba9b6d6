"""The test provider under the real Pulumi CLI: what it does to files, and what Pulumi's events say of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runners.process import identify
from runners.toolchain import PulumiCli
from tests.provider import FileResource, Log, install, module
from tests.runner.waiting import LIMIT, eventually

pytestmark = pytest.mark.external

STACK = "organization/files/one"
QUIET = ("--non-interactive", "--color", "never")


@dataclass(frozen=True)
class Ended:
    """What a run left: its exit status, its events in order, and what it said on both streams."""

    status: int | None
    events: list[dict[str, Any]]
    said: str

    def bodies(self, kind: str) -> list[dict[str, Any]]:
        return [event[kind] for event in self.events if kind in event]

    def steps(self, kind: str = "resOutputsEvent") -> list[tuple[str, str]]:
        """The operations on files that have ended, each with the resource's name."""
        steps = [body["metadata"] for body in self.bodies(kind)]
        return [(step["op"], step["urn"].split("::")[-1]) for step in steps if step["type"] == "filetest:index:File"]

    def texts(self, severity: str) -> list[str]:
        return [it["message"].strip() for it in self.bodies("diagnosticEvent") if it["severity"] == severity]


class Run:
    """A Pulumi that may still be running."""

    def __init__(self, process: asyncio.subprocess.Process, events: Path) -> None:
        self.process = process
        self._events = events

    async def end(self) -> Ended:
        async with asyncio.timeout(LIMIT):
            said = (await self.process.communicate())[0].decode()
        lines = self._events.read_text().splitlines() if self._events.exists() else []
        return Ended(self.process.returncode, [json.loads(line) for line in lines], said)


@dataclass(frozen=True)
class Stack:
    """A stack of the real Pulumi whose files are below ``root``."""

    cli: Path
    root: Path

    @asynccontextmanager
    async def running(self, resources: Sequence[FileResource], *options: str, **outputs: str) -> AsyncIterator[Run]:
        """`pulumi up` of these resources."""
        module(self.root / "module", resources, outputs)
        events = self.root / "events"
        events.unlink(missing_ok=True)
        quick = ("--yes", "--skip-preview", "--suppress-progress", "--event-log", str(events))
        process = await self._start("up", *quick, *options)
        try:
            yield Run(process, events)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def up(self, resources: Sequence[FileResource], *options: str, **outputs: str) -> Ended:
        async with self.running(resources, *options, **outputs) as run:
            return await run.end()

    async def command(self, *arguments: str) -> str:
        """What a command that must succeed prints."""
        process = await self._start(*arguments)
        async with asyncio.timeout(LIMIT):
            said = (await process.communicate())[0].decode()
        assert process.returncode == 0, said
        return said

    async def _start(self, *arguments: str) -> asyncio.subprocess.Process:
        environment = {
            "PATH": f"{self.cli.parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.root),
            "PULUMI_HOME": str(self.root / "pulumi"),
            "PULUMI_BACKEND_URL": f"file://{self.root / 'state'}",
            "PULUMI_CONFIG_PASSPHRASE": "any",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DEBUG_COMMANDS": "true",
        }
        return await asyncio.create_subprocess_exec(
            *(str(self.cli), *arguments, "--stack", STACK, *QUIET),
            env=environment,
            cwd=self.root / "module",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )


@pytest.fixture
async def stack(tmp_path: Path, pulumi_cli: PulumiCli) -> Stack:
    """A new stack, and the provider where Pulumi finds it."""
    install(tmp_path / "pulumi")
    (tmp_path / "state").mkdir()
    module(tmp_path / "module", [])
    stack = Stack(pulumi_cli.path, tmp_path)
    await stack.command("stack", "init", "--no-select")
    return stack


async def test_a_file_is_made_left_alone_changed_and_removed(stack: Stack) -> None:
    """A resource is a file on disk that follows its program, and Pulumi finds the provider without a warning."""
    path = stack.root / "files" / "one"
    made = await stack.up([FileResource("one", path, "first")], size="${one.size}", hidden="${one.token}")
    content = path.read_text()
    same = await stack.up([FileResource("one", path, "first")])
    changed = await stack.up([FileResource("one", path, "second")])
    content_then = path.read_text()
    removed = await stack.up([])

    assert [ended.status for ended in (made, same, changed, removed)] == [0, 0, 0, 0], made.said
    assert made.steps() == [("create", "one")]
    assert same.steps() == [("same", "one")]
    assert changed.steps() == [("update", "one")]
    assert removed.steps() == [("delete", "one")]
    assert (content, content_then, path.exists()) == ("first", "second", False)
    outputs = made.bodies("resOutputsEvent")[-1]["metadata"]["new"]["outputs"]
    assert (outputs["size"], outputs["hidden"]["ciphertext"]) == (5, "[secret]")
    assert made.texts("warning") + made.texts("error") + made.texts("info#err") == []


async def test_a_replaced_file_is_there_afterwards_in_either_order(stack: Stack) -> None:
    """A new path is made before the old one is deleted; a replacement at the same path deletes first."""
    old, new = stack.root / "old", stack.root / "new"
    await stack.up([FileResource("one", old, "first")])
    moved = await stack.up([FileResource("one", new, "first")])
    left = (old.exists(), new.exists())
    replaced = await stack.up([FileResource("one", new, "second", replace_on_change=True)])

    assert moved.steps() == [("create-replacement", "one"), ("replace", "one"), ("delete-replaced", "one")]
    assert replaced.steps() == [("delete-replaced", "one"), ("replace", "one"), ("create-replacement", "one")]
    assert (left, new.read_text()) == ((False, True), "second")


async def test_operations_fail_where_they_are_asked_to(stack: Stack) -> None:
    """A failing create, update, delete or check fails the run, in the provider's words, and changes nothing."""
    good, bad = stack.root / "good", stack.root / "bad"
    failing = FileResource("bad", bad, fail_on=["create"])
    create = await stack.up([FileResource("good", good), failing, FileResource("late", bad, depends_on=["bad"])])
    update = await stack.up([FileResource("good", good, "more", fail_on=["update"])])
    check = await stack.up([FileResource("good", good, fail_on=["check"])])
    await stack.up([FileResource("good", good, fail_on=["delete"])])
    delete = await stack.up([])

    assert [ended.status for ended in (create, update, check, delete)] == [1, 1, 1, 1]
    assert (create.steps(), create.steps("resOpFailedEvent")) == ([("create", "good")], [("create", "bad")])
    assert "create fails as asked" in create.texts("error")
    assert update.steps("resOpFailedEvent") == [("update", "good")]
    assert (check.steps("resOpFailedEvent"), "check fails as asked" in check.said) == ([], True)
    assert delete.steps("resOpFailedEvent") == [("delete", "good")]
    assert (good.read_text(), bad.exists()) == ("", False)


async def test_a_slow_create_honours_one_sigterm(stack: Stack) -> None:
    """Cancel ends a slow create at once: the resource has failed, and nothing is pending or on disk."""
    slow = FileResource("slow", stack.root / "slow", create_seconds=100)
    async with stack.running([FileResource("quick", stack.root / "quick"), slow]) as run:
        await eventually(slow.began("create").exists)
        run.process.send_signal(signal.SIGTERM)
        ended = await run.end()

    assert ended.status == 1
    assert (ended.steps(), ended.steps("resOpFailedEvent")) == ([("create", "quick")], [("create", "slow")])
    assert "create was cancelled" in ended.texts("error")
    assert (await pending(stack), slow.path.exists()) == ([], False)


async def test_a_deaf_create_goes_on_after_one_sigterm(stack: Stack) -> None:
    """A create that ignores Cancel is waited for, and is over as soon as a test lets it go."""
    deaf = FileResource("deaf", stack.root / "deaf", create_seconds=100, ignore_cancel=True)
    async with stack.running([deaf]) as run:
        await eventually(deaf.began("create").exists)
        run.process.send_signal(signal.SIGTERM)
        await eventually(lambda: "SIGTERM received" in (stack.root / "events").read_text())
        deaf.go.touch()
        ended = await run.end()

    assert (ended.status, ended.bodies("summaryEvent")[0]["result"]) == (1, "failed")
    assert ended.steps() == [("create", "deaf")]
    assert (await pending(stack), deaf.path.exists()) == ([], True)


async def test_a_deaf_create_is_left_pending_by_two_sigterms(stack: Stack) -> None:
    """The second signal ends Pulumi and the provider at once; the create has no end in the events and is pending."""
    deaf = FileResource("deaf", stack.root / "deaf", create_seconds=100, ignore_cancel=True)
    async with stack.running([deaf]) as run:
        await eventually(deaf.began("create").exists)
        run.process.send_signal(signal.SIGTERM)
        await eventually(lambda: "SIGTERM received" in (stack.root / "events").read_text())
        run.process.send_signal(signal.SIGTERM)
        ended = await run.end()

    assert (ended.status, ended.bodies("summaryEvent")[0]["result"]) == (8, "canceled")
    assert ended.steps("resourcePreEvent") == [("create", "deaf")]
    assert ended.steps() + ended.steps("resOpFailedEvent") == []
    assert (await pending(stack), deaf.path.exists()) == ([("creating", "deaf")], False)


async def test_texts_are_logged_with_their_severity_and_resource(stack: Stack) -> None:
    """What a file logs is in the events with its resource; that it logs an error does not fail it."""
    log = [Log("info", "once\ntwice"), Log("info", "again", times=3), Log("warning", "mind"), Log("error", "alas")]
    ended = await stack.up([FileResource("one", stack.root / "one", log=log)])

    about = {it["urn"].split("::")[-1] for it in ended.bodies("diagnosticEvent") if "urn" in it}
    assert (ended.status, about) == (0, {"one"})
    assert ended.texts("info") == ["once\ntwice", "again", "again", "again"]
    assert (ended.texts("warning"), ended.texts("error")) == (["mind"], ["alas"])


async def test_a_secret_content_is_nowhere_in_the_clear_but_in_the_file(stack: Stack) -> None:
    """A secret file's content is masked in events and texts, and encrypted in the state."""
    path = stack.root / "one"
    ended = await stack.up([FileResource("one", path, "open sesame", secret=True)], content="${one.content}")

    assert (ended.status, path.read_text()) == (0, "open sesame")
    assert "open sesame" not in json.dumps(ended.events) + ended.said + await stack.command("stack", "export")


async def test_a_refresh_repairs_what_somebody_else_did(stack: Stack) -> None:
    """A file that was changed or removed outside is seen by a refresh and is as its program says afterwards."""
    changed, removed = [FileResource(name, stack.root / name, "mine") for name in ("changed", "removed")]
    files = [changed, removed, FileResource("untouched", stack.root / "untouched")]
    await stack.up(files)
    changed.path.write_text("somebody else's")
    removed.path.unlink()
    ended = await stack.up(files, "--refresh")

    assert ended.status == 0
    assert [file.path.read_text() for file in files] == ["mine", "mine", ""]
    steps = {step for step in ended.steps() if step[0] != "refresh"}
    assert steps == {("update", "changed"), ("create", "removed"), ("same", "untouched")}


async def test_a_provider_ends_with_its_parent(tmp_path: Path) -> None:
    """When the process that started it is killed, so that it can't be told, the provider ends."""
    starting = "import subprocess, sys; it = subprocess.Popen(sys.argv[1:]); print(it.pid, flush=True); it.wait()"
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", starting, str(install(tmp_path)), "127.0.0.1:1"),
        cwd=tmp_path,  # so that it does not outlive the tests in any case
        stdout=asyncio.subprocess.PIPE,
    )
    assert parent.stdout
    async with asyncio.timeout(LIMIT):
        pid, port = [int(await parent.stdout.readline()) for _ in range(2)]
    parent.kill()
    await parent.wait()

    assert port
    await eventually(lambda: identify(pid) is None)


async def pending(stack: Stack) -> list[tuple[str, str]]:
    """The stack's pending operations, each with the resource's name."""
    deployment = json.loads(await stack.command("stack", "export"))["deployment"]
    operations = deployment.get("pending_operations") or []
    return [(operation["type"], operation["resource"]["urn"].split("::")[-1]) for operation in operations]
