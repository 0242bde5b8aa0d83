"""Rows that are scored together are on one side of every cut."""

import numpy as np
import pytest

from sesame.evaluation.finetuning.selection import border, limited, shuffled, split
from sesame.evaluation.reading.tables import Examples


def examples(sizes: list[int]) -> Examples:
    """Return rows in groups of ``sizes``; the text of a row is the name of its group."""
    groups = [f"group {number}" for number, size in enumerate(sizes) for _ in range(size)]
    rows = len(groups)
    return Examples([(name,) for name in groups], np.zeros(rows, np.int64), list(map(str, range(rows))), groups=groups)


@pytest.mark.parametrize("sizes", [[3] * 20, [1, 30, 2, 7, 9], [50, 1], [1, 1]])
def test_a_split_divides_no_group(sizes: list[int]) -> None:
    train, dev = split({"": examples(sizes)})
    assert train.groups and dev[""].groups and not set(train.groups) & set(dev[""].groups)
    assert len(train.groups) + len(dev[""].groups) == sum(sizes)


def test_a_limit_divides_no_group() -> None:
    notes: list[str] = []
    some = limited(examples([4] * 30), 10, "scored", notes)
    assert some.groups is not None and len(some.groups) == 8
    assert all(some.groups.count(name) == 4 for name in some.groups)
    assert notes == ["scored on 8 of 120 rows, drawn at random"]


def test_without_groups_a_limit_is_exact() -> None:
    rows = examples([1] * 50)._replace(groups=None)
    some = limited(rows, 7, "scored", [])
    expected = np.random.default_rng(20180420).permutation(50)[:7]
    assert some.indices == [str(row) for row in expected]


def test_the_border_is_the_last_one_that_leaves_a_row_on_each_side() -> None:
    order, units = shuffled(9, np.array([5, 5, 5, 5, 7, 7, 7, 7, 9]), np.random.default_rng(1))
    assert sorted(order) == list(range(9))
    assert [border(np.array([0, 0, 0, 0, 1, 1, 1, 1, 2]), count) for count in (0, 3, 5, 8, 9)] == [4, 4, 4, 8, 8]
    assert (np.diff(units) >= 0).all() and border(np.zeros(4), 3) == 3
