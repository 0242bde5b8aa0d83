"""The table of batch columns fits the dataset's columns and the objectives."""

import numpy as np
import pytest

from sesame.data_pipeline.dataset.columns import COLUMNS as DATASET_COLUMNS
from sesame.data_pipeline.ragged import Ragged
from sesame.pretrain.data.columns import COLUMNS, DatasetRows
from sesame.pretrain.objectives import OBJECTIVES


def rows() -> DatasetRows:
    """Two sequences with all columns."""
    columns = {
        "tokens": Ragged(np.array([4, 2, 3, 4, 4, 3, 9]), np.array([0, 3, 7])),
        "first_segment_length": np.array([2, 3]),
        "mask_positions": Ragged(np.array([1, 0, 2], np.uint16), np.array([0, 1, 3])),
        "mask_labels": Ragged(np.array([9, 8, 7]), np.array([0, 1, 3])),
        "pair_labels": np.array([0, 1]),
        "target_tokens": Ragged(np.array([5, 6, 5, 4, 3]), np.array([0, 2, 5])),
    }
    return DatasetRows(columns, start_token=0)


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_has_an_entry_for_each_element_of_its_axis(name: str) -> None:
    column = COLUMNS[name]
    assert column.source in DATASET_COLUMNS
    sizes = {"T": 7, "P": 5 if column.fewer_per_row else 3, "B": 2, "U": 5, "N": 4}
    assert column.make(rows()).shape == (sizes[column.axis],)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_labels_of_an_objective_are_counted(objective: str) -> None:
    name = OBJECTIVES[objective].label_column
    assert COLUMNS[name].is_averaged_over


def test_masks_are_shifted_to_their_sequence() -> None:
    assert COLUMNS["mask_positions"].make(rows()).tolist() == [1, 3, 5]
    assert COLUMNS["segments"].make(rows()).tolist() == [0, 0, 1, 0, 0, 0, 1]


def test_distinct_tokens_and_their_numbers_give_the_tokens() -> None:
    distinct, numbers = (COLUMNS[name].make(rows()) for name in ("distinct_tokens", "distinct_numbers"))
    assert distinct.tolist() == [2, 3, 4, 9]
    assert distinct[numbers].tolist() == [4, 2, 3, 4, 4, 3, 9]
