"""The table of batch columns: which column of the dataset each is made of, how, and along which axis."""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np

from sesame.data_pipeline.ragged import Column, Ragged


class DatasetRows:
    """Rows of a dataset whose tokens lie end to end."""

    def __init__(self, columns: Mapping[str, Column], start_token: int):
        """
        Args:
            columns: dataset columns by name.
            start_token: what a decoder reads before its first target.
        """
        self.columns, self.start_token = columns, start_token
        self.tokens = self.ragged("tokens")
        self.starts_B, self.lengths_B = self.tokens.offsets[:-1], np.diff(self.tokens.offsets)

    def ragged(self, name: str) -> Ragged:
        """Return a column of lists."""
        column = self.columns[name]
        if not isinstance(column, Ragged):
            raise TypeError(f"the column {name} is not a list column")
        return column

    def values(self, name: str) -> np.ndarray:
        """Return a column of one value per row."""
        column = self.columns[name]
        if isinstance(column, Ragged):
            raise TypeError(f"the column {name} is a list column")
        return column

    def positions(self) -> np.ndarray:
        """Return the position of each token in its sequence."""
        return np.arange(self.tokens.offsets[-1]) - np.repeat(self.starts_B, self.lengths_B)

    def segments(self) -> np.ndarray:
        """Return 0 for each token of the first segment of its sequence, 1 for the others."""
        second_starts = self.starts_B + self.values("first_segment_length")
        return np.arange(self.tokens.offsets[-1]) >= np.repeat(second_starts, self.lengths_B)

    def mask_positions(self) -> np.ndarray:
        """Return the index of each masked token in the batch; the dataset has it in the sequence."""
        positions = self.ragged("mask_positions")
        return positions.values.astype(np.int64) + np.repeat(self.starts_B, np.diff(positions.offsets))

    @cached_property
    def next_positions(self) -> np.ndarray:
        """Index of each token that is not the last one of its sequence."""
        has_next = np.ones(len(self.tokens.values), bool)
        has_next[self.tokens.offsets[1:] - 1] = False
        return np.flatnonzero(has_next)

    @cached_property
    def distinct_tokens(self) -> tuple[np.ndarray, np.ndarray]:
        """The distinct tokens, and for each token the index of its own among them."""
        return np.unique(self.tokens.values, return_inverse=True)

    def decoder_tokens(self) -> np.ndarray:
        """Return the targets of each sequence shifted right by one, after the start token."""
        targets = self.ragged("target_tokens")
        shifted = np.concatenate([[self.start_token], targets.values[:-1]])
        shifted[targets.offsets[:-1]] = self.start_token
        return shifted


class BatchColumn(NamedTuple):
    """A row of the table."""

    axis: Literal["T", "P", "B", "U", "N"]
    """One entry per token, per prediction, per sequence, per target token, or per distinct token."""
    source: str
    """Dataset column that it is made of."""
    make: Callable[[DatasetRows], np.ndarray]
    is_averaged_over: bool = False
    """Whether a loss or a rate is a mean over its entries, so that the global batch's entries are counted."""
    fewer_per_row: int = 0
    """How many entries fewer than ``source`` each sequence has."""


COLUMNS: dict[str, BatchColumn] = {
    # Token ids, corrupted where the recipe says so.
    "tokens": BatchColumn("T", "tokens", lambda rows: rows.tokens.values, is_averaged_over=True),
    "positions": BatchColumn("T", "tokens", DatasetRows.positions),
    # The distinct tokens of a batch, and where each token is among them. Found on a GPU, they would be waited for.
    "distinct_tokens": BatchColumn("N", "tokens", lambda rows: rows.distinct_tokens[0]),
    "distinct_numbers": BatchColumn("T", "tokens", lambda rows: rows.distinct_tokens[1]),
    "segments": BatchColumn("T", "first_segment_length", DatasetRows.segments),
    # Masked tokens: index into T, and the original token.
    "mask_positions": BatchColumn("P", "mask_positions", DatasetRows.mask_positions),
    "mask_labels": BatchColumn(
        "P", "mask_labels", lambda rows: rows.ragged("mask_labels").values, is_averaged_over=True
    ),
    # 0: the two segments as they were, 1: another document or swapped.
    "pair_labels": BatchColumn("B", "pair_labels", lambda rows: rows.values("pair_labels"), is_averaged_over=True),
    # Tokens that are not the last of their sequence: index into T, and the next token.
    "next_positions": BatchColumn("P", "tokens", lambda rows: rows.next_positions, fewer_per_row=1),
    "next_labels": BatchColumn(
        "P", "tokens", lambda rows: rows.tokens.values[rows.next_positions + 1], is_averaged_over=True, fewer_per_row=1
    ),
    # Targets of a decoder, and the same shifted right by one.
    "decoder_tokens": BatchColumn("U", "target_tokens", DatasetRows.decoder_tokens),
    "target_labels": BatchColumn(
        "U", "target_tokens", lambda rows: rows.ragged("target_tokens").values, is_averaged_over=True
    ),
}
