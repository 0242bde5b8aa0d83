"""One task, one seed: train all weights of a backbone and a new head, then score and predict.

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

from configs.errors import TaskError
from evaluation.config import FinetuneConfig
from evaluation.encoding import EncodedExamples, TaskData
from evaluation.heads import Head
from evaluation.scores import METRICS
from evaluation.tasks.task import Task
from pretrain.batch import Batch
from pretrain.data.packing import pack
from pretrain.layers.attention import CoreAttention
from pretrain.optimizers import parameter_groups
from pretrain.precision import of_device
from pretrain.roles import Backbone
from pretrain.schedule import ScheduleConfig

BUCKET_BATCHES = 50
"""Batches whose rows are sorted by length together: similar lengths meet, and the order stays random enough."""
SCORING_TOKENS = 8192
"""Most tokens in one batch when nothing is trained."""
BETAS, EPSILON = (0.9, 0.999), 1e-6
"""AdamW's, as in BERT's published code."""


@dataclass(frozen=True)
class Outcome:
    """What one fine-tuning gave."""

    scores: dict[str, float]
    """By metric, as a fraction; NaN where a metric is undefined for what was predicted."""
    epoch: int
    """The epoch (from 1) whose weights were scored."""
    predictions: dict[str, np.ndarray]
    """By submission file: classes or scores, in the order of the test file."""


class Tuned(nn.Module):
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
        backbone: is changed.
        seed: of the head's values, the order of the rows and dropout.
        advance: told (steps done, steps in all) after each step.

    Raises:
        TaskError: the loss left the numbers.
    """
    torch.manual_seed(seed)
    model = Tuned(backbone, data.task, config).to(device)
    scale = Scale.of(data.train.labels, data.task)
    best: tuple[float, int, dict[str, Tensor]] = (-math.inf, config.epochs, {})
    for epoch in _epochs(model, data, config, seed, device, scale, advance):
        if config.select == "best":
            scores = score(model, data, config, device, scale)
            value = float(np.nan_to_num(np.mean(list(scores.values())), nan=-1.0))
            if value > best[0]:
                best = (value, epoch, copy.deepcopy(model.state_dict()))
    if best[2]:
        model.load_state_dict(best[2])
    predictions = {name: predict(model, test, config, device, scale) for name, test in data.test.items()}
    return Outcome(score(model, data, config, device, scale), best[1], predictions)


def score(
    model: Tuned, data: TaskData, config: FinetuneConfig, device: torch.device, scale: "Scale"
) -> dict[str, float]:
    """Every metric of every dev set of the task."""
    scores = {}
    for suffix, dev in data.dev.items():
        predictions = predict(model, dev, config, device, scale)
        for metric in data.task.metrics:
            scores[f"{suffix} {metric}".strip()] = METRICS[metric](dev.labels, predictions)
    return scores


@torch.no_grad()
def predict(
    model: Tuned, examples: EncodedExamples, config: FinetuneConfig, device: torch.device, scale: "Scale"
) -> np.ndarray:
    """Classes int64 [rows] or scores float32 [rows], in the order of ``examples``."""
    model.eval()
    lengths = examples.lengths
    order = np.argsort(lengths, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(np.cumsum(lengths[order]) // SCORING_TOKENS)) + 1)
    with _autocast(config, device):
        outputs = [model(_batch(examples, rows).to(device)).cpu() for rows in parts]
    answers = scale.answers(torch.cat(outputs)).numpy()
    inverse = np.empty_like(order)
    inverse[order] = np.arange(len(order))
    return answers[inverse]


def shuffled_batches(lengths: np.ndarray, batch_size: int, generator: np.random.Generator) -> list[np.ndarray]:
    """Rows of each batch of one epoch: random, but of similar length within a batch, and ascending there."""
    order = generator.permutation(len(lengths))
    bucket = batch_size * BUCKET_BATCHES
    batches = []
    for start in range(0, len(order), bucket):
        rows = order[start : start + bucket]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        batches += [rows[first : first + batch_size] for first in range(0, len(rows), batch_size)]
    return [batches[index] for index in generator.permutation(len(batches))]


def _epochs(
    model: Tuned,
    data: TaskData,
    config: FinetuneConfig,
    seed: int,
    device: torch.device,
    scale: "Scale",
    advance: Callable[[int, int], None],
) -> Iterator[int]:
    """Train, and yield the number of each epoch when it is over."""
    generator = np.random.default_rng(seed)
    lengths = data.train.lengths
    per_epoch = -(-len(lengths) // config.batch_size)
    steps = per_epoch * config.epochs
    schedule = ScheduleConfig(warmup_steps=round(config.warmup_fraction * steps))
    groups = parameter_groups(model, config.weight_decay)
    optimizer = torch.optim.AdamW(groups, config.learning_rate, BETAS, EPSILON, fused=True)
    step = 0
    for epoch in range(1, config.epochs + 1):
        model.train()
        for rows in shuffled_batches(lengths, config.batch_size, generator):
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * schedule.factor(step, steps)
            with _autocast(config, device):
                outputs_BC = model(_batch(data.train, rows).to(device))
            loss = scale.loss(outputs_BC, torch.from_numpy(data.train.labels[rows]).to(device))
            loss.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clipping or math.inf)
            if not torch.isfinite(norm):
                raise TaskError(
                    f"{data.title}: the gradient is not a number at step {step} of {steps} with learning_rate "
                    f"{config.learning_rate:g}; lower it under [tasks.{data.task.name}]"
                )
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            advance(step, steps)
        yield epoch


@dataclass(frozen=True)
class Scale:
    """Loss of the outputs, and what they mean: classes, or scores learned in units of their own deviation."""

    classes: bool
    mean: float
    deviation: float

    @classmethod
    def of(cls, labels: np.ndarray, task: Task) -> "Scale":
        return cls(bool(task.labels), float(labels.mean()), float(labels.std()) or 1.0)

    def loss(self, outputs_BC: Tensor, labels_B: Tensor) -> Tensor:
        if self.classes:
            return F.cross_entropy(outputs_BC, labels_B)
        return F.mse_loss(outputs_BC[:, 0], (labels_B - self.mean) / self.deviation)

    def answers(self, outputs_BC: Tensor) -> Tensor:
        if self.classes:
            return outputs_BC.argmax(-1)
        return outputs_BC[:, 0] * self.deviation + self.mean


def _batch(examples: EncodedExamples, rows: np.ndarray) -> Batch:
    firsts = examples.first_segment_lengths[rows]
    return pack([examples.tokens[row] for row in rows], firsts.tolist(), first_lengths=firsts)


def _autocast(config: FinetuneConfig, device: torch.device) -> torch.autocast:
    # A caller without a suite may leave it at "auto".
    chosen = of_device(device).name if config.precision == "auto" else config.precision
    return torch.autocast(device.type, torch.bfloat16, enabled=chosen == "bf16")
