"""Reading and following what a deployment does: its log, its resources and its place in the queue."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests import fake_pulumi, provider
from tests.acceptance.command import begin, end, on_a_terminal, screen, serving_process, stackcast, variables
from tests.acceptance.conftest import Start
from tests.provider import FileResource
from tests.runner.waiting import eventually
from tests.service import PATIENCE, Service, manifest, running_service


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    """A service in this process, with a manifest in `one.yaml` for the kind Thing."""
    fake_pulumi.install(tmp_path / "bin")
    (tmp_path / "one.yaml").write_text(manifest())
    async with running_service(tmp_path) as running:
        running.module("Thing")
        yield running


async def read_until(process: asyncio.subprocess.Process, word: str) -> list[str]:
    """The lines that it prints up to the first with this word."""
    assert process.stdout is not None
    lines: list[str] = []
    async with asyncio.timeout(PATIENCE):
        while not lines or word not in lines[-1]:
            line = await process.stdout.readline()
            assert line, lines
            lines.append(line.decode())
    return lines


def seqs(events: list[dict[str, Any]]) -> list[int]:
    return [event["seq"] for event in events]


# --- the log


async def test_logs_prints_what_there_is_and_ends(service: Service) -> None:
    """While the deployment runs, its lines so far are printed as they are; all else has the time in front."""
    service.module("Thing", sleep=60, stdout="one\ttab\nand more")
    id_ = await service.deploy(manifest())
    following = await begin(variables(service), service.root, "logs", id_, "--follow")
    await read_until(following, "and more")
    now = await stackcast(service, "logs", id_)
    following.kill()
    await end(following)

    assert (now.code, now.err) == (0, "")
    lines = now.out.splitlines()
    assert [re.sub(r"^[0-9T:.-]+Z  ", "@", line) for line in lines[:3]] == [
        "@IN_PROGRESS  queued",
        "@IN_PROGRESS  preparing",
        "@IN_PROGRESS  running",
    ]
    assert {"one     tab", "and more"} <= set(lines)


async def test_logs_as_json_is_every_event_after_a_number(service: Service) -> None:
    """One object for each event; --after leaves out those up to a number, and one that there is not is refused."""
    service.module("Thing", stdout="a\nb")
    id_ = await service.deploy(manifest())
    await service.outcome(id_)
    everything = await stackcast(service, "logs", id_, "--json")
    rest = await stackcast(service, "logs", id_, "--json", "--after", "4")
    none = await stackcast(service, "logs", id_, "--after", str(len(everything.records)))
    ahead = await stackcast(service, "logs", id_, "--after", "1000")

    assert seqs(everything.records) == list(range(1, len(everything.records) + 1))
    assert rest.records == everything.records[4:]
    assert everything.records[-1]["status"] == "SUCCESS"
    assert (none.code, none.out) == (0, "")
    assert (ahead.code, ahead.out) == (2, "")
    assert f"has seq {len(everything.records)}" in ahead.sentence


@pytest.mark.parametrize(("plan", "code"), [({}, 0), ({"error": "no", "exit": 255}, 1)])
async def test_followed_logs_end_with_the_outcome(service: Service, plan: dict[str, Any], code: int) -> None:
    """--follow ends when the stack update does, and the exit code is its outcome; so it is where nothing is left."""
    service.module("Thing", stdout="said", **plan)
    id_ = await service.deploy(manifest())
    followed = await stackcast(service, "logs", id_, "--follow", "--json")
    nothing = await stackcast(service, "logs", id_, "--follow", "--after", str(len(followed.records)))

    assert (followed.code, nothing.code, nothing.out) == (code, code, ""), nothing
    assert "said" in [event.get("text") for event in followed.records]
    assert followed.records[-1]["phase"] == "FINISHED"


async def test_an_interrupted_reader_is_told_where_to_read_on(service: Service) -> None:
    """After Ctrl-C the sentence names a command that goes on with the next event: none is missing, none comes twice."""
    service.module("Thing", sleep=60, stdout="\n".join("abcdefgh"))
    id_ = await service.deploy(manifest())
    first = await begin(variables(service), service.root, "logs", id_, "--follow", "--json")
    lines = await read_until(first, '"h"')
    first.send_signal(signal.SIGINT)
    interrupted = await end(first)
    again, cancel = re.findall("`stackcast (.*?)`", interrupted.err)
    await stackcast(service, *shlex.split(cancel))
    second = await stackcast(service, *shlex.split(again), "--json")

    events = [json.loads(line) for line in [*lines, *interrupted.out.splitlines()]] + second.records
    assert (interrupted.code, second.code) == (130, 3)
    assert seqs(events) == list(range(1, len(events) + 1))


async def test_a_log_is_followed_through_a_crash_of_the_service(tmp_path: Path) -> None:
    """Through kill -9 and a restart the log goes on where it was: every seq comes once, to the success."""
    fake_pulumi.install(tmp_path / "bin")
    (tmp_path / "one.yaml").write_text(manifest())
    Service("", tmp_path).module("Thing", sleep=4, stdout="begun")
    async with serving_process(tmp_path, "0") as (first, address):
        service = Service(address, tmp_path)
        id_ = await service.deploy(manifest())
        process = await begin(variables(service), tmp_path, "logs", id_, "--follow", "--json")
        lines = await read_until(process, '"begun"')
        first.kill()
        await first.wait()
        async with serving_process(tmp_path, address.split(":")[1]):
            ended = await end(process)

    events = [json.loads(line) for line in [*lines, *ended.out.splitlines()]]
    assert ended.code == 0, ended
    assert seqs(events) == list(range(1, len(events) + 1))
    assert events[-1]["phase"] == "FINISHED"
    assert f"Connected to http://{address} again." in ended.err


# --- while it runs


async def test_a_line_is_shown_while_the_deployment_runs(service: Service) -> None:
    """What Pulumi prints is there at once, in a pipe as well."""
    service.module("Thing", sleep=60, stdout="here it is")
    watching = await begin(variables(service), service.root, "deploy", "-f", "one.yaml", "--follow")
    lines = await read_until(watching, "here it is")
    watching.kill()
    await end(watching)

    assert lines[-1] == "here it is\n"


async def test_a_flood_of_lines_passes_through_a_terminal(service: Service) -> None:
    """Tens of thousands of lines come one after the other, none is missing, and the picture is what is left below."""
    numbers = range(30_000)
    service.module("Thing", stdout="\n".join(f"line {number:05};" for number in numbers))
    environ = variables(service, TERM="xterm-256color")
    code, printed = await on_a_terminal(environ, service.root, "deploy", "-f", "one.yaml", "--follow")

    assert code == 0
    assert re.findall(r"line (\d{5});", printed) == [f"{number:05}" for number in numbers]
    left = [line for line in screen(printed) if line]
    assert left[-2].startswith("SUCCESS  finished")


async def test_one_that_waits_shows_its_place(service: Service) -> None:
    """Behind another deployment of its stack its number is shown, and which one it waits for."""
    service.module("Thing", sleep=60)
    first = await service.deploy(manifest())
    await eventually(lambda: any(start.startswith("up ") for start in service.starts()))
    service.module("Thing")
    process = await begin(variables(service), service.root, "deploy", "-f", "one.yaml", "--follow")
    lines = await read_until(process, "in the queue")
    await stackcast(service, "cancel", first)
    ended = await end(process)

    assert ended.code == 0, ended
    assert lines[-1].endswith(
        f"  IN_PROGRESS  queued  number 1 in the queue, after stack update {first} of its stack\n"
    )


async def test_where_a_stack_is_busy_the_user_says_what_to_do(service: Service) -> None:
    """reject refuses with a sentence, join answers with the one that is there, supersede-pending takes its place."""
    service.module("Thing", sleep=60)
    running = await service.deploy(manifest())
    waiting = (await stackcast(service, "deploy", "-f", "one.yaml")).out.strip()
    refused = await stackcast(service, "deploy", "-f", "one.yaml", "--when-busy", "reject")
    joined = await stackcast(service, "deploy", "-f", "one.yaml", "--when-busy", "join")
    instead = await stackcast(service, "deploy", "-f", "one.yaml", "--when-busy", "supersede-pending")
    superseded = await stackcast(service, "watch", waiting)
    for id_ in (running, instead.out.strip()):
        await stackcast(service, "cancel", id_, "--force")

    assert (refused.code, refused.out) == (2, "")
    assert "is being deployed by the stack update" in refused.sentence
    assert joined.out.strip() in (running, waiting)
    assert joined.sentence.startswith(f"Joining stack update {joined.out.strip()}")
    assert instead.out.strip() not in (running, waiting)
    assert superseded.code == 3, superseded
    assert "It was ended, since a newer deployment takes its place." in superseded.out


async def test_the_same_key_deploys_once(service: Service) -> None:
    """A request that is repeated under its key is answered with the same stack update, and says so."""
    first, second = [
        await stackcast(service, "deploy", "-f", "one.yaml", "--idempotency-key", "k", "--json") for _ in range(2)
    ]
    other = await stackcast(service, "deploy", "-f", "one.yaml", "--idempotency-key", "k", "--timeout", "77")

    assert first.records[0]["id"] == second.records[0]["id"]
    assert [ended.records[0]["joined"] for ended in (first, second)] == [False, True]
    assert (other.code, other.out) == (2, "")
    assert first.records[0]["id"] in other.sentence
    await service.outcome(first.records[0]["id"])


@pytest.mark.external
async def test_the_real_pulumis_resources_are_shown(start: Start, real: dict[str, str]) -> None:
    """Each resource that changes has lines of its begin and its end; the picture names what is in hand, and counts."""
    async with start() as running:
        service = running.service
        provider.install(service.data / "pulumi")
        quick, slow = (FileResource(name, service.root / name, update_seconds=2) for name in ("quick", "slow"))
        provider.module(service.root / "modules" / "thing", [quick, slow])
        (service.root / "one.yaml").write_text(manifest())
        more = {"PATH": real["PATH"]}
        made = await stackcast(service, "deploy", "-f", "one.yaml", "--follow", **more)
        provider.module(service.root / "modules" / "thing", [quick, replace(slow, content="more")])
        environ = variables(service, TERM="xterm-256color", **more)
        code, printed = await on_a_terminal(environ, service.root, "deploy", "-f", "one.yaml", "--follow")

    assert (made.code, code) == (0, 0), made
    for name in ("quick", "slow"):
        assert re.search(rf"Z  create {name} \(filetest:index:File\): in progress$", made.out, re.MULTILINE)
        assert re.search(rf"Z  create {name} \(filetest:index:File\): done in \d s$", made.out, re.MULTILINE)
    assert re.search(r"^    update slow \(filetest:index:File\)  1 s", printed, re.MULTILINE)
    assert "quick (filetest:index:File): " not in printed
    assert re.search(r"1 of \d done, 1 in progress", printed)
    assert "  2 of 2 done" in screen(printed)
