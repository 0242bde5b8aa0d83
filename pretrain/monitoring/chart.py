"""Charts as inline SVG, with their data as JSON for the few lines of script that add hovering and zooming."""

import json
import math
from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

from sesame.pretrain.monitoring.scale import Point, Scale, label, limits, log_ticks, mean_rows, thin, ticks

WIDTH, HEIGHT = 640, 270
LEFT, RIGHT, TOP, BOTTOM = 62, 24, 8, 40
INNER_WIDTH, INNER_HEIGHT = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
BUCKETS, STACK_BUCKETS = 300, 250
"""Parts of a curve, and of a stack, that are drawn."""
LOG_RATIO = 12.0
"""Positive values that differ more get a logarithmic axis, if the chart allows one."""


class Curve(NamedTuple):
    """One line of a chart."""

    name: str
    points: Sequence[Point]
    colour: int
    """Number of a colour of the style sheet."""
    is_faint: bool = False
    has_markers: bool = False
    note: str = ""
    """What a point of a thinned curve is; shown beside its value."""
    is_range: bool = False
    """Whether it only shows how far a curve of the same name varies."""


class Marker(NamedTuple):
    """Something that happened at a step."""

    step: float
    text: str
    kind: str = "event"


class Chart(NamedTuple):
    """Lines over optimizer steps, or areas that add up to the whole."""

    title: str
    unit: str
    """Label of the vertical axis."""
    curves: Sequence[Curve]
    markers: Sequence[Marker] = ()
    level: tuple[str, float] | None = None
    """A horizontal line with its name."""
    from_zero: bool = False
    may_be_log: bool = False
    is_stack: bool = False
    top: float | None = None
    """Upper limit of the vertical axis, to compare charts side by side."""
    across: str = "optimizer step"
    """Label of the horizontal axis."""

    def html(self, steps: tuple[float, float]) -> str:
        """Return a figure for the range of ``steps``."""
        return _Figure(self, steps).html()


class _Figure:
    def __init__(self, chart: Chart, steps: tuple[float, float]):
        self.chart = chart
        if chart.is_stack:
            self.curves = _thinned_stack(chart)
        else:
            self.curves = [drawn for curve in chart.curves for drawn in _thinned(curve)]
        heights = self._heights()
        positive = [value for value in heights if value > 0]
        self.is_log = chart.may_be_log and len(positive) == len(heights) and max(positive) > LOG_RATIO * min(positive)
        if self.is_log:
            self.curves = [
                curve._replace(points=[(step, math.log10(value)) for step, value in curve.points])
                for curve in self.curves
            ]
            heights = [math.log10(value) for value in heights]
        low, high = limits(heights, from_zero=chart.from_zero and not self.is_log)
        high = high if chart.top is None else chart.top
        self.across = Scale(*steps, 0, INNER_WIDTH)
        self.up = Scale(low, high, INNER_HEIGHT, 0)

    def html(self) -> str:
        chart = self.chart
        drawn = "".join(self._areas()) if chart.is_stack else "".join(map(self._line, self.curves))
        return (
            f'<figure class="chart"><figcaption><b>{escape(chart.title)}</b>{self._legend()}</figcaption>'
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(chart.title)}">'
            f'<g class="ticks">{self._ticks()}</g>'
            f'<svg class="plot" x="{LEFT}" y="{TOP}" width="{INNER_WIDTH}" height="{INNER_HEIGHT}" '
            f'viewBox="0 0 {INNER_WIDTH} {INNER_HEIGHT}" preserveAspectRatio="none">'
            f"{self._markers()}{drawn}{self._level()}</svg>"
            f'<text class="axis" x="{LEFT + INNER_WIDTH / 2}" y="{HEIGHT - 6}">{escape(chart.across)}</text>'
            f'<text class="axis" transform="translate(13 {TOP + INNER_HEIGHT / 2}) rotate(-90)">{escape(chart.unit)}'
            f'</text><g class="hover"></g></svg><script type="application/json">{self._data()}</script></figure>'
        )

    def _heights(self) -> list[float]:
        if self.chart.is_stack:
            columns = zip(*([value for _, value in curve.points] for curve in self.curves), strict=True)
            return [sum(column) for column in columns]
        level = [self.chart.level[1]] if self.chart.level else []
        return [value for curve in self.curves for _, value in curve.points if math.isfinite(value)] + level

    def _ticks(self) -> str:
        up, across = self.up, self.across
        heights = log_ticks(up.low, up.high) if self.is_log else ticks(up.low, up.high, 4)
        lines = [
            f'<path d="M{LEFT} {TOP + up(each):.1f}h{INNER_WIDTH}"/><text class="left" x="{LEFT - 6}" '
            f'y="{TOP + up(each) + 3.5:.1f}">{label(10**each if self.is_log else each)}</text>'
            for each in heights
        ]
        lines += [
            f'<text class="below" x="{LEFT + across(each):.1f}" y="{TOP + INNER_HEIGHT + 15}">{label(each)}</text>'
            for each in ticks(across.low, across.high, 6)
        ]
        return "".join(lines)

    def _line(self, curve: Curve) -> str:
        places = [f"{self.across(step):.1f} {self.up(value):.1f}" for step, value in curve.points]
        faint = " faint" if curve.is_faint else ""
        drawn = f'<path class="line{faint} c{curve.colour}" d="M{"L".join(places)}"/>' if places else ""
        if curve.has_markers:
            drawn += f'<path class="dots c{curve.colour}" d="{"".join(f"M{place}h0" for place in places)}"/>'
        return drawn

    def _areas(self) -> list[str]:
        base = [0.0] * len(self.curves[0].points) if self.curves else []
        drawn = []
        for curve in self.curves:
            tops = [below + value for below, (_, value) in zip(base, curve.points, strict=True)]
            steps = [self.across(step) for step, _ in curve.points]
            edge = [f"{x:.1f} {self.up(top):.1f}" for x, top in zip(steps, tops, strict=True)]
            back = [f"{x:.1f} {self.up(below):.1f}" for x, below in zip(steps, base, strict=True)]
            if edge:
                drawn.append(f'<path class="area c{curve.colour}" d="M{"L".join([*edge, *reversed(back)])}Z"/>')
            base = tops
        return drawn

    def _markers(self) -> str:
        places = ((marker.kind, self.across(marker.step)) for marker in self.chart.markers)
        return "".join(
            f'<path class="marker {kind}" d="M{x:.1f} 0v{INNER_HEIGHT}"/>'
            f'<path class="marker flag {kind}" d="M{x:.1f} 0v9"/>'
            for kind, x in places
        )

    def _level(self) -> str:
        if self.chart.level is None:
            return ""
        value = self.chart.level[1]
        height = self.up(math.log10(value) if self.is_log else value)
        return f'<path class="level" d="M0 {height:.1f}H{INNER_WIDTH}"/>'

    def _legend(self) -> str:
        entries = [(f"c{curve.colour}", curve.name) for curve in self.curves if not curve.is_range]
        if len(entries) == 1 and self.chart.level is None:
            # The title says what the only curve is.
            return ""
        if self.chart.level is not None:
            entries.append(("level", f"{self.chart.level[0]} {self.chart.level[1]:.3f}"))
        items = "".join(f'<span class="{kind}"><i></i>{escape(name)}</span>' for kind, name in entries)
        return f'<span class="legend">{items}</span>'

    def _data(self) -> str:
        series = [
            {
                "name": curve.name + (f", {curve.note}" if curve.note else ""),
                "colour": curve.colour,
                "x": [x for x, _ in curve.points],
                "y": _rounded(curve),
            }
            for curve in self.curves
        ]
        markers = [[marker.step, marker.text] for marker in self.chart.markers]
        data: dict[str, Any] = {
            "across": self.chart.across,
            "x": self.across[:2],
            "y": self.up[:2],
            "log": self.is_log,
            "stack": self.chart.is_stack,
            "zero": self.chart.from_zero and not self.is_log,
            "series": series,
            "markers": markers,
        }
        # A closing tag within a string would end the script.
        return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _rounded(curve: Curve) -> list[float]:
    return [float(f"{value:.5g}") for _, value in curve.points]


def _thinned(curve: Curve) -> list[Curve]:
    """Return a curve as it is drawn; of one with more points than can be seen, the highest and lowest of each part, and
    above them the means."""
    finite = [point for point in curve.points if math.isfinite(point[1])]
    kept = thin(finite, BUCKETS)
    if len(kept) == len(finite):
        return [curve._replace(points=kept)]
    means = [(round(step, 1), mean) for step, mean in mean_rows(finite, BUCKETS)]
    size = f"{len(finite) / len(means):.0f}"
    return [
        curve._replace(points=kept, is_faint=True, is_range=True, note=f"highest or lowest of {size}"),
        curve._replace(points=means, is_faint=False, note=f"mean of {size}"),
    ]


def _thinned_stack(chart: Chart) -> list[Curve]:
    """Return the curves of a stack, which have the same steps, as means over their parts."""
    if not chart.curves:
        return []
    steps = [step for step, _ in chart.curves[0].points]
    columns = [[value for _, value in curve.points] for curve in chart.curves]
    rows = mean_rows(list(zip(steps, *columns, strict=True)), STACK_BUCKETS)
    return [
        curve._replace(points=[(round(row[0], 1), row[number]) for row in rows])
        for number, curve in enumerate(chart.curves, start=1)
    ]
