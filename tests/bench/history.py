"""A page of stack updates at any depth, against the first page of the same list: 100,000 of them, in SQLite.

Every list is read through the store as the service reads it. The first page and one at a depth are read in turn, and
the medians compared.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from graphql_api.adapters.sqlite.database import SqliteDatabase, open_sqlite
from graphql_api.adapters.sqlite.history import SqliteHistory
from graphql_api.adapters.sqlite.rows import UPDATE_COLUMNS, marks
from graphql_api.adapters.stored import update_values
from graphql_api.domain.ports import Cursor, Slice, StackUpdateFilter
from graphql_api.domain.records import CloudResourceId, Ending, Operation, StackFqdn, StackUpdate, Status
from tests.builders import FAILURE, MANIFEST, NOON, SECOND, a_stack_update, to_success

COUNT = 100_000
GOAL = 1.3
PAGE = 20
DEPTHS = (0.1, 0.5, 0.9, 0.99)
OUTPUT = '{"stdout": "' + "x" * 2000 + '"}'

RESOURCE = CloudResourceId(f"{7:024x}")
STACK = StackFqdn("organization/bench/stack7")
LISTS = {
    "all": StackUpdateFilter(),
    "of a cloud resource": StackUpdateFilter(cloud_resource_id=RESOURCE),
    "of a status": StackUpdateFilter(statuses=frozenset({Status.FAILED})),
    "of two statuses": StackUpdateFilter(statuses=frozenset({Status.FAILED, Status.SUCCESS})),
    "of a stack": StackUpdateFilter(stack_fqdn=STACK),
    "of a cloud resource and a status": StackUpdateFilter(RESOURCE, frozenset({Status.SUCCESS})),
    "of all filters": StackUpdateFilter(
        RESOURCE, frozenset({Status.SUCCESS}), frozenset({Operation.UPDATE}), STACK, NOON, NOON + COUNT * SECOND
    ),
}


@dataclass(frozen=True, slots=True)
class Ratio:
    title: str
    first: float
    deep: float

    @property
    def value(self) -> float:
        return self.deep / self.first

    def __str__(self) -> str:
        return f"{self.title}: first {self.first * 1e6:.0f} µs, there {self.deep * 1e6:.0f} µs, ratio {self.value:.3f}"


async def main(rounds: int) -> bool:
    """Print every ratio and the largest; False when that misses the goal."""
    with tempfile.TemporaryDirectory() as directory:
        async with open_sqlite(Path(directory, "stackcast.db"), 600 * SECOND) as database:
            await fill(database)
            history = SqliteHistory(database)
            ratios = [
                await measure(history, title, where, depth, from_end, rounds)
                for title, where in LISTS.items()
                for from_end in (False, True)
                for depth in DEPTHS
            ]
    worst = max(ratios, key=lambda ratio: ratio.value)
    for line in (*ratios, f"the largest is {worst.value:.3f} ({worst.title}); the goal is at most {GOAL}"):
        print(line)  # noqa: T201
    return worst.value <= GOAL


async def fill(database: SqliteDatabase) -> None:
    """Of 50 cloud resources on 60 stacks; one in eight failed, the others succeeded."""
    sql = f"INSERT INTO stack_updates ({UPDATE_COLUMNS}, manifest, output) VALUES ({marks(UPDATE_COLUMNS)}, ?, ?)"  # noqa: S608
    rows = ((*update_values(update), MANIFEST, OUTPUT) for update in made())
    await database.write(lambda connection: connection.execute("BEGIN").rowcount)
    await database.write(lambda connection: connection.executemany(sql, rows).rowcount)
    await database.write(lambda connection: connection.execute("COMMIT").rowcount)


def made() -> Iterator[StackUpdate]:
    for number in range(COUNT):
        resource = number % 50
        update = a_stack_update(
            created_at=NOON + number * SECOND,
            cloud_resource_id=CloudResourceId(f"{resource:024x}"),
            stack_fqdn=StackFqdn(f"organization/bench/stack{resource if number % 9 else 50 + number % 10}"),
        )
        ended = to_success(update)[-1]
        failed = to_success(update)[2].failed(ended.updated_at, FAILURE, Ending(1))
        yield failed if number // 50 % 8 == 0 else ended


async def measure(
    history: SqliteHistory, title: str, where: StackUpdateFilter, depth: float, from_end: bool, rounds: int
) -> Ratio:
    """The first page and that at the depth, as a share of the list, read from the same end."""
    count = await history.count(where)
    skipped = await history.page(Slice(int((count - PAGE) * depth), from_end=from_end), where)
    edge = skipped[0] if from_end else skipped[-1]
    cursor = Cursor(edge.created_at, edge.id)
    deep = Slice(PAGE, before=cursor, from_end=True) if from_end else Slice(PAGE, after=cursor)
    first = Slice(PAGE, from_end=from_end)
    pairs = [
        (await timed(lambda: history.page(first, where)), await timed(lambda: history.page(deep, where)))
        for _ in range(rounds)
    ]
    medians = [statistics.median(column) for column in zip(*pairs, strict=True)]
    return Ratio(f"{title} ({count}), {depth:.0%} from the {'oldest' if from_end else 'newest'}", *medians)


async def timed(read: Callable[[], Awaitable[Sequence[StackUpdate]]]) -> float:
    start = time.perf_counter()
    page = await read()
    seconds = time.perf_counter() - start
    assert len(page) == PAGE
    return seconds


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300)
    sys.exit(not asyncio.run(main(parser.parse_args().rounds)))
