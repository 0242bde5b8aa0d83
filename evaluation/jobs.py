"""One job: fine-tune a model on a task and compute its outputs, or compute them without fine-tuning."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from sesame.evaluation.finetuning.finetune import finetune, scores_of
from sesame.evaluation.results.result import MODELS, Job, Result
from sesame.evaluation.results.store import Outputs
from sesame.evaluation.starting import keep_start, load_start
from sesame.evaluation.zero_shot import ZERO_SHOT
from sesame.pretrain.checkpoints.load import load_backbone


def run_job(
    job: Job, checkpoint: Path, device: torch.device, predict_test: bool, advance: Callable[[int, int], None]
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
    # The weights before the first task are those of its own seed, and are replaced by those after it.
    seed, curves = MODELS[job.model](job.seed if job.start is None else job.start.job.seed), {}
    if job.data.train is None:
        dev = ZERO_SHOT[job.data.task.kind](checkpoint, seed, data, job.settings, device, advance)
        epoch, test = 0, {}
    else:
        backbone = load_backbone(checkpoint, seed=seed).backbone
        if job.start is not None:
            load_start(job.start, backbone, device, advance)
        outcome = finetune(backbone, data, job.settings, job.seed, device, advance)
        if job.keep is not None:
            keep_start(job.keep, job, backbone, outcome)
        epoch, dev, test = outcome.epoch, outcome.dev, outcome.test
        curves = {"losses": outcome.losses, "dev_scores": outcome.dev_scores}
    seconds, scores = round(time.monotonic() - start, 2), scores_of(data, dev)
    found = Result(data.task.name, job.model, job.seed, scores, epoch, seconds, device.type, dev, name=job.name)
    return replace(found, **curves), test
