"""Fine-tuning on one task with one seed: train all weights of a backbone and a new head, then score and predict.

T tokens, B sequences, D width, C outputs.
"""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sesame.configs.errors import TaskError
from sesame.evaluation.config import FinetuneConfig
from sesame.evaluation.encoding import EncodedExamples, TaskData
from sesame.evaluation.heads import Head
from sesame.evaluation.scores import METRICS
from sesame.evaluation.tasks.task import Task
from sesame.pretrain.batch import Batch
from sesame.pretrain.data.packing import pack
from sesame.pretrain.layers.attention import CoreAttention
from sesame.pretrain.optimizers import parameter_groups
from sesame.pretrain.optimizers.uncompiled import AdamW, keep_compiler_unloaded
from sesame.pretrain.roles import Backbone
from sesame.pretrain.schedule import ScheduleConfig

BUCKET_BATCHES = 50
"""Batches whose rows are sorted by length together, so that a batch has similar lengths in a nearly random order."""
SCORING_TOKENS = 8192
"""Approximate number of tokens in a batch for prediction."""
BETAS, EPSILON = (0.9, 0.999), 1e-6
"""AdamW's, as in BERT's published code."""


@dataclass(frozen=True)
class Outcome:
    """Scores and predictions of one fine-tuning run."""

    scores: dict[str, float]
    """By metric, as fractions; NaN where a metric is undefined for the predictions."""
    epoch: int
    """The epoch (from 1) whose weights were scored."""
    predictions: dict[str, np.ndarray]
    """By submission file: classes or scores, in the order of the test file."""


class TaskModel(nn.Module):
    """Backbone and head: batch -> outputs [B, C]."""

    def __init__(self, backbone: nn.Module, task: Task, config: FinetuneConfig):
        super().__init__()
        self.backbone = backbone
        self.head = Head(cast(Backbone, backbone), task.outputs, config)
        for module in backbone.modules():
            if isinstance(module, nn.Dropout):
                module.p = config.dropout
            if isinstance(module, CoreAttention):
                module.dropout = config.attention_dropout

    def forward(self, batch: Batch) -> Tensor:
        return self.head(self.backbone(batch), batch)


@dataclass(frozen=True)
class Criterion:
    """Loss of the outputs, and their conversion to predictions. A regression learns standardized scores."""

    is_regression: bool
    mean: float
    std: float

    @classmethod
    def of(cls, labels: np.ndarray, task: Task) -> "Criterion":
        return cls(task.is_regression, float(labels.mean()), float(labels.std()) or 1.0)

    def loss(self, outputs_BC: Tensor, labels_B: Tensor) -> Tensor:
        """Cross-entropy, or mean squared error for a regression."""
        if self.is_regression:
            return F.mse_loss(outputs_BC[:, 0], (labels_B - self.mean) / self.std)
        return F.cross_entropy(outputs_BC, labels_B)

    def predictions(self, outputs_BC: Tensor) -> Tensor:
        """Classes or scores, [B]."""
        if self.is_regression:
            return outputs_BC[:, 0] * self.std + self.mean
        return outputs_BC.argmax(-1)


def finetune(
    backbone: nn.Module,
    data: TaskData,
    config: FinetuneConfig,
    seed: int,
    device: torch.device,
    advance: Callable[[int, int], None] = lambda step, steps: None,
) -> Outcome:
    """Train on ``data.train``, score on ``data.dev`` and predict ``data.test``.

    Args:
        backbone: modified in place.
        config: its precision is "fp32" or "bf16"; "auto" is resolved by the caller.
        seed: determines the head's initial values, the order of the rows and dropout.
        advance: called with (finished steps, total steps) after each step.

    Raises:
        TaskError: the gradient norm is not finite.
    """
    torch.manual_seed(seed)
    model = TaskModel(backbone, data.task, config).to(device)
    criterion = Criterion.of(data.train.labels, data.task)
    best: tuple[float, int, dict[str, Tensor]] = (-math.inf, config.epochs, {})
    for epoch in _epochs(model, data, config, seed, device, criterion, advance):
        if config.select == "best":
            scores = score(model, data, config, device, criterion)
            value = float(np.nan_to_num(np.mean(list(scores.values())), nan=-1.0))
            if value > best[0]:
                best = (value, epoch, copy.deepcopy(model.state_dict()))
    if best[2]:
        model.load_state_dict(best[2])
    predictions = {name: predict(model, test, config, device, criterion) for name, test in data.test.items()}
    return Outcome(score(model, data, config, device, criterion), best[1], predictions)


def score(
    model: TaskModel, data: TaskData, config: FinetuneConfig, device: torch.device, criterion: Criterion
) -> dict[str, float]:
    """Every metric of every dev set of the task."""
    scores = {}
    for prefix, dev in data.dev.items():
        predictions = predict(model, dev, config, device, criterion)
        for metric in data.task.metrics:
            scores[f"{prefix} {metric}".strip()] = METRICS[metric](dev.labels, predictions)
    return scores


@torch.no_grad()
def predict(
    model: TaskModel, examples: EncodedExamples, config: FinetuneConfig, device: torch.device, criterion: Criterion
) -> np.ndarray:
    """Classes int64 [rows] or scores float32 [rows], in the order of ``examples``."""
    model.eval()
    lengths = examples.lengths
    order = np.argsort(lengths, kind="stable")
    batches = np.split(order, np.flatnonzero(np.diff(np.cumsum(lengths[order]) // SCORING_TOKENS)) + 1)
    with _autocast(config, device):
        outputs = [model(_batch(examples, rows).to(device)).cpu() for rows in batches]
    predictions = criterion.predictions(torch.cat(outputs)).numpy()
    inverse = np.empty_like(order)
    inverse[order] = np.arange(len(order))
    return predictions[inverse]


def shuffled_batches(lengths: np.ndarray, batch_size: int, generator: np.random.Generator) -> list[np.ndarray]:
    """Row numbers of each batch of one epoch: random batches of rows with similar lengths, sorted within a batch."""
    order = generator.permutation(len(lengths))
    bucket = batch_size * BUCKET_BATCHES
    batches = []
    for start in range(0, len(order), bucket):
        rows = order[start : start + bucket]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        batches += [rows[first : first + batch_size] for first in range(0, len(rows), batch_size)]
    return [batches[index] for index in generator.permutation(len(batches))]


def _epochs(
    model: TaskModel,
    data: TaskData,
    config: FinetuneConfig,
    seed: int,
    device: torch.device,
    criterion: Criterion,
    advance: Callable[[int, int], None],
) -> Iterator[int]:
    """Train, and yield the number of each epoch after it."""
    generator = np.random.default_rng(seed)
    lengths = data.train.lengths
    steps = math.ceil(len(lengths) / config.batch_size) * config.epochs
    schedule = ScheduleConfig(warmup_steps=round(config.warmup_fraction * steps))
    groups = parameter_groups(model, config.weight_decay)
    keep_compiler_unloaded()
    optimizer = AdamW(groups, config.learning_rate, BETAS, EPSILON, fused=True)
    step = 0
    for epoch in range(1, config.epochs + 1):
        model.train()
        for rows in shuffled_batches(lengths, config.batch_size, generator):
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * schedule.factor(step, steps)
            with _autocast(config, device):
                outputs_BC = model(_batch(data.train, rows).to(device))
            loss = criterion.loss(outputs_BC, torch.from_numpy(data.train.labels[rows]).to(device))
            loss.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clipping or math.inf)
            if not torch.isfinite(norm):
                raise TaskError(
                    f"{data.title}: the gradient norm is not finite at step {step} of {steps} with learning_rate "
                    f"{config.learning_rate:g}; lower it under [tasks.{data.task.name}]"
                )
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            advance(step, steps)
        yield epoch


def _batch(examples: EncodedExamples, rows: np.ndarray) -> Batch:
    first_lengths = examples.first_segment_lengths[rows]
    return pack([examples.tokens[row] for row in rows], first_lengths.tolist(), first_lengths=first_lengths)


def _autocast(config: FinetuneConfig, device: torch.device) -> torch.autocast:
    if config.precision == "auto":
        raise ValueError("precision 'auto' has not been resolved; see EvaluationConfig.with_precision")
    return torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")
