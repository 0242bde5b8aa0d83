"""The time that jobs will take: from their tokens, and the speed of some steps or of jobs that have ended."""

import math
import time
from contextlib import suppress

import torch

from sesame.evaluation.finetuning.optimization import epochs_of, steps_of
from sesame.evaluation.jobs import Models, run_job
from sesame.evaluation.results.result import Job

MEASURED_STEPS = 4
"""Steps that are timed, after a first one that is not."""


class _EnoughError(Exception):
    """Ends a job that is measured."""


def cost_of(job: Job, *, predicts_test: bool = False) -> float:
    """Tokens of a job; a training token counts as three, because it has a backward pass."""
    data = job.data
    scored = sum(dev.row_tokens.sum() for dev in data.dev.values())
    if data.train is None:
        return float(scored)
    # With "best", the dev sets are also scored after each epoch.
    passes = 1 + (epochs_of(job.settings, data.train.rows) if job.settings.select == "best" else 0)
    tests = sum(test.row_tokens.sum() for test in data.test.values()) if predicts_test else 0
    return float(training_cost(job) + passes * scored + tests)


def training_cost(job: Job) -> float:
    """The part of :func:`cost_of` that is training, or all of it without training."""
    if job.data.train is None:
        return cost_of(job)
    data = job.data.train
    epochs = steps_of(job.settings, data.rows) / math.ceil(data.rows / job.settings.batch_size)
    return float(3 * epochs * data.row_tokens.sum())


def seconds_per_cost(job: Job, models: Models, device: torch.device) -> float:
    """Take the first steps of a job and return the seconds for each unit of its cost."""
    times: list[float] = []
    steps = 1

    def advance(step: int, total: int) -> None:
        nonlocal steps
        # Copying a number to the host waits for the device.
        torch.zeros((), device=device).item()
        times.append(time.monotonic())
        steps = total
        if step > MEASURED_STEPS:
            raise _EnoughError

    start = time.monotonic()
    with suppress(_EnoughError):
        run_job(job, models, device, False, advance)
    if len(times) < 2:
        return (time.monotonic() - start) / max(1.0, cost_of(job))
    return (times[-1] - times[0]) / (len(times) - 1) * steps / max(1.0, training_cost(job))
