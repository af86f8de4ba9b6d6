"""What is seen of a real deployment while it goes on: lines, resources, diagnostics, progress, outputs."""

from __future__ import annotations

import hashlib
import json
from contextlib import aclosing
from itertools import groupby
from typing import Any

import pytest

from tests.acceptance.conftest import Start
from tests.acceptance.files import EVENTS, STACK_UPDATE, Files
from tests.provider import Log
from tests.service import PATIENCE, manifest

pytestmark = pytest.mark.external

FOREVER = 4 * PATIENCE


def lines(events: list[Any], stream: str = "STDOUT") -> list[str]:
    return [event["text"] for event in events if event["__typename"] == "LogLine" and event["stream"] == stream]


async def test_each_resource_is_seen_as_it_begins_and_ends(start: Start) -> None:
    """While a slow file is made it is in progress, in the log and in the record; default providers are never shown."""
    async with start() as running:
        files = Files(running.service)
        slow = files.file("slow", create_seconds=FOREVER)
        last = files.file("last", log=[Log("warning", "be careful")], depends_on=["slow"])
        id_ = await files.deploy(slow, last, outputs={"size": "${last.size}", "token": "${last.token}"})
        seen, during = [], None
        async for event in files.events(id_):
            seen.append(event)
            if event["__typename"] == "ResourceChanged" and during is None:
                await files.begun(slow)
                async with aclosing(running.service.watch(id_)) as changes:
                    async for _ in changes:
                        during = (await running.service.execute(STACK_UPDATE, id=id_))["stackUpdate"]
                        if during["progress"]["inProgress"]:
                            break
                slow.go.touch()
        ended = await files.ended(id_)
        again = await files.ended(await files.deploy(slow, last))

    assert during
    assert [(it["name"], it["operation"], it["state"]) for it in during["resources"]["nodes"]] == [
        ("slow", "CREATE", "IN_PROGRESS")
    ]
    steps = [event["resource"] for event in seen if event["__typename"] == "ResourceChanged"]
    assert [(it["name"], it["state"]) for it in steps] == [
        ("slow", "IN_PROGRESS"),
        ("slow", "DONE"),
        ("last", "IN_PROGRESS"),
        ("last", "DONE"),
    ]
    (warning,) = [event for event in seen if event["__typename"] == "DiagnosticReported"]
    assert (warning["severity"], warning["message"]) == ("WARNING", "be careful")
    assert warning["urn"].endswith("::last")
    assert any("slow creating" in line for line in lines(seen))
    assert [event["seq"] for event in seen] == list(range(1, len(seen) + 1))
    assert ended["progress"]["counts"] == [{"operation": "CREATE", "state": "DONE", "count": 2}]
    assert {it["name"]: it["value"] for it in ended["stackOutputs"]} == {"size": 0, "token": None}
    assert again["progress"]["counts"] == [{"operation": "SAME", "state": "DONE", "count": 2}]


async def test_the_total_is_known_from_the_deployment_before(start: Start) -> None:
    """While a stack of two files is deployed again the progress says that there will be two."""
    async with start() as running:
        files = Files(running.service)
        one, two = files.file("one"), files.file("two", depends_on=["one"])
        await files.ended(await files.deploy(one, two))
        slow = files.file("one", content="new", update_seconds=FOREVER)
        id_ = await files.deploy(slow, two)
        await files.begun(slow, "update")
        async with aclosing(running.service.watch(id_)) as changes:
            async for _ in changes:
                during = (await running.service.execute(STACK_UPDATE, id=id_))["stackUpdate"]["progress"]
                if during["inProgress"]:
                    break
        slow.go.touch()
        ended = await files.ended(id_)

    assert (during["total"], during["done"], during["inProgress"]) == (2, 0, 1)
    assert (ended["progress"]["total"], ended["progress"]["done"]) == (2, 2)


async def test_a_failure_half_way_leaves_what_was_done(start: Start) -> None:
    """The file before the failing one is DONE and its output known, the failing one FAILED, the one after not begun."""
    async with start() as running:
        files = Files(running.service)
        id_ = await files.deploy(
            files.file("first", content="12345"),
            files.file("bad", fail_on=["create"], depends_on=["first"]),
            files.file("never", depends_on=["bad"]),
            outputs={"size": "${first.size}"},
        )
        events = [event async for event in files.events(id_)]
        ended = await files.ended(id_)

    assert (ended["status"], ended["failure"]["kind"]) == ("FAILED", "RESOURCE_ERROR")
    assert [(it["name"], it["state"]) for it in ended["resources"]["nodes"]] == [("first", "DONE"), ("bad", "FAILED")]
    assert ended["stackOutputs"] == [{"name": "size", "value": 5, "secret": False}]
    assert any(event["__typename"] == "DiagnosticReported" and event["severity"] == "ERROR" for event in events)


async def test_a_replacement_is_shown_as_its_parts(start: Start) -> None:
    """A file that has to be replaced shows the creation, the deletion and the logical step that ties them."""
    async with start() as running:
        files = Files(running.service)
        await files.ended(await files.deploy(files.file("one", content="old")))
        ended = await files.ended(await files.deploy(files.file("one", content="new", replace_on_change=True)))

    assert {it["operation"]: it["state"] for it in ended["resources"]["nodes"]} == {
        "DELETE_REPLACED": "DONE",
        "REPLACE": "DONE",
        "CREATE_REPLACEMENT": "DONE",
    }


async def test_a_watcher_that_comes_back_misses_nothing_and_gets_nothing_twice(start: Start) -> None:
    """Reading on after any seq, over a new connection each time, gives the same events as one reading at once."""
    async with start() as running:
        files = Files(running.service)
        id_ = await running.service.deploy(manifest(spec="{lines: 3000}"))
        pieces, after, finished = [], 0, False
        while not finished:
            async with aclosing(running.service.subscribe(EVENTS, "stackUpdateEvents", id=id_, after=after)) as pushes:
                async for batch in pushes:
                    pieces += batch["events"]
                    after, finished = batch["seq"], batch["finished"]
                    if batch["events"]:
                        break  # the connection ends here, and a new one goes on
        whole = [event async for event in files.events(id_)]

    assert pieces == whole
    assert [event["seq"] for event in whole] == list(range(1, len(whole) + 1))


async def test_every_line_is_there_to_the_byte(start: Start) -> None:
    """20,000 lines come back whole and in order by subscription, by pages and as a download."""
    async with start() as running:
        files = Files(running.service)
        id_ = await running.service.deploy(manifest(spec="{lines: 20000}"))
        seen = lines([event async for event in files.events(id_)])
        text = await running.service.request("GET", f"/stack-updates/{id_}/log.txt")
        objects = await running.service.request("GET", f"/stack-updates/{id_}/log.ndjson?after=10")
        half = await running.service.request("GET", f"/stack-updates/{id_}/log.txt?after=15000")

    told = [line for line in seen if "line 00" in line]
    expected = [f"line {number:07} " + "." * 46 for number in range(20000)]
    # Pulumi itself, run by hand, too, prints one of them twice in a row now and then.
    first = [line for line, _ in groupby(line[line.index("line 00") :] for line in told)][:20000]
    assert digest(first) == digest(expected)
    printed = [line for line in text.body.decode().splitlines() if "line 00" in line]
    assert digest(printed) == digest(told)
    assert text.body.endswith(half.body)
    assert [json.loads(line)["seq"] for line in objects.body.splitlines()][:2] == [11, 12]


def digest(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
