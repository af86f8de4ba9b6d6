"""The figures as a picture, in SVG: how far each is from its goal, on a scale on which twice as good is one step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

from tests.bench.report import TIMES, Figure

WIDTH, LEFT, RIGHT, ROW, TOP = 1200, 560, 190, 30, 60
#: The scale ends at a sixteenth and at sixteen times the goal; what is beyond is drawn at its end.
STEPS = 4
COLOURS = {True: "#2e7d32", False: "#c62828"}


def draw(figures: Sequence[Figure]) -> str:
    """A bar from the goal to the median for each figure, and a line over the range."""
    height = TOP + ROW * len(figures) + 20
    rows = (_row(figure, TOP + ROW * index) for index, figure in enumerate(figures))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">',
            f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
            _text(_place(1), 24, "how good: right of the line is better than the goal", "middle"),
            *(_gridline(2.0**step, height) for step in range(-STEPS, STEPS + 1)),
            *rows,
            "</svg>",
            "",
        ]
    )


def _row(figure: Figure, top: int) -> str:
    title = _text(LEFT - 10, top + 15, figure.measure.title, "end")
    if figure.met is None:
        return title + _text(_place(1) + 6, top + 15, "not measured")
    goal, end = _place(1), _place(figure.lead(figure.median))
    low, high = sorted(_place(figure.lead(value)) for value in (min(figure.values), max(figure.values)))
    return (
        f'{title}<rect x="{min(goal, end):.1f}" y="{top}" width="{abs(end - goal):.1f}" height="{ROW - 10}" '
        f'fill="{COLOURS[figure.met]}" fill-opacity="0.7"/>'
        f'<path d="M{low:.1f} {top + 10}H{high:.1f}" stroke="black"/>'
        + _text(WIDTH - RIGHT + 10, top + 15, f"{figure.measured.split(' (')[0]}  (goal {figure.goal})")
    )


def _gridline(lead: float, height: int) -> str:
    colour = "black" if lead == 1 else "#ddd"
    line = f'<path d="M{_place(lead):.1f} {TOP - 12}V{height - 10}" stroke="{colour}"/>'
    return line + _text(_place(lead), TOP - 18, f"{lead:g}{TIMES}", "middle")


def _place(lead: float) -> float:
    """Where a value stands that is so many times as good as the goal."""
    steps = max(-STEPS, min(STEPS, math.log2(lead))) if lead > 0 else STEPS
    return LEFT + (WIDTH - LEFT - RIGHT) * (steps + STEPS) / (2 * STEPS)


def _text(x: float, y: int, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y}" font-size="12" text-anchor="{anchor}">{escape(text)}</text>'
