"""Time and memory of the steps between two reports, over all processes."""

import os
from collections.abc import Callable
from statistics import median_low
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sesame.pretrain.step_timer import PHASES, StepTimer

COLUMNS = (*PHASES, "saving", "memory_gib")
"""Of a process's row: seconds since the last report, and memory."""
BUSY = ("data", "forward", "backward", "optimizer")
"""Phases in which a process works; in communication it may wait for a slower one."""
MOST_RANKS = 64
"""Processes whose times are reported one by one; of more, only the slowest and the median."""


class Usage(NamedTuple):
    """Time and memory since the last report."""

    steps: int
    rows: tuple[tuple[float, ...], ...]
    """``COLUMNS`` of each process, in order of rank."""

    def fields(self) -> dict[str, Any]:
        """Return the fields of a line of metrics.jsonl."""
        seconds = {name: round(sum(self._column(name)) / len(self.rows), 5) for name in COLUMNS[:-1]}
        fields = {"steps": self.steps, "time": seconds, "memory_gib": round(max(self._column("memory_gib")), 4)}
        if len(self.rows) > 1:
            times = self.rank_seconds
            slowest = max(range(len(times)), key=times.__getitem__)
            fields["ranks"] = {"median": median_low(times), "slowest": times[slowest], "slowest_rank": slowest}
        if 1 < len(self.rows) <= MOST_RANKS:
            fields["rank_seconds"] = self.rank_seconds
        return fields

    @property
    def rank_seconds(self) -> list[float]:
        """Seconds of work in a step, without communication, by rank."""
        indices = [COLUMNS.index(name) for name in BUSY]
        return [round(sum(row[index] for index in indices) / self.steps, 6) for row in self.rows]

    def _column(self, name: str) -> list[float]:
        return [row[COLUMNS.index(name)] for row in self.rows]


class UsageMeter:
    """Reads this process's time and memory at each report, and gathers all processes'."""

    def __init__(self, timer: StepTimer, device: torch.device, rank: int, world: int):
        self._timer, self._device, self._rank, self._world = timer, device, rank, world
        self._saving_seconds = 0.0

    def read(self, steps: int, saving_seconds: float, sum_over_all: Callable[[Tensor], Tensor]) -> Usage:
        """Return what was used since the last call; a collective.

        Call it after the metrics are reduced: the device has finished all steps by then, so nothing waits for it.

        Args:
            steps: taken since the last call.
            saving_seconds: for which training has waited for checkpoints since the start.
        """
        saving, self._saving_seconds = saving_seconds - self._saving_seconds, saving_seconds
        row = [*self._timer.read().values(), saving, MEMORY[self._device.type](self._device) / 2**30]
        rows = torch.zeros(self._world, len(COLUMNS), device=self._device)
        rows[self._rank] = torch.tensor(row, device=self._device)
        if self._world > 1:
            rows = sum_over_all(rows)
        return Usage(steps, tuple(map(tuple, rows.tolist())))

    def restart(self, saving_seconds: float) -> None:
        """Forget what was used since the last call, by steps that will be taken again."""
        self._timer.read()
        self._saving_seconds = saving_seconds


def _resident_bytes(device: torch.device) -> int:
    """Return what this process has in memory now (Linux, ``man 5 proc``); its loader processes are not counted."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _allocated_bytes(device: torch.device) -> int:
    """Return the most that tensors have taken on the GPU since the start."""
    return torch.cuda.max_memory_allocated(device)


MEMORY: dict[str, Callable[[torch.device], int]] = {"cpu": _resident_bytes, "cuda": _allocated_bytes}
"""Bytes, by the type of the device."""
