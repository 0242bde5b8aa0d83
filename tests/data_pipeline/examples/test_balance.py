"""Even portions and their order."""

import numpy as np
import pytest

from sesame.data_pipeline.examples import balance
from sesame.data_pipeline.examples.balance import groups, orders
from sesame.data_pipeline.random_streams import generator


@pytest.mark.parametrize(
    ("rows", "per_shard", "shards"), [(10, 4, 3), (12, 4, 3), (1, 4, 1), (0, 4, 0), (1003, 100, 11)]
)
def test_shards_hold_every_row_once_and_differ_by_one_at_most(rows: int, per_shard: int, shards: int) -> None:
    found = orders(rows, per_shard, generator(1, "test"))
    assert len(found) == shards
    assert sorted(np.concatenate([np.zeros(0, int), *found]).tolist()) == list(range(rows))
    sizes = [len(order) for order in found]
    assert not sizes or max(sizes) - min(sizes) <= 1
    assert max(sizes, default=0) <= per_shard


def test_rows_land_uniformly() -> None:
    """Where a row goes does not depend on where it was: chi-square over a 10 x 10 table, 99.99 % quantile for 81."""
    rows, table = 1000, np.zeros((10, 10))
    for seed in range(100):
        for shard, order in enumerate(orders(rows, 100, generator(seed, "test"))):
            table[shard] += np.bincount(order // 100, minlength=10)
    assert ((table - 1000) ** 2 / 1000).sum() < 137


def test_groups_reach_the_minima_and_keep_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balance, "GROUP_CHARACTERS", 100)
    monkeypatch.setattr(balance, "GROUP_DOCUMENTS", 3)
    assert groups([200, 10, 10, 90, 5], [1, 1, 1, 3, 1]) == [[0, 1, 2], [3, 4]]
    assert groups([200, 10, 10, 90, 5], [4, 0, 1, 3, 4]) == [[0], [2, 3], [4]]
    assert groups([5], [1]) == [[0]]
    assert groups([0], [0]) == []


def test_generators_differ_by_seed_purpose_and_number() -> None:
    draws = [generator(*key).random() for key in [(1, "a", 1), (2, "a", 1), (1, "b", 1), (1, "a", 2), (1, "a")]]
    assert len(set(draws)) == len(draws)
    assert generator(1, "a", 1).random() == draws[0]
