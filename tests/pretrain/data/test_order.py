"""The order of an epoch: every row once, any slice without the others, even of 1e9 rows."""

import time
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sesame.pretrain.data import order
from sesame.pretrain.data.order import Order

LARGE = 1_000_000_007


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute rows from their positions at every size."""
    monkeypatch.setattr(order, "SHUFFLED_ROWS", 0)


@pytest.mark.parametrize("rows", [2, 3, 4, 5, 17, 64, 1000, 4097])
def test_every_row_occurs_once(rows: int, computed: None) -> None:
    assert sorted(Order(rows, 1, 0)[0:rows]) == list(range(rows))


def test_slices_are_those_of_the_whole_order(computed: None) -> None:
    whole = Order(1000, 1, 0)[0:1000]
    assert np.array_equal(
        np.concatenate([Order(1000, 1, 0)[first : first + 125] for first in range(0, 1000, 125)]), whole
    )
    assert not np.array_equal(Order(1000, 1, 1)[0:1000], whole)
    assert not np.array_equal(Order(1000, 2, 0)[0:1000], whole)


def test_a_slice_of_1e9_rows_is_computed_at_once() -> None:
    start = time.process_time()
    rows = Order(LARGE, 1, 0)[987_654_321:987_655_345]
    assert time.process_time() - start < 0.5, "seconds of CPU time"
    assert len(set(rows.tolist())) == 1024
    assert rows.min() >= 0 and rows.max() < LARGE


def test_1e9_rows_are_shuffled_evenly() -> None:
    """Neighbouring positions have distant rows, and each part of the rows occurs in each part of the epoch."""
    cells = 64
    counts = np.zeros((cells, cells))
    each = 8192
    for part in range(cells):
        first = part * (LARGE // cells)
        rows = Order(LARGE, 3, 0)[first : first + each]
        counts[part] = np.bincount(rows * cells // LARGE, minlength=cells)
        steps = np.abs(np.diff(rows))
        # The mean distance of two random rows is a third of all rows.
        assert steps.mean() == pytest.approx(LARGE / 3, rel=0.03)
        trend: Any = stats.kendalltau(np.arange(each), rows)
        assert trend.pvalue > 1e-4
    assert stats.chisquare(counts.ravel()).pvalue > 1e-4
    low = np.bincount(Order(LARGE, 3, 0)[0:100_000] % 256, minlength=256)
    assert stats.chisquare(low).pvalue > 1e-4
