"""The part of one process in a run that several processes fine-tune together."""

from typing import Any, Protocol


class DataShare(Protocol):
    """One of the processes."""

    rank: int
    """Which part of the rows of every batch it computes; tensor-parallel processes compute the same part."""
    size: int
    """Parts."""
    processes: int
    is_rank_zero: bool
    """Whether it is the one process that writes files."""
    description: str
    """How many processes there are and how they divide the model, for the report; empty if there is one."""

    def gather(self, value: Any) -> list[Any]:
        """Return the value of each part, in their order; a collective."""
        ...


class Alone:
    """The only process."""

    rank, size, processes, is_rank_zero, description = 0, 1, 1, True, ""

    def gather(self, value: Any) -> list[Any]:
        return [value]


ALONE: DataShare = Alone()


def interleaved(parts: list[list[Any]]) -> list[Any]:
    """Return the entries of all parts in their order, where entry i of part r is number i * size + r of all."""
    return [parts[number % len(parts)][number // len(parts)] for number in range(sum(map(len, parts)))]
