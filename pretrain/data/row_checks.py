"""Damaged rows: what a checksum at the start of a run does not see, because a disk or memory fails later."""

from collections.abc import Mapping
from typing import NoReturn

import numpy as np

from sesame.configs.errors import DatasetError
from sesame.data_pipeline.dataset.shards import Split
from sesame.data_pipeline.ragged import Column, Ragged

IDS = ("tokens", "target_tokens", "mask_labels")
"""Columns of token ids."""
POSITIONS = ("mask_positions",)
"""Columns of positions in ``tokens``."""


def check_row_lengths(split: Split, rows: np.ndarray) -> None:
    """Check the lengths of rows before their values are read.

    Raises:
        DatasetError: naming the file and the row.
    """
    for name in split.columns:
        lengths = split.lengths_of(name, rows)
        wrong = lengths < (1 if name == "tokens" else 0)
        if wrong.any():
            _refuse(split, int(rows[wrong][0]), f"has {lengths[wrong][0]} entries of {name}")


def check_row_values(split: Split, rows: np.ndarray, columns: Mapping[str, Column], vocabulary: int) -> None:
    """Check the token ids of rows, and the positions in them.

    Args:
        columns: of these rows.

    Raises:
        DatasetError: naming the file and the row.
    """
    for name in IDS:
        if isinstance(column := columns.get(name), Ragged):
            _check(split, rows, column, name, np.asarray(vocabulary), f"but the vocabulary has {vocabulary} pieces")
    tokens = columns["tokens"]
    assert isinstance(tokens, Ragged)
    for name in POSITIONS:
        if isinstance(column := columns.get(name), Ragged):
            bounds = np.repeat(tokens.lengths, column.lengths)
            _check(split, rows, column, name, bounds, "which is not within the row")


def _check(split: Split, rows: np.ndarray, column: Ragged, name: str, bounds: np.ndarray, reason: str) -> None:
    values = column.values
    if not len(values) or (values.min() >= 0 and (values < bounds).all()):
        return
    index = int(np.flatnonzero((values < 0) | (values >= bounds))[0])
    row = int(rows[np.searchsorted(column.offsets, index, side="right") - 1])
    _refuse(split, row, f"has {values[index]} in {name}, {reason}")


def _refuse(split: Split, row: int, problem: str) -> NoReturn:
    file, inside = split.place(row)
    raise DatasetError(
        f"{file}: row {inside} (row {row} of its split) {problem}; `sesame verify` names all damaged files, so copy "
        "those anew or prepare the dataset again"
    )
