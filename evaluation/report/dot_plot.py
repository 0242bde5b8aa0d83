"""Scores or differences with their intervals, a row for each task, as inline SVG."""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from sesame.pretrain.monitoring.scale import Scale, label, limits, ticks

WIDTH, RIGHT, TOP, BOTTOM = 960, 165, 6, 36
CHARACTER, WIDEST_TITLE = 7.0, 330
"""Width of a character of a title, and of the column of titles at most."""
MARK_HEIGHT, ROW_SPACE = 17, 13
MOST_ROWS = 16
"""Rows of one picture."""


class Mark(NamedTuple):
    """One value of a row."""

    value: float
    interval: tuple[float, float]
    """NaN where it is not known."""
    dots: Sequence[float]
    """Smaller marks, such as the seeds."""
    colour: int
    """Number of a colour of the style sheet."""
    text: str
    """At the end of the row."""


class PlotRow(NamedTuple):
    """The marks of one task, below each other."""

    title: str
    marks: Sequence[Mark]
    level: float = math.nan
    """A dashed line across the row."""
    is_total: bool = False
    """Separated from the rows above."""


class Plot(NamedTuple):
    """The whole picture."""

    title: str
    unit: str
    legend: Sequence[tuple[str, str]]
    """(class, name)"""
    rows: Sequence[PlotRow]
    zero: bool = False
    """Draw a line at 0, which differences are compared with."""
    bounds: tuple[float, float] = (-math.inf, math.inf)
    """What is outside is not drawn: intervals of few seeds are wider than the scores can be."""

    def html(self) -> str:
        """Return a figure. Many rows are drawn in several pictures of one scale, between which a page may end."""
        low, high = self.bounds
        numbers = [number for row in self.rows for number in _numbers(row) if math.isfinite(number)]
        inside = [min(max(number, low), high) for number in numbers]
        left = min(WIDEST_TITLE, 24 + CHARACTER * max((len(row.title) for row in self.rows), default=0))
        across = Scale(*limits([*inside, 0.0] if self.zero else inside), left, WIDTH - RIGHT)
        items = "".join(f'<span class="{kind}"><i></i>{escape(name)}</span>' for kind, name in self.legend)
        pictures = -(-len(self.rows) // MOST_ROWS)
        size = -(-len(self.rows) // max(1, pictures))
        drawn = [self._picture(self.rows[first : first + size], across) for first in range(0, len(self.rows), size)]
        title = f'<figcaption><b>{escape(self.title)}</b><span class="legend">{items}</span></figcaption>'
        return f'<figure class="panel">{title}{"".join(drawn)}</figure>'

    def _picture(self, rows: Sequence[PlotRow], across: Scale) -> str:
        drawn, place = [], float(TOP)
        for row in rows:
            height = MARK_HEIGHT * len(row.marks) + ROW_SPACE
            drawn.append(_row(row, across, place, height, self.bounds))
            place += height
        zero = f'<path class="zero" d="M{across(0):.1f} {TOP}V{place}"/>' if self.zero else ""
        return (
            f'<svg viewBox="0 0 {WIDTH} {place + BOTTOM:.0f}" role="img" aria-label="{escape(self.title)}">'
            f'<g class="ticks">{_ticks(across, place)}</g>{zero}{"".join(drawn)}<text class="axis" '
            f'x="{(across.start + across.stop) / 2:.1f}" y="{place + BOTTOM - 4:.0f}">{escape(self.unit)}</text></svg>'
        )


def _numbers(row: PlotRow) -> list[float]:
    return [row.level, *(number for mark in row.marks for number in (mark.value, *mark.interval, *mark.dots))]


def _ticks(across: Scale, bottom: float) -> str:
    return "".join(
        f'<path d="M{across(each):.1f} {TOP}V{bottom:.0f}"/><text class="below" x="{across(each):.1f}" '
        f'y="{bottom + 15:.0f}">{label(each)}</text>'
        for each in ticks(across.low, across.high, 8)
    )


def _row(row: PlotRow, across: Scale, top: float, height: float, bounds: tuple[float, float]) -> str:
    middle = top + height / 2
    parts = [f'<text class="left title" x="{across.start - 12:.1f}" y="{middle + 4:.1f}">{escape(row.title)}</text>']
    if row.is_total:
        parts.append(f'<path class="rule" d="M0 {top:.1f}H{WIDTH}"/>')
    if math.isfinite(row.level):
        parts.append(f'<path class="constant" d="M{across(row.level):.1f} {top + 3:.1f}v{height - 6:.1f}"/>')
    for number, mark in enumerate(row.marks):
        place = top + ROW_SPACE / 2 + MARK_HEIGHT * (number + 0.5)
        parts.append(_mark(mark, across, place, bounds))
    return "".join(parts)


def _mark(mark: Mark, across: Scale, place: float, bounds: tuple[float, float]) -> str:
    low, high = (min(max(end, bounds[0]), bounds[1]) if math.isfinite(end) else end for end in mark.interval)
    drawn = [f'<text class="value" x="{WIDTH - RIGHT + 12}" y="{place + 4:.1f}">{escape(mark.text)}</text>']
    if math.isfinite(low) and math.isfinite(high):
        ends = f"M{across(low):.1f} {place - 4:.1f}v8M{across(high):.1f} {place - 4:.1f}v8"
        drawn.append(f'<path class="interval" d="M{across(low):.1f} {place:.1f}H{across(high):.1f}{ends}"/>')
    dots = [each for each in mark.dots if math.isfinite(each)]
    drawn += [f'<circle class="seed" cx="{across(each):.1f}" cy="{place:.1f}" r="2.6"/>' for each in dots]
    if math.isfinite(mark.value):
        drawn.append(f'<circle class="centre" cx="{across(mark.value):.1f}" cy="{place:.1f}" r="4.6"/>')
    return f'<g class="c{mark.colour}">{"".join(drawn)}</g>'
