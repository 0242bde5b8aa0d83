"""Samples that a run skips: ranges of positions in the endless stream of rows, left out as if they were not there."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Samples(NamedTuple):
    """Neighbouring positions in the stream: from ``first`` up to, without, ``last``."""

    first: int
    last: int


class Skipped:
    """Ranges of samples that are skipped."""

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()):
        self.ranges = _joined(ranges)

    @classmethod
    def of_run(cls, ranges: Iterable[tuple[int, int]], first_sample: int) -> "Skipped":
        """Return what a run skips of a dataset, from its ranges of the run's samples.

        Args:
            first_sample: of the run, when training on the dataset began.
        """
        return cls((first - first_sample, last - first_sample) for first, last in ranges)

    def pieces(self, first: int, count: int) -> Iterator[Samples]:
        """Yield the positions of the next ``count`` samples from ``first`` on."""
        for start, end in self.ranges:
            if not count or end <= first:
                continue
            if length := min(count, max(0, start - first)):
                yield Samples(first, first + length)
                count -= length
            if count:
                first = end
        if count:
            yield Samples(first, first + count)

    def before(self, position: int) -> int:
        """Return how many samples from 0 on and before ``position`` are skipped."""
        return sum(max(0, min(last, position) - max(first, 0)) for first, last in self.ranges)

    def after(self, first: int, count: int) -> int:
        """Return the position after the next ``count`` samples from ``first`` on."""
        last = first
        for piece in self.pieces(first, count):
            last = piece.last
        return last


def _joined(ranges: Iterable[tuple[int, int]]) -> tuple[Samples, ...]:
    """Return ranges in order, with those that touch or overlap joined."""
    joined: list[Samples] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1].last:
            joined[-1] = Samples(joined[-1].first, max(last, joined[-1].last))
        else:
            joined.append(Samples(first, last))
    return tuple(joined)
