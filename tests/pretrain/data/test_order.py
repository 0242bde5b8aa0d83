"""The order of an epoch: every row once, any stretch at once, even at 1e9 rows."""

import time

import numpy as np
import pytest
from scipy import stats

from pretrain.data import order
from pretrain.data.order import Order

LARGE = 1_000_000_007


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute rows from their places at every size."""
    monkeypatch.setattr(order, "SHUFFLED_ROWS", 0)


@pytest.mark.parametrize("rows", [2, 3, 4, 5, 17, 64, 1000, 4097])
def test_every_row_comes_once(rows: int, computed: None) -> None:
    assert sorted(Order(rows, 1, 0)[0:rows]) == list(range(rows))


def test_stretches_are_those_of_the_whole(computed: None) -> None:
    whole = Order(1000, 1, 0)[0:1000]
    assert np.array_equal(
        np.concatenate([Order(1000, 1, 0)[first : first + 125] for first in range(0, 1000, 125)]), whole
    )
    assert not np.array_equal(Order(1000, 1, 1)[0:1000], whole)
    assert not np.array_equal(Order(1000, 2, 0)[0:1000], whole)


def test_any_stretch_of_a_thousand_million_rows_is_there_at_once() -> None:
    begin = time.process_time()
    rows = Order(LARGE, 1, 0)[987_654_321:987_655_345]
    assert time.process_time() - begin < 0.5, "seconds of CPU time"
    assert len(set(rows.tolist())) == 1024
    assert rows.min() >= 0 and rows.max() < LARGE


def test_a_thousand_million_rows_are_shuffled_evenly() -> None:
    """Places near each other go everywhere, every part of the rows comes in every part of the epoch."""
    cells = 64
    counts = np.zeros((cells, cells))
    each = 8192
    for part in range(cells):
        first = part * (LARGE // cells)
        rows = Order(LARGE, 3, 0)[first : first + each]
        counts[part] = np.bincount(rows * cells // LARGE, minlength=cells)
        steps = np.abs(np.diff(rows))
        # Of two random places the mean distance is a third of the whole.
        assert steps.mean() == pytest.approx(LARGE / 3, rel=0.03)
        assert stats.kendalltau(np.arange(each), rows).pvalue > 1e-4
    assert stats.chisquare(counts.ravel()).pvalue > 1e-4
    low = np.bincount(Order(LARGE, 3, 0)[0:100_000] % 256, minlength=256)
    assert stats.chisquare(low).pvalue > 1e-4
