"""Which process writes which rows of a parameter's state, so that as little as possible is sent between them."""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

Range = tuple[int, int]
"""(first, one past the last)."""


class RowOwners(NamedTuple):
    """The rows of a parameter as ZeRO divides its entries."""

    own: Range
    """Rows that this process has whole; the range may be empty."""
    cut: list[Range]
    """Rows of which no process has all entries; the same in every process."""


def row_owners(own: Range, entries: Sequence[Range], rows: int, row_entries: int) -> RowOwners:
    """Return who has the rows of a parameter.

    Args:
        own: range of this process in the flattened parameter.
        entries: ranges of all processes, which do not overlap.
        rows: of the parameter.
        row_entries: entries of a row.
    """
    cut, reached = [], 0
    for first, last in sorted(_whole_rows(each, row_entries) for each in entries):
        if first < last:
            if reached < first:
                cut.append((reached, first))
            reached = last
    if reached < rows:
        cut.append((reached, rows))
    return RowOwners(_whole_rows(own, row_entries), cut)


class Turns:
    """Which of the processes that have the same rows writes them: the one that has written the least so far.

    All of these processes call it with the same values in the same order, so they agree without a message.
    """

    def __init__(self) -> None:
        self._written: dict[Hashable, list[int]] = {}

    def is_turn(self, kind: Hashable, copy: int, copies: int, entries: int) -> bool:
        """Return whether this process writes the next rows.

        Args:
            kind: of rows that the same processes have.
            copy: index of this process among the ``copies``.
            entries: of the rows.
        """
        written = self._written.setdefault(kind, [0] * copies)
        writer = written.index(min(written))
        written[writer] += entries
        return writer == copy


def _whole_rows(entries: Range, row_entries: int) -> Range:
    first, last = entries
    return -(-first // row_entries), last // row_entries
