"""One job: fine-tune a model on a task and compute its outputs, or compute them without fine-tuning."""

import copy
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sesame.evaluation.finetuning.encoding import TaskData
from sesame.evaluation.finetuning.finetune import Outcome, finetune, scores_of
from sesame.evaluation.results.result import Identity, Job, Result, hardware, identity_of
from sesame.evaluation.results.store import Outputs
from sesame.evaluation.starting import keep_start, load_start
from sesame.evaluation.zero_shot import ZERO_SHOT
from sesame.pretrain.checkpoints.load import LoadedBackbone, OpenedBackbone, load_backbone, randomized


class Models:
    """The models of one checkpoint, whose weights are read once."""

    def __init__(self, checkpoint: Path):
        self.checkpoint = checkpoint

    @cached_property
    def loaded(self) -> LoadedBackbone | OpenedBackbone:
        """The checkpoint's backbone, which stays as it is."""
        return load_backbone(self.checkpoint)

    @cached_property
    def identity(self) -> Identity:
        """What results depend on."""
        return identity_of(self.loaded.backbone, self.loaded.tokenizer_path, self.loaded.model)

    def backbone(self, seed: int | None) -> nn.Module:
        """Return a copy of the backbone; with ``seed`` one with random weights."""
        backbone = copy.deepcopy(self.loaded.backbone)
        return backbone if seed is None else randomized(backbone, self.loaded.model, seed)

    def finetune(self, job: Job, data: TaskData, device: torch.device, advance: Callable[[int, int], None]) -> Outcome:
        """Fine-tune the model of a job on ``data``, and keep its weights if others start from them."""
        backbone = self.backbone(job.initial_seed)
        if job.start is not None:
            load_start(job.start, backbone, device, advance)
        outcome = finetune(backbone, data, job.settings, job.seed, device, advance)
        if job.keep is not None:
            keep_start(job.keep, job, backbone, outcome)
        return outcome


def run_job(
    job: Job, models: Models, device: torch.device, predict_test: bool, advance: Callable[[int, int], None]
) -> tuple[Result, Outputs]:
    """Compute the outputs of a job for the dev sets and, with ``predict_test``, the test sets.

    Args:
        advance: called with (finished steps, total steps) after each step.

    Raises:
        DivergedError: training diverged.
        TaskError: the checkpoint lacks what the task needs.
    """
    start = time.monotonic()
    data = job.data if predict_test else replace(job.data, test={})
    curves: dict[str, Any] = {}
    if job.data.train is None:
        scorer = ZERO_SHOT[job.data.task.kind]
        dev = scorer(models.checkpoint, job.initial_seed, data, job.settings, device, advance)
        epoch, test = 0, {}
    else:
        outcome = models.finetune(job, data, device, advance)
        epoch, dev, test = outcome.epoch, outcome.dev, outcome.test
        curves = {"losses": outcome.losses, "dev_scores": outcome.dev_scores}
    seconds, scores = round(time.monotonic() - start, 2), scores_of(data, dev)
    found = Result(data.task.name, job.model, job.seed, scores, epoch, seconds, hardware(device), dev, name=job.name)
    return replace(found, **curves), test
