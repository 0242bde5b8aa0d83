"""What runs the jobs of a queue in one process: this one, or a worker that may be on another machine."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from sesame.configs.errors import TaskError
from sesame.evaluation.config import FinetuneConfig
from sesame.evaluation.finetuning.encoding import TaskData
from sesame.evaluation.jobs import Models, run_job
from sesame.evaluation.queue.device import Device, find_device
from sesame.evaluation.queue.encoded import read_task
from sesame.evaluation.queue.estimate import seconds_per_cost
from sesame.evaluation.results.result import Job, Result
from sesame.evaluation.results.store import Outputs
from sesame.evaluation.tasks.task import Task


class QueuedJob(NamedTuple):
    """A job as a worker gets it: what it needs is on disk."""

    number: int
    """Of the job in its queue."""
    checkpoint: Path
    task: Task
    folder: Path
    """Of the encoded task; see ``encoded.py``."""
    settings: FinetuneConfig
    model: str
    seed: int
    key: str
    test_key: str
    predicts_test: bool
    is_measured: bool = False
    """Take some steps only, and return the seconds for each unit of cost (``estimate.py``)."""


class DeviceQuestion(NamedTuple):
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
        self.models, self.tasks = models, dict(tasks)

    def __call__(
        self, job: QueuedJob | DeviceQuestion, advance: Callable[[int, int], None]
    ) -> tuple[Result, Outputs] | float | Device:
        if self.threads:
            torch.set_num_threads(self.threads)
        device = find_device(self.device_name)
        if isinstance(job, DeviceQuestion):
            return Device.of(device)
        if self.models is None or self.models.checkpoint != job.checkpoint:
            self.models = Models(job.checkpoint)
        data = self._task(job)
        whole = Job(data, job.settings, job.model, job.seed, job.key, job.test_key)
        if job.is_measured:
            return seconds_per_cost(whole, self.models, device)
        return run_job(whole, self.models, device, job.predicts_test, advance)

    def _task(self, job: QueuedJob) -> TaskData:
        if job.folder not in self.tasks:
            data = read_task(job.folder, job.task)
            if data is None:
                raise TaskError(f"{job.folder}: the encoded task is missing or damaged; run the same command again")
            self.tasks[job.folder] = data
        return self.tasks[job.folder]
