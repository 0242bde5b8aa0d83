"""How many optimizer steps a run takes, from its limits of steps, epochs and tokens."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from sesame.pretrain import adaptive_masking
from sesame.pretrain.data import causal_steps
from sesame.pretrain.data.stages import sizes
from sesame.pretrain.stop import UNLIMITED


class Rows(NamedTuple):
    """What is counted of a dataset."""

    rows: int
    tokens: int


def check(config: Any) -> None:
    """Raise a ValueError if a run has no end, or schedules that do not fit its other settings.

    Args:
        config: a ``RunConfig``.
    """
    causal_steps.check(config)
    adaptive_masking.check(config)
    stop, schedule, data = config.stop, config.schedule, config.data
    if not any((config.steps, stop.minutes, stop.tokens, stop.epochs)):
        raise ValueError("nothing ends this run; set steps, or one of stop.tokens, stop.epochs and stop.minutes")
    if stop.epochs and data.stages:
        raise ValueError(
            "stop.epochs counts passes over one dataset, but data.stages has more; set stop.tokens or steps"
        )
    if schedule.global_batch and min(schedule.global_batch.values) < data.global_batch:
        raise ValueError(
            f"schedule.global_batch falls to {min(schedule.global_batch.values):g}, below data.global_batch "
            f"{data.global_batch}, of which it takes multiples; lower data.global_batch"
        )
    unknown = [name for name in schedule.objectives if name not in config.objectives]
    if unknown:
        raise ValueError(f"schedule.objectives.{unknown[0]} is not in [objectives]; add it there")
    follows = schedule.global_batch or schedule.mask_rate or data.stages
    if follows and "roll_back" in (config.watch.non_finite, config.watch.spike):
        raise ValueError(
            "watch rolls back and skips rows of one dataset with one batch size, but the data of this run follows "
            "schedules; set watch.non_finite and watch.spike to 'skip', or remove the schedules"
        )
    if follows and stop.minutes and data.loader_processes:
        raise ValueError(
            "data.loader_processes makes batches of later steps, but with stop.minutes the data follows the "
            "clock; set data.loader_processes = 0, or end the run by steps, tokens or epochs"
        )


def planned_steps(config: Any, datasets: Sequence[Rows], start: tuple[int, int] = (0, 0)) -> int:
    """Return after how many steps the run ends if no time limit comes first.

    Args:
        config: a ``RunConfig``.
        datasets: of ``data.dataset`` and of each stage.
        start: (step, rows of the dataset consumed before it) of a resumed run with one batch size.
    """
    limits = [config.steps or UNLIMITED]
    if config.stop.epochs:
        limits.append(_steps_for(config, [1.0], config.stop.epochs * datasets[0].rows, start))
    if config.stop.tokens:
        per_row = [dataset.tokens / dataset.rows for dataset in datasets]
        limits.append(_steps_for(config, per_row, config.stop.tokens, start))
    return min(limits)


def _steps_for(config: Any, per_row: Sequence[float], amount: float, start: tuple[int, int]) -> int:
    """Return the first number of steps whose rows, each worth ``per_row`` of its stage, come to ``amount``."""
    batch, table = config.data.global_batch, config.schedule.global_batch
    if table is None and len(per_row) == 1:
        step, consumed = start
        # A hair less, so that rounding adds no step.
        return step + max(0, int(np.ceil((amount / per_row[0] - consumed) / batch - 1e-9)))

    def total(steps: int) -> float:
        fractions = np.arange(steps) / steps
        stages = np.searchsorted([stage.at for stage in config.data.stages], fractions, side="right")
        return float((sizes(table, batch, fractions) * np.array(per_row)[stages]).sum())

    low, high = 0, int(amount / min(per_row) / batch) + 1
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (low, middle) if total(middle) >= amount * (1 - 1e-9) else (middle, high)
    return high
