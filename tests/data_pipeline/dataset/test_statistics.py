"""Statistics of finished rows."""

import numpy as np
import pytest

from sesame.data_pipeline.dataset.statistics import count, shares, summarize, total
from sesame.data_pipeline.ragged import Ragged

SPECIAL = {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
ROWS = {
    "tokens": Ragged(np.array([2, 4, 6, 3, 2, 7, 8, 9, 4, 3], np.uint16), np.array([0, 4, 10])),
    "mask_positions": Ragged(np.array([1, 2, 1, 4], np.uint16), np.array([0, 2, 4])),
    "mask_labels": Ragged(np.array([5, 6, 9, 5], np.uint16), np.array([0, 2, 4])),
    "pair_labels": np.array([0, 1], np.uint8),
}


def test_counts_and_shares() -> None:
    found = count([ROWS], 10, SPECIAL)
    assert (found.rows, found.ones, found.text_tokens, found.masked, found.kept) == (2, 1, 6, 2, 1)
    assert found.labels.tolist() == [0, 0, 0, 0, 0, 2, 1, 0, 0, 1]
    assert shares(found) == {
        "predicted_of_text": 0.666667,
        "mask_of_predicted": 0.5,
        "kept_of_predicted": 0.25,
        "random_of_predicted": 0.25,
    }


def test_counts_of_blocks_add_up() -> None:
    once = count([ROWS], 10, SPECIAL)
    for twice in (count([ROWS, ROWS], 10, SPECIAL), total([once, once], 10)):
        assert [np.sum(value) for value in twice] == [2 * np.sum(value) for value in once]


def test_unigram_baseline_is_the_entropy_of_the_labels() -> None:
    counted = count([ROWS], 10, SPECIAL)
    found = summarize(counted, counted, ROWS)
    probabilities = np.array([3, 2, 2]) / 14
    expected = -np.array([2, 1, 1]) @ np.log(probabilities) / 4
    assert found.unigram_entropy == found.unigram_cross_entropy_validation == pytest.approx(expected, abs=1e-6)
    assert found.lengths == {"0-15": 2}


def test_absent_columns_have_no_statistics() -> None:
    counted = count([{"tokens": ROWS["tokens"]}], 10, SPECIAL)
    found = summarize(counted, counted, ["tokens"])
    assert found[:3] == ({"0-15": 2}, {}, None)
    assert found.unigram_entropy == found.unigram_cross_entropy_validation, "of the text, without masks"
