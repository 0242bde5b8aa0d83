"""Tasks that are scored without fine-tuning, by what the pretrained model computes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from sesame.evaluation.finetune_config import FinetuneConfig
from sesame.evaluation.finetuning.encoding import TaskData
from sesame.evaluation.zero_shot.likelihood import log_likelihoods
from sesame.evaluation.zero_shot.similarity import similarities

Scorer = Callable[
    [Path, int | None, TaskData, FinetuneConfig, torch.device, Callable[[int, int], None]], dict[str, np.ndarray]
]
"""(checkpoint, seed of random weights or None, task, settings, device, progress) -> outputs [S, 1] by dev set."""

ZERO_SHOT: dict[str, Scorer] = {"similarity": similarities, "minimal_pairs": log_likelihoods}
"""By ``Task.kind``."""
