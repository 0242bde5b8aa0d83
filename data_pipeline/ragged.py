"""Rows of unequal length in one array."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

WORTH_COMPILING = 1024
"""Rows from which on ``take`` uses the compiled loop. Loading numba takes half a second, which `sesame inspect` and the
first batch of a training avoid."""


class Ragged(NamedTuple):
    """Concatenated rows of unequal length: row i is ``values[offsets[i]:offsets[i + 1]]``."""

    values: np.ndarray
    offsets: np.ndarray
    """int64 [rows + 1], the first is 0."""

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    @property
    def spans(self) -> np.ndarray:
        """int64 [rows, 2]: start and end of each row in ``values``."""
        return np.stack([self.offsets[:-1], self.offsets[1:]], axis=1)

    @classmethod
    def of_bytes(cls, strings: Iterable[bytes | memoryview]) -> "Ragged":
        """Return uint8 rows, one for each string."""
        rows = list(strings)
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        return cls(np.frombuffer(b"".join(rows), np.uint8), boundaries(lengths))

    @classmethod
    def joined(cls, parts: Sequence["Ragged"]) -> "Ragged":
        """Return the rows of several parts, one part after the other."""
        lengths = np.concatenate([part.lengths for part in parts])
        return cls(np.concatenate([part.values for part in parts]), boundaries(lengths))

    def take(self, rows: np.ndarray) -> "Ragged":
        """Return rows by number, in the given order."""
        rows = np.asarray(rows, np.int64)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self.offsets) - 1:
            raise IndexError(f"row {rows.min()} or {rows.max()} of {len(self.offsets) - 1} rows")
        if len(rows) < WORTH_COMPILING:
            starts, lengths = self.offsets[rows], self.offsets[rows + 1] - self.offsets[rows]
            offsets = boundaries(lengths)
            return Ragged(self.values[np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)], offsets)
        from sesame.data_pipeline.compiled import read_only
        from sesame.data_pipeline.compiled.rows import take

        return Ragged(*take(read_only(self.values), read_only(self.offsets), read_only(rows)))


Column = np.ndarray | Ragged
Columns = dict[str, Column]


def boundaries(lengths: np.ndarray) -> np.ndarray:
    """Return int64 [rows + 1]: offsets of concatenated rows of these lengths."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def take(column: Column, rows: np.ndarray) -> Column:
    """Return rows of either kind of column by number."""
    return column.take(rows) if isinstance(column, Ragged) else column[rows]


def joined(parts: list[Column]) -> Column:
    """Return the rows of several parts of a column, one part after the other."""
    if ragged := [part for part in parts if isinstance(part, Ragged)]:
        return Ragged.joined(ragged)
    return np.concatenate([part for part in parts if not isinstance(part, Ragged)])


def concatenate(parts: list[Columns]) -> Columns:
    """Return the rows of several sets of columns, one set after the other."""
    return {name: joined([part[name] for part in parts]) for name in parts[0]}
