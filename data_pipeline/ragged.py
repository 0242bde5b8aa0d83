"""Rows of unequal length in one array."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

WORTH_COMPILING = 1024
"""Rows to be taken: loading numba and the compiled loop takes half a second, which `sesame inspect` and the first batch
of a training need not wait for."""


class Ragged(NamedTuple):
    """Rows of unequal length end to end: row i is ``values[offsets[i]:offsets[i + 1]]``."""

    values: np.ndarray
    offsets: np.ndarray
    """int64 [rows + 1], the first is 0."""

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    @property
    def spans(self) -> np.ndarray:
        """int64 [rows, 2]: where each row starts in ``values``, and where it ends."""
        return np.stack([self.offsets[:-1], self.offsets[1:]], axis=1)

    @classmethod
    def of_bytes(cls, strings: Iterable[bytes | memoryview]) -> "Ragged":
        """uint8 rows, one for each string."""
        held = list(strings)
        lengths = np.fromiter(map(len, held), np.int64, len(held))
        return cls(np.frombuffer(b"".join(held), np.uint8), boundaries(lengths))

    @classmethod
    def joined(cls, parts: Sequence["Ragged"]) -> "Ragged":
        """The rows of several, one after the other."""
        lengths = np.concatenate([part.lengths for part in parts])
        return cls(np.concatenate([part.values for part in parts]), boundaries(lengths))

    def take(self, rows: np.ndarray) -> "Ragged":
        """The given rows in the given order."""
        rows = np.asarray(rows, np.int64)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self.offsets) - 1:
            raise IndexError(f"row {rows.min()} or {rows.max()} of {len(self.offsets) - 1} rows")
        if len(rows) < WORTH_COMPILING:
            starts, lengths = self.offsets[rows], self.offsets[rows + 1] - self.offsets[rows]
            offsets = boundaries(lengths)
            return Ragged(self.values[np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)], offsets)
        from data_pipeline.compiled import read_only
        from data_pipeline.compiled import rows as compiled

        return Ragged(*compiled.take(read_only(self.values), read_only(self.offsets), read_only(rows)))


Column = np.ndarray | Ragged
Columns = dict[str, Column]


def boundaries(lengths: np.ndarray) -> np.ndarray:
    """int64 [rows + 1]: where rows of these lengths start when they lie end to end."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def take(column: Column, rows: np.ndarray) -> Column:
    """The given rows of either kind of column."""
    return column.take(rows) if isinstance(column, Ragged) else column[rows]


def joined(parts: list[Column]) -> Column:
    """The rows of several parts one after the other."""
    if ragged := [part for part in parts if isinstance(part, Ragged)]:
        return Ragged.joined(ragged)
    return np.concatenate([part for part in parts if not isinstance(part, Ragged)])


def concatenate(parts: list[Columns]) -> Columns:
    """The rows of several sets of columns one after the other."""
    return {name: joined([part[name] for part in parts]) for name in parts[0]}
