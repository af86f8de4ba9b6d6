"""A page of stack updates at any depth, against the first page of the same list, in SQLite.

Every list is read through the store as the service reads it. The first page and one at a depth are read in turn, and
the medians compared.
"""

from __future__ import annotations

import sqlite3
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial

from graphql_api.adapters.sqlite.database import SqliteDatabase, open_sqlite
from graphql_api.adapters.sqlite.history import SqliteHistory
from graphql_api.adapters.sqlite.rows import UPDATE_COLUMNS, marks
from graphql_api.adapters.stored import UPDATE_FIELDS, update_values
from graphql_api.domain.ports import Cursor, Slice, StackUpdateFilter
from graphql_api.domain.records import CloudResourceId, Ending, Operation, StackFqdn, StackUpdate, Status
from tests.bench.report import TIMES, Figure, Measure
from tests.bench.stage import Stage
from tests.builders import FAILURE, MANIFEST, NOON, SECOND, a_stack_update, to_success

PAGE = 20
DEPTHS = (0.1, 0.5, 0.9)
DEEP = Measure("page at 90 % of the depth of the list in SQLite, against the first", TIMES, "≤", 1.3)
OUTPUT = '{"stdout": "' + "x" * 500 + '"}'
#: After so many, in which each comes as often as it should, they repeat but for their times and ids.
PERIOD = 3600

RESOURCE = CloudResourceId(f"{7:024x}")
STACK = StackFqdn("organization/bench/stack7")


async def measure(stage: Stage) -> AsyncIterator[Figure]:
    """Of the list of all, and of the list, end and depth whose ratio is the largest."""
    count = stage.scale.history
    async with open_sqlite(stage.directory() / "stackcast.db", 600 * SECOND) as database:
        await fill(database, count)
        history = SqliteHistory(database)
        figures = {
            (title, depth, from_end): DEEP.ratio(
                **await compare(stage, history, where, deep_page(count, depth, from_end))
            )
            for title, where in lists(count).items()
            for from_end in (False, True)
            for depth in DEPTHS
        }
    yield figures["all", 0.9, False]
    (title, depth, from_end), worst = max(figures.items(), key=lambda item: item[1].median)
    name = f"the worst of {len(figures)} such: {title}, at {depth:.0%} from the {'oldest' if from_end else 'newest'}"
    yield replace(worst, measure=replace(DEEP, title=name))


def lists(count: int) -> dict[str, StackUpdateFilter]:
    """Of every filter, and some together."""
    succeeded = frozenset({Status.SUCCESS})
    return {
        "all": StackUpdateFilter(),
        "of a cloud resource": StackUpdateFilter(cloud_resource_id=RESOURCE),
        "of a status": StackUpdateFilter(statuses=frozenset({Status.FAILED})),
        "of two statuses": StackUpdateFilter(statuses=frozenset({Status.FAILED, Status.SUCCESS})),
        "of a stack": StackUpdateFilter(stack_fqdn=STACK),
        "of a cloud resource and a status": StackUpdateFilter(RESOURCE, succeeded),
        "of all filters": StackUpdateFilter(
            RESOURCE, succeeded, frozenset({Operation.UPDATE}), STACK, NOON, NOON + count * SECOND
        ),
    }


def deep_page(count: int, depth: float, from_end: bool) -> Slice:
    """So far into any of the lists: they are spread evenly, one stack update a second in all."""
    if from_end:
        return Slice(PAGE, before=place(NOON + int(count * depth) * SECOND), from_end=True)
    return Slice(PAGE, after=place(NOON + int(count * (1 - depth)) * SECOND))


def place(moment: datetime) -> Cursor:
    return Cursor(moment, "")


async def compare(
    stage: Stage, history: SqliteHistory, where: StackUpdateFilter, deep: Slice
) -> dict[str, list[float]]:
    """The medians of each round, in microseconds: those of the page at the depth, and of the first from that end."""
    first = Slice(PAGE, from_end=deep.from_end)
    found: dict[str, list[float]] = {"deep_µs": [], "first_µs": []}
    for _ in range(stage.scale.rounds):
        pairs = [
            (await timed(lambda: history.page(deep, where)), await timed(lambda: history.page(first, where)))
            for _ in range(stage.scale.pages)
        ]
        for times, median in zip(found.values(), map(statistics.median, zip(*pairs, strict=True)), strict=True):
            times.append(median * 1e6)
    return found


async def timed(read: Callable[[], Awaitable[Sequence[StackUpdate]]]) -> float:
    start = time.perf_counter()
    page = await read()
    seconds = time.perf_counter() - start
    assert len(page) == PAGE
    return seconds


async def fill(database: SqliteDatabase, count: int) -> None:
    """Of 50 cloud resources on 60 stacks; one in eight failed, the others succeeded."""
    columns = f"{UPDATE_COLUMNS}, manifest, output"
    first = min(count, PERIOD)
    insert = f"INSERT INTO stack_updates ({columns}) VALUES ({marks(columns)})"  # noqa: S608 (names only)
    rows = [(*update_values(update), MANIFEST, OUTPUT) for update in made(first)]
    repeat = (
        f"INSERT INTO stack_updates ({columns}) SELECT {repetition()}, manifest, output FROM stack_updates LIMIT :limit"  # noqa: S608
    )
    await database.write(lambda connection: connection.execute("BEGIN").rowcount)
    await database.write(lambda connection: connection.executemany(insert, rows).rowcount)
    while first < count:
        parameters = {"later": first * 1000, "limit": min(first, count - first)}
        await database.write(partial(execute, repeat, parameters))
        first += parameters["limit"]
    await database.write(lambda connection: connection.execute("COMMIT").rowcount)


def execute(sql: str, parameters: dict[str, int], connection: sqlite3.Connection) -> int:
    return connection.execute(sql, parameters).rowcount


def repetition() -> str:
    """The columns of a stack update that came so much later; an id begins with its seconds."""
    later = {name: f"{name} + :later" for name in UPDATE_FIELDS if name.endswith("_at")}
    return ", ".join(
        {**later, "id": "printf('%08x', (created_at + :later) / 1000) || substr(id, 9)"}.get(name, name)
        for name in UPDATE_FIELDS
    )


def made(count: int) -> Iterator[StackUpdate]:
    for number in range(count):
        resource = number % 50
        update = a_stack_update(
            created_at=NOON + number * SECOND,
            cloud_resource_id=CloudResourceId(f"{resource:024x}"),
            stack_fqdn=StackFqdn(f"organization/bench/stack{resource if number % 9 else 50 + number % 10}"),
        )
        ended = to_success(update)[-1]
        failed = to_success(update)[2].failed(ended.updated_at, FAILURE, Ending(1))
        yield failed if number // 50 % 8 == 0 else ended
