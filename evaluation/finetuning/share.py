"""The part of one process in a run that several processes fine-tune together (data parallelism)."""

from collections.abc import Iterable
from typing import Any, Protocol

from torch import nn


class DataShare(Protocol):
    """One of the processes; each computes a part of the rows of every batch."""

    rank: int
    size: int
    """Processes."""

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace the gradients by their sums over all processes; a collective."""

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, in order of rank; a collective."""
        ...


class Alone:
    """The only process."""

    rank, size = 0, 1

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Its gradients are the sums."""

    def gather(self, value: Any) -> list[Any]:
        return [value]


ALONE: DataShare = Alone()


def interleaved(parts: list[list[Any]]) -> list[Any]:
    """Return the entries of all processes in their order, where entry i of rank r is number i * size + r of all."""
    return [parts[number % len(parts)][number // len(parts)] for number in range(sum(map(len, parts)))]
