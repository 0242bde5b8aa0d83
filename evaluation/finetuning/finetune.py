"""Fine-tuning on one task with one seed: train all weights of a backbone and a new head, then score and predict.

T tokens, S sequences, B rows, C outputs.
"""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from sesame.configs.errors import TaskError
from sesame.evaluation.config import FinetuneConfig
from sesame.evaluation.finetuning.batches import autocast, pack_rows, scoring_batches, shuffled_batches
from sesame.evaluation.finetuning.encoding import EncodedExamples, TaskData
from sesame.evaluation.finetuning.heads import Head
from sesame.evaluation.finetuning.kinds import KINDS, Kind, answers_of
from sesame.evaluation.finetuning.share import ALONE, DataShare, interleaved
from sesame.evaluation.scores import score
from sesame.evaluation.tasks.task import Task
from sesame.pretrain.batch import Batch
from sesame.pretrain.layers.attention import CoreAttention
from sesame.pretrain.optimizers import parameter_groups
from sesame.pretrain.optimizers.uncompiled import AdamW, keep_compiler_unloaded
from sesame.pretrain.parallel.recompute import recompute_parts
from sesame.pretrain.roles import Backbone
from sesame.pretrain.schedule import ScheduleConfig

BETAS, EPSILON = (0.9, 0.999), 1e-6
"""AdamW's, as in BERT's published code."""


class DivergedError(TaskError):
    """The gradient norm of a fine-tuning run is not finite."""


@dataclass(frozen=True)
class Outcome:
    """What one fine-tuning run computed."""

    epoch: int
    """The epoch (from 1) whose weights were scored."""
    dev: dict[str, np.ndarray]
    """Outputs float32 [S, C] by dev set, in the order of the file and in the unit of the labels."""
    test: dict[str, np.ndarray]
    """The same by file of predictions."""


class TaskModel(nn.Module):
    """Backbone and head: batch -> outputs [S, C]."""

    def __init__(self, backbone: nn.Module, task: Task, config: FinetuneConfig):
        super().__init__()
        self.backbone = backbone
        spans = len(task.train.spans) if task.train is not None else 0
        self.head = Head(cast(Backbone, backbone), task.outputs, config, spans)
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
    share: DataShare = ALONE,
) -> Outcome:
    """Train on ``data.train``, and compute the outputs for ``data.dev`` and ``data.test``; with a share, a collective.

    Args:
        backbone: modified in place.
        config: its precision is "fp32" or "bf16"; "auto" is resolved by the caller.
        seed: determines the head's initial values, the order of the rows and dropout.
        advance: called with (finished steps, total steps) after each step.
        share: of this process, if several fine-tune together.

    Raises:
        DivergedError: the gradient norm is not finite.
    """
    assert data.train is not None
    torch.manual_seed(seed)
    model = TaskModel(backbone, data.task, config).to(device)
    if config.recompute and not recompute_parts(model, "block"):
        raise TaskError("finetune.recompute: this model has no blocks that can be computed again; set it to false")
    kind = KINDS[data.task.kind].of(data.train.labels)
    if share.rank:
        # Dropout of other rows than those of the first process.
        torch.manual_seed((seed << 16) + share.rank)
    best: tuple[float, int, dict[str, Tensor]] = (-math.inf, config.epochs, {})
    for epoch in _epochs(model, data, data.train, config, seed, device, kind, advance, share):
        if config.select == "best":
            outputs = {prefix: predict(model, dev, config, device, kind, share) for prefix, dev in data.dev.items()}
            value = float(np.nan_to_num(np.mean(list(scores_of(data, outputs).values())), nan=-1.0))
            if value > best[0]:
                best = (value, epoch, copy.deepcopy(model.state_dict()))
            elif config.early_stopping and epoch - best[1] >= config.early_stopping:
                break
    if best[2]:
        model.load_state_dict(best[2])
    test = {name: predict(model, examples, config, device, kind, share) for name, examples in data.test.items()}
    dev = {prefix: predict(model, examples, config, device, kind, share) for prefix, examples in data.dev.items()}
    return Outcome(best[1], dev, test)


def scores_of(data: TaskData, outputs: dict[str, np.ndarray]) -> dict[str, float]:
    """Every metric of every dev set of the task, from the outputs for it."""
    scores = {}
    for prefix, dev in data.dev.items():
        predictions = answers(data.task, dev, outputs[prefix])
        for metric in data.task.metrics_of(prefix):
            scores[f"{prefix} {metric}".strip()] = score(metric, dev.labels, predictions, dev.groups)
    return scores


def answers(task: Task, examples: EncodedExamples, outputs_SC: np.ndarray) -> np.ndarray:
    """Predictions of every row, [B]."""
    return answers_of(task, outputs_SC, np.diff(examples.starts))


@torch.no_grad()
def predict(
    model: TaskModel,
    examples: EncodedExamples,
    config: FinetuneConfig,
    device: torch.device,
    kind: Kind,
    share: DataShare = ALONE,
) -> np.ndarray:
    """Outputs float32 [S, C] in the order of ``examples`` and in the unit of the labels."""
    model.eval()
    batches = scoring_batches(examples)
    with autocast(config, device):
        outputs = [model(pack_rows(examples, rows).to(device)).cpu() for rows in batches[share.rank :: share.size]]
    outputs = interleaved(share.gather(outputs))
    outputs_SC = kind.in_label_units(torch.cat(outputs)).numpy()
    inverse = np.empty_like(outputs_SC)
    inverse[examples.sequences(np.concatenate(batches))] = outputs_SC
    return inverse


def _epochs(
    model: TaskModel,
    data: TaskData,
    train: EncodedExamples,
    config: FinetuneConfig,
    seed: int,
    device: torch.device,
    kind: Kind,
    advance: Callable[[int, int], None],
    share: DataShare,
) -> Iterator[int]:
    """Train, and yield the number of each epoch after it."""
    generator = np.random.default_rng(seed)
    lengths = train.lengths
    steps = math.ceil(len(lengths) / config.batch_size) * config.epochs
    schedule = ScheduleConfig(warmup_steps=round(config.warmup_fraction * steps))
    groups = parameter_groups(model, config.weight_decay)
    keep_compiler_unloaded()
    optimizer = AdamW(groups, config.learning_rate, BETAS, EPSILON, fused=True)
    counts, step = np.diff(train.starts), 0
    for epoch in range(1, config.epochs + 1):
        model.train()
        for rows in shuffled_batches(lengths, config.batch_size, generator):
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * schedule.factor(step, steps)
            # A batch may have fewer rows than there are processes.
            if len(own := rows[share.rank :: share.size]):
                with autocast(config, device):
                    outputs_SC = model(pack_rows(train, own).to(device))
                labels_B, counts_B = (torch.from_numpy(each[own]).to(device) for each in (train.labels, counts))
                loss = kind.loss(outputs_SC, labels_B, counts_B)
                (loss if share.size == 1 else loss * (len(own) / len(rows))).backward()
            share.sum_gradients(model.parameters())
            norm = nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clipping or math.inf)
            if not torch.isfinite(norm):
                raise DivergedError(
                    f"{data.title}: the gradient norm is not finite at step {step} of {steps} with learning_rate "
                    f"{config.learning_rate:g}; lower it under [tasks.{data.task.name}]"
                )
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            advance(step, steps)
        yield epoch
