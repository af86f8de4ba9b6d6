"""What was measured, as JSON and as a Markdown table."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Values = Sequence[float]
#: The unit of ratios.
TIMES = "\N{MULTIPLICATION SIGN}"


@dataclass(frozen=True, slots=True)
class Measure:
    """What is measured, in which unit, and what its median is to be at most or at least."""

    title: str
    unit: str
    sign: Literal["≤", "≥"]
    goal: float

    def found(self, values: Values, **systems: Values) -> Figure:
        """With a value of each round, and what each of the systems was measured at in each."""
        return Figure(self, values, systems)

    def ratio(self, **systems: Values) -> Figure:
        """The first system's value over the second's, round by round."""
        first, second = systems.values()
        return self.found([one / other for one, other in zip(first, second, strict=True)], **systems)

    def missing(self, why: str) -> Figure:
        """Not measured."""
        return Figure(self, why=why)


@dataclass(frozen=True, slots=True)
class Figure:
    """A measure's values, one of each round; none where it could not be measured, and why not."""

    measure: Measure
    values: Values = ()
    systems: Mapping[str, Values] = field(default_factory=dict)
    why: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the median reaches the goal; None where nothing was measured."""
        if not self.values:
            return None
        return self.median <= self.measure.goal if self.measure.sign == "≤" else self.median >= self.measure.goal

    @property
    def lead(self) -> Callable[[float], float]:
        """How good a value is: 1 is the goal, 2 twice as good."""
        goal = self.measure.goal
        return (lambda value: goal / value) if self.measure.sign == "≤" else (lambda value: value / goal)

    @property
    def measured(self) -> str:
        """The median and the range."""
        if not self.values:
            return f"not measured: {self.why}"
        low, high = min(self.values), max(self.values)
        return f"{_amount(self.median, self.measure.unit)} ({_number(low)} to {_number(high)})"

    @property
    def goal(self) -> str:
        return f"{self.measure.sign} {_amount(self.measure.goal, self.measure.unit)}"

    @property
    def medians(self) -> str:
        """Each system's own."""
        return ", ".join(f"{name} {_number(statistics.median(values))}" for name, values in self.systems.items())

    def __str__(self) -> str:
        return f"{self.measure.title}: {self.measured}; the goal is {self.goal}"


def table(figures: Sequence[Figure], circumstances: Mapping[str, object]) -> str:
    """In Markdown, below what it was measured with."""
    met = {True: "yes", False: "**no**", None: "?"}
    return "\n".join(
        [
            *(f"- {name}: {value}" for name, value in circumstances.items()),
            "",
            "| Measure | Goal | Measured: median (range) | Met | Rounds | Medians of the systems |",
            "|---|---|---|---|---|---|",
            *(
                f"| {figure.measure.title} | {figure.goal} | {figure.measured} | {met[figure.met]} "
                f"| {len(figure.values)} | {figure.medians} |"
                for figure in figures
            ),
            "",
        ]
    )


def to_json(figures: Sequence[Figure], circumstances: Mapping[str, object]) -> str:
    """All that is known of them."""
    return json.dumps(
        {
            "circumstances": dict(circumstances),
            "figures": [
                {
                    "measure": figure.measure.title,
                    "unit": figure.measure.unit,
                    "goal": figure.goal,
                    "met": figure.met,
                    "median": figure.median if figure.values else None,
                    "values": list(figure.values),
                    "systems": {name: list(values) for name, values in figure.systems.items()},
                    "not_measured": figure.why or None,
                }
                for figure in figures
            ],
        },
        indent=2,
        ensure_ascii=False,
    )


def _amount(value: float, unit: str) -> str:
    return f"{_number(value)}{unit}" if unit == TIMES else f"{_number(value)} {unit}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
