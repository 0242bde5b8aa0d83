"""Which process is slower than the others."""

from collections.abc import Sequence
from statistics import median_low

from sesame.pretrain.watch.events import Event


class SlowRanks:
    """Compares the processes' own work at each report; an event is made when a process is the slow one twice in a row,
    for once may be chance."""

    def __init__(self, factor: float):
        """
        Args:
            factor: how many times the median a process may take; 0: any.
        """
        self._factor, self._slow, self._reported = factor, -1, -1

    def compare(self, step: int, seconds: Sequence[float]) -> Event | None:
        """Return an event if a process has become slow.

        Args:
            seconds: of work in a step, without waiting for others, by rank.
        """
        median, slowest = median_low(seconds), max(seconds)
        is_slow = bool(self._factor) and len(seconds) > 1 and slowest > self._factor * median
        rank = list(seconds).index(slowest) if is_slow else -1
        before, self._slow = self._slow, rank
        if rank == -1:
            self._reported = -1
        if rank in (-1, self._reported) or rank != before:
            return None
        self._reported = rank
        ratio = slowest / median if median else float("inf")
        message = (
            f"step {step}: process {rank} takes {slowest:.3g} s of work a step, {ratio:.1f} times the median "
            f"{median:.3g} s; all others wait for it"
        )
        return Event(step, "slow_rank", "report", message, ratio, rank)
