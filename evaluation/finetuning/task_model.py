"""The model of a task: a backbone with a head, and the same as ``pretrain/parallel`` trains it.

T tokens, S sequences, B rows, C outputs.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from sesame.configs.errors import TaskError
from sesame.evaluation.finetune_config import FinetuneConfig
from sesame.evaluation.finetuning.batches import autocast, pack_rows
from sesame.evaluation.finetuning.encoded import EncodedExamples
from sesame.evaluation.finetuning.heads import make_head
from sesame.evaluation.finetuning.kinds import Kind
from sesame.evaluation.tasks.task import Task
from sesame.pretrain.batch import Batch
from sesame.pretrain.layers.attention import CoreAttention
from sesame.pretrain.learner import Trainable
from sesame.pretrain.roles import Backbone

ROW_TARGETS, ROW_COUNTS, LOSS_FACTOR = "row_targets", "row_counts", "loss_factor"
"""Batch columns of a training batch: arguments of ``Kind.loss``, and [1], what its loss is multiplied by."""


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

    def forward(self, batch: Batch) -> Any:
        return self.head(self.backbone(batch), batch)


class TaskLearner(TaskModel, Trainable):
    """A model that several processes train: a batch of :func:`training_batch` -> (loss, named losses), another batch ->
    outputs [S, C]."""

    def __init__(self, backbone: nn.Module, task: Task, config: FinetuneConfig, kind: Kind):
        super().__init__(backbone, task, config)
        self.config, self.kind = config, kind

    def sharding(self) -> Iterator[tuple[str, str]]:
        """Heads are not split."""
        yield from ((f"backbone.{pattern}", style) for pattern, style in cast(Any, self.backbone).SHARDING.items())

    def tie(self) -> None:
        """A head that is tied to the backbone is not used where layers are replaced."""

    def forward(self, batch: Batch) -> Any:
        if ROW_TARGETS not in batch.columns:
            return super().forward(batch)
        with autocast(self.config, batch["tokens"].device):
            outputs_SC = super().forward(batch)
        loss = self.kind.loss(outputs_SC, batch[ROW_TARGETS], batch[ROW_COUNTS]) * batch[LOSS_FACTOR][0]
        return loss, {"loss": loss.detach()}


def training_batch(train: EncodedExamples, rows: np.ndarray, factor: float) -> Batch:
    """Return the batch of ``rows`` for a :class:`TaskLearner`; ``factor`` multiplies its loss."""
    batch = pack_rows(train, rows)
    columns: dict[str, Tensor] = {
        ROW_TARGETS: torch.from_numpy(train.targets_of(rows)),
        ROW_COUNTS: torch.from_numpy(train.row_counts[rows]),
        LOSS_FACTOR: torch.tensor([factor]),
    }
    return replace(batch, columns={**batch.columns, **columns})


def require_blocks(model: nn.Module) -> None:
    """Raise TaskError if the model has no blocks that can be recomputed."""
    if not any(getattr(part, "recomputable", None) == "block" for part in model.modules()):
        raise TaskError("finetune.recompute: this model has no blocks that can be computed again; set it to false")
