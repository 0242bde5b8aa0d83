"""Ticks, labels and thinning."""

import math
import random

import pytest

from sesame.pretrain.monitoring.scale import Scale, label, limits, log_ticks, mean_rows, thin, ticks
from sesame.pretrain.monitoring.view import sparkline


def test_thinning_keeps_every_spike_the_order_and_the_ends() -> None:
    generator = random.Random(1)
    points = [(float(step), generator.random()) for step in range(10_000)]
    for step in (0, 1234, 5000, 9999):
        points[step] = (float(step), 100.0 + step)
    thinned = thin(points, 300)
    assert len(thinned) <= 600 and set(thinned) <= set(points)
    assert thinned == sorted(thinned)
    assert {points[step] for step in (0, 1234, 5000, 9999)} <= set(thinned)
    assert min(points, key=lambda point: point[1]) in thinned
    assert thin(points[:600], 300) == points[:600]
    assert thin([(step, 1.0) for step in range(100)], 10) == [(step, 1.0) for step in range(0, 100, 10)]


def test_means_of_rows_keep_the_sum() -> None:
    rows = [(float(number), 2.0 * number) for number in range(1000)]
    means = mean_rows(rows, 50)
    assert len(means) == 50 and means[0] == (9.5, 19.0)
    assert sum(row[1] for row in means) * 20 == pytest.approx(sum(row[1] for row in rows))
    assert mean_rows(rows[:50], 50) == rows[:50]


@pytest.mark.parametrize("low, high", [(0, 1), (4.3, 9.1), (0, 2.3e-4), (-3, 1e9), (6.99, 7.01)])
def test_ticks_are_round_and_within_the_limits(low: float, high: float) -> None:
    found = ticks(low, high, 5)
    assert 2 <= len(found) <= 7 and all(low - 1e-9 <= each <= high * (1 + 1e-9) for each in found)
    spacing = found[1] - found[0]
    digit = spacing / 10 ** math.floor(math.log10(spacing) + 1e-9)
    assert min(abs(digit - each) for each in (1, 2, 5)) < 1e-6


def test_log_ticks_are_powers_of_ten() -> None:
    assert log_ticks(-0.5, 4.2) == [0, 1, 2, 3, 4]
    assert [round(10**each) for each in log_ticks(0, 1)] == [1, 2, 5, 10]


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (4.4671, "4.467"), (1234, "1,234"), (12345, "12.35k"), (2e6, "2M"), (3e-5, "3e-5"), (5e-4, "5e-4")],
)
def test_labels(number: float, text: str) -> None:
    assert label(number) == text


def test_limits_are_never_equal() -> None:
    for values in ([], [0.0], [5.0, 5.0], [-1.0]):
        low, high = limits(values)
        assert low < high
        Scale(low, high, 0, 100)(low)
    assert limits([2.0, 10.0], from_zero=True) == (0.0, 10.5)


def test_a_sparkline_has_the_lowest_and_the_highest_level() -> None:
    assert sparkline([1, 2, 3, 8], 10) == "▁▂▃█"
    assert len(sparkline(list(range(1000)), 20)) == 20
    assert sparkline([2.0, 2.0], 5) == "▁▁" and sparkline([], 5) == ""
