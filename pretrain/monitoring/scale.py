"""Scales of charts: limits, ticks, labels, and thinning of long curves."""

import math
from collections.abc import Sequence
from typing import NamedTuple

Point = tuple[float, float]

PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k"))
"""Smallest value that is written with the prefix; thousands are written out up to 9,999."""
UNITS = {"T": 1e12, "G": 1e9, "M": 1e6, "k": 1e3}


class Scale(NamedTuple):
    """A linear map of [low, high] to [start, stop] in units of the picture."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.stop - self.start)


def limits(values: Sequence[float], *, from_zero: bool = False) -> tuple[float, float]:
    """Return limits a little wider than the values, and never equal."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if from_zero and low >= 0:
        return 0.0, high * 1.05 or 1.0
    margin = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    return low - margin, high + margin


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about ``count`` round numbers within the limits: multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    spacing = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first = math.ceil(low / spacing - 1e-9)
    return [spacing * number for number in range(first, math.floor(high / spacing + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return the common logarithms of the powers of ten within the limits, with 2 and 5 times them if they are few."""
    factors = (1, 2, 5) if high - low < 2.5 else (1,)
    numbers = range(math.floor(low), math.ceil(high) + 1)
    found = [number + math.log10(factor) for number in numbers for factor in factors]
    return [each for each in found if low <= each <= high]


def label(value: float) -> str:
    """Return a number of a tick or a table in four significant digits, as 12.5k or 3e-5."""
    size = abs(value)
    for smallest, prefix in PREFIXES:
        if size >= smallest:
            return f"{value / UNITS[prefix]:.4g}{prefix}"
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 1e-3 or not size:
        return f"{value:.4g}"
    factor, _, exponent = f"{value:.3e}".partition("e")
    return f"{float(factor):g}e{int(exponent)}"


def thin(points: Sequence[Point], buckets: int) -> list[Point]:
    """Return at most two points for each of so many equal parts of the curve, its lowest and its highest, so that no
    spike is lost; a curve of fewer points stays as it is."""
    if len(points) <= 2 * buckets:
        return list(points)
    kept: list[Point] = []
    for number in range(buckets):
        part = points[number * len(points) // buckets : (number + 1) * len(points) // buckets]
        kept += sorted({min(part, key=_height), max(part, key=_height)})
    return kept


def mean_rows(rows: Sequence[tuple[float, ...]], buckets: int) -> list[tuple[float, ...]]:
    """Return the means of columns over so many equal parts; fewer rows stay as they are."""
    if len(rows) <= buckets:
        return list(rows)
    found = []
    for number in range(buckets):
        part = rows[number * len(rows) // buckets : (number + 1) * len(rows) // buckets]
        found.append(tuple(sum(column) / len(part) for column in zip(*part, strict=True)))
    return found


def _height(point: Point) -> float:
    return point[1]
