"""Tasks that start from the model of another task: RTE, MRPC and STS-B from MNLI.

The first task is fine-tuned once for each model, with the first seed, and its weights are kept in
``OUTPUT/results/NAME.start.safetensors``. Its output layer is dropped; a pooler of the first token is kept.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from sesame.configs.errors import TaskError
from sesame.configs.storage import atomic_file, locked_folder
from sesame.evaluation.config import EvaluationConfig
from sesame.evaluation.finetune_config import FinetuneConfig
from sesame.evaluation.finetuning.encoding import TaskData
from sesame.evaluation.finetuning.finetune import DivergedError, Outcome, finetune
from sesame.evaluation.results.result import MODELS, Identity, Job, Start, depends_on_seed, make_job

POOLER = "pooler."
"""Prefix of the pooler's tensors, which are not part of the backbone."""
POLL_SECONDS = 1.0
FAILED = "the task that it starts from failed"


class StartError(TaskError):
    """The training of the first task diverged."""


class Jobs:
    """Makes the jobs of an evaluation, with those that they start from."""

    def __init__(self, config: EvaluationConfig, identity: Identity, starts: Mapping[str, TaskData], folder: Path):
        """
        Args:
            identity: of the checkpoint.
            starts: data of the tasks that others start from, by name.
            folder: of the results.
        """
        self.config, self.identity, self.starts, self.folder = config, identity, starts, folder

    def make(self, data: TaskData, settings: FinetuneConfig, model: str, seed: int) -> Job:
        """Return one job."""
        first, start = data.task.starts_from, None
        if first is not None:
            job = self.make(self.starts[first], self.config.settings(first), model, self.config.suite.seeds[0])
            start = Start(job, self._file(job))
        return make_job(self.identity.of(model), data, settings, model, seed, start)

    def _file(self, job: Job) -> Path:
        return self.folder / f"{job.name}.start.safetensors"

    def using(self, config: EvaluationConfig) -> "Jobs":
        """Return the same with other settings."""
        return Jobs(config, self.identity, self.starts, self.folder)

    def of(self, tasks: Sequence[TaskData]) -> list[Job]:
        """Return a job for each task, model and seed; a task without fine-tuning has one for the pretrained model."""
        suite = self.config.suite
        jobs = [
            self.make(data, self.config.settings(data.task.name), model, seed)
            for data in tasks
            for model in (each for each in MODELS if suite.baseline or each == "pretrained")
            for seed in (suite.seeds if depends_on_seed(data, model) else suite.seeds[:1])
        ]
        starts = {job.start.job.key: job.start.file for job in jobs if job.start is not None}
        return [job._replace(keep=starts.get(job.key)) for job in jobs]


def load_start(
    start: Start, backbone: Any, device: torch.device, advance: Callable[[int, int], None] = lambda step, steps: None
) -> None:
    """Replace the weights of ``backbone`` by those after the first task, which is fine-tuned if they are not there.

    Args:
        backbone: with the weights that the first task starts from.

    Raises:
        StartError: the first task's training diverged.
    """
    lock = start.file.with_name(f".{start.file.name}.lock")
    while True:
        with locked_folder(lock) as is_locked:
            if is_locked:
                tensors = _read(start) or _train(start, backbone, device, advance)
                break
        # Another process trains it.
        time.sleep(POLL_SECONDS)
    backbone.load_state_dict({name: each for name, each in tensors.items() if not name.startswith(POOLER)})
    if pooler := {name.removeprefix(POOLER): each for name, each in tensors.items() if name.startswith(POOLER)}:
        backbone.pooler = pooler


def open_start(start: Start) -> Any:
    """Return the file of weights that fit the job, opened; None if it is absent, damaged, or of another job."""
    with suppress(OSError, SafetensorError):
        file = safe_open(start.file, "pt")
        if (file.metadata() or {}).get("key") == start.job.key:
            return file
    return None


def _read(start: Start) -> dict[str, Tensor]:
    """Weights that fit the job; empty without them."""
    file = open_start(start)
    return {} if file is None else {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _train(
    start: Start, backbone: nn.Module, device: torch.device, advance: Callable[[int, int], None]
) -> dict[str, Tensor]:
    job = start.job
    with start_errors():
        outcome = finetune(backbone, data_of(start), job.settings, job.seed, device, advance)
    return keep_start(start.file, job, backbone, outcome)


@contextmanager
def start_errors() -> Iterator[None]:
    """Raise the divergence of a first task as :class:`StartError`."""
    try:
        yield
    except DivergedError as error:
        raise StartError(f"{FAILED}: {error}") from None


def data_of(start: Start) -> TaskData:
    """Return what the first task is trained on; its dev rows are scored only to select an epoch."""
    job = start.job
    return replace(job.data, dev=job.data.dev if job.settings.select == "best" else {}, test={})


def keep_start(path: Path, job: Job, backbone: nn.Module, outcome: Outcome) -> dict[str, Tensor]:
    """Write the weights of a fine-tuned backbone for the jobs that start from it, and return them."""
    pooler = {f"{POOLER}{name}": each for name, each in outcome.pooler.items()}
    tensors = {name: each.detach().cpu().contiguous() for name, each in {**backbone.state_dict(), **pooler}.items()}
    write_start(path, job, tensors)
    return tensors


def write_start(path: Path, job: Job, tensors: dict[str, Tensor]) -> None:
    """Write the weights of a backbone, by their names in it, and its pooler's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        file.write(save(tensors, {"key": job.key}))
