"""Batches whose size, mask rate and dataset follow the schedules of a run."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from sesame.configs.errors import ConfigError, DatasetError
from sesame.data_pipeline.dataset.shards import Dataset
from sesame.pretrain.batch import Batch
from sesame.pretrain.data.batches import Batches, Start
from sesame.pretrain.data.skipped import Samples, Skipped
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
    first: int
    """Sequences of the stage's dataset that are consumed before the step."""


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
        self._first_position = sum(batches.start.sample for batches in stages)
        self._plans: dict[int, StepPlan] = {}
        """By step number: of the last step that has begun and, because findings are one step late on a GPU, of the one
        before. Their fractions of the run followed the clock, so they cannot be planned again."""
        self._go_to_start()
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
    def skipped(self) -> Skipped:
        """Always none: ``run_length.check`` refuses to go back and skip rows where several datasets are counted."""
        return Skipped()

    @skipped.setter
    def skipped(self, value: Skipped) -> None:
        """Check that a run which skipped rows before it had schedules has passed them.

        Raises:
            ConfigError: it has not.
        """
        if value.ranges and value.ranges[-1].last > self.stages[0].start.sample:
            first, last = value.ranges[-1]
            raise ConfigError(
                f"this run has rolled back and skips samples {first} to {last - 1}, which are still to come, but the "
                "data of this run follows schedules, which skip nothing; resume without the schedules up to the next "
                "checkpoint"
            )

    @property
    def consumed(self) -> tuple[int, ...]:
        """Sequences of each dataset before the step that is next."""
        return tuple(self._consumed)

    @property
    def accumulation(self) -> int:
        """Micro-batches of each process in the step that has begun."""
        if not self._plans:
            return self.stages[0].accumulation
        plan = self._plans[max(self._plans)]
        return self.stages[plan.stage].accumulation_of(plan.size)

    def resume(self, step: int, consumed: Sequence[int], position: int) -> None:
        """Set what is consumed of each dataset before ``step``.

        Args:
            position: what ``position`` returns for that step; other than the sum of ``consumed`` if one of the datasets
                was replaced.
        """
        for batches, samples in zip(self.stages, consumed, strict=True):
            batches.start = Start(step, samples)
        self._first_position = position
        self._go_to_start()

    def set_mask_weights(self, weights: Callable[[int], np.ndarray]) -> None:
        """See ``Batches.set_mask_weights``."""
        for batches in self.stages:
            batches.set_mask_weights(weights)

    def opener(self) -> "Callable[[], StagedBatches]":
        """Return what makes the same batches in another process."""
        return partial(_reopened, [batches.opener() for batches in self.stages], self.schedule)

    def position(self, step: int) -> int:
        """Return how many sequences of all datasets are consumed before optimizer step ``step`` (from 0)."""
        self._advance(step)
        return self._first_position + sum(self._consumed) - sum(batches.start.sample for batches in self.stages)

    def begin(self, number: int, fraction: float | None = None) -> StepPlan:
        """Decide what step ``number`` is made of; a second call for it changes nothing.

        Args:
            fraction: of the run; None: by the planned steps.
        """
        if number not in self._plans:
            self._advance(number)
            at = np.array([number / self.schedule.steps if fraction is None else fraction])
            (size,) = sizes(self.schedule.global_batch, self.config.global_batch, at)
            rate = self.schedule.mask_rate and self.schedule.mask_rate.value(at[0])
            stage = int(np.searchsorted(self.schedule.begins, at[0], side="right"))
            kept = {step: plan for step, plan in self._plans.items() if step == number - 1}
            self._plans = {**kept, number: StepPlan(stage, int(size), rate, self._consumed[stage])}
        return self._plans[number]

    def samples(self, step: int) -> tuple[Samples, ...]:
        """Return the positions of optimizer step ``step`` (from 0) in its dataset."""
        plan = self.begin(step)
        return (Samples(plan.first, plan.first + plan.size),)

    def rows(self, step: int) -> list[np.ndarray]:
        """Return the row numbers of each micro-batch of step ``step``; see ``Batches.rows``."""
        plan = self.begin(step)
        return self.stages[plan.stage].rows_of(self.samples(step), plan.size)

    def micro_batch_rows(self, step: int) -> list[np.ndarray]:
        """See ``Batches.micro_batch_rows``."""
        return self.stages[self.begin(step).stage].in_micro_batches(self.rows(step))

    def dataset_of(self, step: int) -> Dataset:
        """Return the dataset that optimizer step ``step`` (from 0) reads."""
        return self.stages[self.begin(step).stage].dataset

    def step(self, number: int) -> Iterator[Batch]:
        """Yield this process's micro-batches of optimizer step ``number`` (from 0)."""
        plan = self.begin(number)
        yield from self.stages[plan.stage].batches_of(number, self.rows(number), plan.mask_rate)

    def validation_batches(self, limit: int) -> Iterator[Batch]:
        """Yield validation batches of the last dataset."""
        return self.stages[-1].validation_batches(limit)

    def _advance(self, number: int) -> None:
        """Count the rows of the steps before ``number``."""
        if number < self._step:
            self._go_to_start()
        while self._step < number:
            plan = self.begin(self._step)
            self._consumed[plan.stage] += plan.size
            self._step += 1

    def _go_to_start(self) -> None:
        self._step, self._plans = self.stages[0].start.step, {}
        self._consumed = [batches.start.sample for batches in self.stages]


AnyBatches = Batches | StagedBatches


def _reopened(openers: Sequence[Callable[[], Batches]], schedule: DataSchedule) -> StagedBatches:
    return StagedBatches([open_() for open_ in openers], schedule)
