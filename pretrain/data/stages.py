"""Batches whose size, mask rate and dataset follow the schedules of a run."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from sesame.configs.errors import DatasetError
from sesame.pretrain.batch import Batch
from sesame.pretrain.data.batches import Batches
from sesame.pretrain.schedule_table import ScheduleTable


class DataSchedule(NamedTuple):
    """What changes over a run in its data."""

    global_batch: ScheduleTable | None
    mask_rate: ScheduleTable | None
    begins: tuple[float, ...]
    """Fraction of the run at which each stage after the first begins."""
    steps: int
    """Planned steps of the run, for a caller that gives no fraction."""


class StepPlan(NamedTuple):
    """What the batches of one step are made of."""

    stage: int
    size: int
    """Sequences."""
    mask_rate: float | None


def sizes(table: ScheduleTable | None, unit: int, fractions: np.ndarray) -> np.ndarray:
    """Return the sequences of the steps at ``fractions``: multiples of ``unit``, whatever the layout, int64."""
    if table is None:
        return np.full(len(fractions), unit, dtype=np.int64)
    return np.floor(table.over(fractions) / unit + 1e-9).astype(np.int64).clip(1) * unit


class StagedBatches:
    """Micro-batches by step number, in the role of ``Batches``.

    Each dataset is read from its first row on, in its own order; rows are counted for each, so that a resumed run
    neither skips nor repeats one.
    """

    def __init__(self, stages: Sequence[Batches], schedule: DataSchedule):
        """
        Args:
            stages: batches of each dataset; their ``start`` is what was consumed before.

        Raises:
            DatasetError: a mask rate is scheduled, but a dataset was masked when it was prepared.
        """
        self.stages, self.schedule = list(stages), schedule
        self.config, self.reads, self.data_rank = stages[0].config, stages[0].reads, stages[0].data_rank
        self.seed, self.dataset, self.train = stages[0].seed, stages[-1].dataset, stages[0].train
        self._step, self._consumed = stages[0].start.step, [batches.start.sample for batches in stages]
        self._plan: tuple[int, StepPlan] | None = None
        for batches in stages if schedule.mask_rate else ():
            if not batches.draws_masks:
                raise DatasetError(
                    f"{batches.dataset.path}: was masked when it was prepared, so schedule.mask_rate cannot change it; "
                    "prepare the corpus with corrupt.drawn = 'each_epoch', or remove the schedule"
                )

    @property
    def message(self) -> str:
        """Warnings about the batch size, empty if there are none."""
        return "; ".join(dict.fromkeys(filter(None, (batches.message for batches in self.stages))))

    @property
    def consumed(self) -> list[int]:
        """Sequences of each dataset before the step that is next."""
        return list(self._consumed)

    def position(self, step: int) -> int:
        """Return how many sequences of all datasets are consumed before optimizer step ``step`` (from 0)."""
        self._advance(step)
        return sum(self._consumed)

    def plan(self, number: int, fraction: float | None = None) -> StepPlan:
        """Return what step ``number`` is made of; its first call decides.

        Args:
            fraction: of the run; None: by the planned steps.
        """
        if self._plan is None or self._plan[0] != number:
            at = np.array([number / self.schedule.steps if fraction is None else fraction])
            (size,) = sizes(self.schedule.global_batch, self.config.global_batch, at)
            rate = self.schedule.mask_rate and float(self.schedule.mask_rate.over(at)[0])
            stage = int(np.searchsorted(self.schedule.begins, at[0], side="right"))
            self._plan = number, StepPlan(stage, int(size), rate)
        return self._plan[1]

    def accumulation_of(self, number: int, fraction: float | None = None) -> int:
        """Return how many micro-batches each process takes in step ``number``."""
        plan = self.plan(number, fraction)
        return self.stages[plan.stage].accumulation_of(plan.size)

    def step(self, number: int, fraction: float | None = None) -> Iterator[Batch]:
        """Yield this process's micro-batches of optimizer step ``number``."""
        self._advance(number)
        plan = self.plan(number, fraction)
        yield from self.stages[plan.stage].rows_from(self._consumed[plan.stage], plan.size, number, plan.mask_rate)

    def validation_batches(self, limit: int) -> Iterator[Batch]:
        """Yield validation batches of the last dataset."""
        return self.stages[-1].validation_batches(limit)

    def _advance(self, number: int) -> None:
        """Count the rows of the steps before ``number``."""
        if number < self._step:
            self._step, self._consumed = self.stages[0].start.step, [each.start.sample for each in self.stages]
        while self._step < number:
            plan = self.plan(self._step)
            self._consumed[plan.stage] += plan.size
            self._step += 1
