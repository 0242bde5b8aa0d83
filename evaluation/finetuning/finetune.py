"""Fine-tuning on one task with one seed: train all weights of a backbone and a new head, then score and predict.

T tokens, S sequences, B rows, C outputs.
"""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from sesame.configs.errors import TaskError
from sesame.evaluation.config import FinetuneConfig
from sesame.evaluation.finetuning.answers import answers
from sesame.evaluation.finetuning.batches import autocast, pack_rows, scoring_batches, shuffled_batches
from sesame.evaluation.finetuning.decoder import kind_of
from sesame.evaluation.finetuning.encoded import EncodedExamples
from sesame.evaluation.finetuning.encoding import TaskData
from sesame.evaluation.finetuning.heads import make_head
from sesame.evaluation.finetuning.kinds import Kind
from sesame.evaluation.finetuning.optimization import epochs_of
from sesame.evaluation.finetuning.share import ALONE, DataShare, interleaved
from sesame.evaluation.finetuning.training import Training
from sesame.evaluation.scores import score
from sesame.evaluation.tasks.task import Task, score_name
from sesame.pretrain.batch import Batch
from sesame.pretrain.data.repeated_sizes import sizes_for
from sesame.pretrain.layers.attention import CoreAttention
from sesame.pretrain.parallel.recompute import recompute_parts
from sesame.pretrain.roles import Backbone


@dataclass(frozen=True)
class Outcome:
    """What one fine-tuning run computed."""

    epoch: int
    """The epoch (from 1) whose weights were scored."""
    dev: dict[str, np.ndarray]
    """Outputs float32 [S, C] by dev set, in the order of the file and in the unit of the labels."""
    test: dict[str, np.ndarray]
    """The same by file of predictions."""
    losses: np.ndarray
    """float32 [steps]: the training loss of each step."""
    dev_scores: tuple[float, ...] = ()
    """Mean dev score after each epoch, if the best one was selected."""
    pooler: dict[str, Tensor] = field(default_factory=dict)
    """Weight and bias of the head's hidden layer, if it is a pooler of the first token."""


class TaskModel(nn.Module):
    """Backbone and head: batch -> outputs [S, C]."""

    def __init__(self, backbone: nn.Module, task: Task, config: FinetuneConfig):
        super().__init__()
        self.backbone = backbone
        self.head = make_head(cast(Backbone, backbone), task, config)
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
    if share.rank:
        # Dropout of other rows than those of the first process.
        torch.manual_seed((seed << 16) + share.rank)
    kind = kind_of(data, config)
    best: tuple[float, int, dict[str, Tensor]] = (-math.inf, epochs_of(config, data.train.rows), {})
    losses: list[Tensor] = []
    dev_scores: list[float] = []
    for epoch in _epochs(Training(model, data, config, device, kind, share), seed, losses, advance):
        if config.select == "best":
            outputs = {prefix: predict(model, dev, config, device, kind, share) for prefix, dev in data.dev.items()}
            value = float(np.nan_to_num(np.mean(list(scores_of(data, outputs).values())), nan=-1.0))
            dev_scores.append(value)
            if value > best[0]:
                best = (value, epoch, copy.deepcopy(model.state_dict()))
            elif config.early_stopping and epoch - best[1] >= config.early_stopping:
                break
    if best[2]:
        model.load_state_dict(best[2])
    test = {name: predict(model, examples, config, device, kind, share) for name, examples in data.test.items()}
    dev = {prefix: predict(model, examples, config, device, kind, share) for prefix, examples in data.dev.items()}
    curve = np.sum(share.gather(torch.stack(losses).float().cpu().numpy()), axis=0)
    return Outcome(best[1], dev, test, curve, tuple(dev_scores), model.head.pooler)


def scores_of(data: TaskData, outputs: dict[str, np.ndarray]) -> dict[str, float]:
    """Every metric of every dev set of the task, from the outputs for it."""
    scores = {}
    for prefix, dev in data.dev.items():
        predictions = answers(data.task, dev, outputs[prefix])
        for metric in data.task.metrics_of(prefix):
            scores[score_name(prefix, metric)] = score(metric, dev.labels, predictions, dev.groups)
    return scores


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
    sized = sizes_for(model, config.precision, device)
    with autocast(config, device):
        outputs = [
            kind.predict(model, sized(pack_rows(examples, rows).to(device)), examples, rows)
            for rows in batches[share.rank :: share.size]
        ]
    outputs_SC = np.concatenate(interleaved(share.gather(outputs)))
    inverse = np.empty_like(outputs_SC)
    inverse[examples.sequences(np.concatenate(batches))] = outputs_SC
    return inverse


def _epochs(training: Training, seed: int, losses: list[Tensor], advance: Callable[[int, int], None]) -> Iterator[int]:
    """Train, append the loss of each step to ``losses``, and yield the number of each epoch after it."""
    generator, train, config = np.random.default_rng(seed), training.train, training.config
    for epoch in range(1, epochs_of(config, train.rows) + 1):
        batches = shuffled_batches(train.lengths, config.batch_size, generator)
        with training.running():
            for rows in batches[: training.steps - training.step_number]:
                losses.append(training.step(rows))
                advance(training.step_number, training.steps)
        yield epoch
