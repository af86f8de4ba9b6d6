"""Nothing grows with the deployments but what is kept, and that only for as long as it is to be kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.soak.course import run
from tests.soak.samples import MIB, Sample, trends


async def test_a_hundred_deployments_leave_nothing_behind(tmp_path: Path) -> None:
    """Of all kinds, with watchers that come and go: afterwards the service has no more tasks, descriptors, threads,
    children, watches and files than half way, and its database and Pulumi's state have stopped growing.
    """
    lines: list[str] = []
    brief = {"STACKCAST_RETENTION_DAYS": "0.00002", "STACKCAST_RETENTION_NEWEST": "1"}

    samples, ended = await run(tmp_path, 100, brief, lines.append, rounds=10)

    assert ended == {"SUCCESS": 70, "FAILED": 20, "CANCELLED": 10}
    growing = [trend for trend in trends(samples) if trend.grows and trend.name != "memory"]  # it still warms up
    assert growing == [], "\n".join(lines)
    assert samples[-1].values["memory"] < samples[0].values["memory"] + 16 * MIB


# --- the verdict


def course(value: Callable[[int], float], name: str = "memory", deployments: int = 2000) -> list[Sample]:
    """Samples of one value, as it is after so many deployments."""
    return [Sample(count, {name: value(count)}) for count in range(50, deployments + 1, 50)]


@pytest.mark.parametrize(
    "value",
    [
        lambda count: 70 * MIB + 4096 * count,  # four KiB leak with each
        lambda count: 70 * MIB + 4096 * count + MIB * (count // 50 % 3),  # the same, among ups and downs
        lambda count: 70 * MIB + 2.5 * MIB * (count // 500),  # in large steps
    ],
)
def test_what_grows_is_told(value: Callable[[int], float]) -> None:
    """A leak is found by its slope, whatever the noise."""
    (trend,) = trends(course(value))

    assert trend.grows


@pytest.mark.parametrize(
    "value",
    [
        lambda _: 70 * MIB,
        lambda count: 70 * MIB + 8 * MIB * (count // 50 % 3),  # ups and downs
        lambda count: 70 * MIB + 20 * MIB * min(count / 900, 1),  # a warm-up
        lambda count: 70 * MIB - 4096 * count,
        lambda count: 70 * MIB + 500 * count,  # within what is allowed
    ],
)
def test_what_does_not_grow_is_not_told(value: Callable[[int], float]) -> None:
    """Neither noise nor a warm-up, nor what becomes less, is growth."""
    (trend,) = trends(course(value))

    assert not trend.grows


def test_one_descriptor_for_every_hundred_deployments_is_a_leak() -> None:
    """What is counted may not grow at all."""
    (trend,) = trends(course(lambda count: 15 + count // 100, "descriptors"))

    assert trend.grows
    assert round(trend.each, 3) == 0.01
