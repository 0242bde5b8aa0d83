"""What runs the jobs of a queue in one process: this one, or a worker that may be on another machine."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from sesame.evaluation.finetuning.encoding import TaskData
from sesame.evaluation.jobs import Models, run_job
from sesame.evaluation.queue.device import Device, find_device
from sesame.evaluation.queue.estimate import seconds_per_cost
from sesame.evaluation.queue.tasks import attached
from sesame.evaluation.results.result import Job, Result
from sesame.evaluation.results.store import Outputs
from sesame.pretrain.allocator import keep_freed_memory


class QueuedJob(NamedTuple):
    """A job as a worker gets it."""

    number: int
    """In its queue."""
    checkpoint: Path
    job: Job
    """With a :class:`~sesame.evaluation.queue.tasks.StoredTask` for each task."""
    predicts_test: bool
    is_measured: bool = False
    """Take some steps only, and return the seconds for each unit of cost (``estimate.py``)."""


class DescribeDevice(NamedTuple):
    """A job that returns the worker's :class:`Device`."""


class JobRunner:
    """Runs jobs one after the other; the weights of a checkpoint and the tasks are loaded once."""

    def __init__(self, device: str, threads: int):
        """
        Args:
            device: ``suite.device``.
            threads: of the CPU; 0: torch's default.
        """
        self.device_name, self.threads = device, threads
        self.models: Models | None = None
        self.tasks: dict[Path, TaskData] = {}

    def preset(self, models: Models, tasks: dict[Path, TaskData]) -> None:
        """Take what this process has loaded already."""
        self.models, self.tasks = models, tasks

    def __call__(
        self, job: QueuedJob | DescribeDevice, advance: Callable[[int, int], None]
    ) -> tuple[Result, Outputs] | float | Device:
        if self.threads:
            torch.set_num_threads(self.threads)
        device = find_device(self.device_name)
        keep_freed_memory(device)
        if isinstance(job, DescribeDevice):
            return Device.of(device)
        if self.models is None or self.models.checkpoint != job.checkpoint:
            self.models = Models(job.checkpoint)
        whole: Job = attached(job.job, self.tasks)
        if job.is_measured:
            return seconds_per_cost(whole, self.models, device)
        return run_job(whole, self.models, device, job.predicts_test, advance)
