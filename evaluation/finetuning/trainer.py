"""What trains the model of a task step by step: in one process, or (``engine_trainer.py``) in several together.

S sequences, C outputs.
"""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from sesame.evaluation.finetune_config import FinetuneConfig
from sesame.evaluation.finetuning.batches import autocast, pack_rows, scoring_batches
from sesame.evaluation.finetuning.decoder import kind_of
from sesame.evaluation.finetuning.encoded import EncodedExamples
from sesame.evaluation.finetuning.encoding import TaskData
from sesame.evaluation.finetuning.kinds import Kind
from sesame.evaluation.finetuning.optimization import adamw
from sesame.evaluation.finetuning.share import ALONE, DataShare, interleaved
from sesame.evaluation.finetuning.task_model import TaskModel
from sesame.evaluation.finetuning.used_rows import rows_to_train
from sesame.pretrain.data.repeated_sizes import sizes_for
from sesame.pretrain.initialization import Rows

BACKBONE = "backbone."
"""Prefix of the backbone's parameters, in checkpoints and in the model of a task."""
Weights = Callable[[str, torch.Size], Rows]
"""(name with prefix, whole shape) -> rows of a weight of a backbone."""


class Trainer(ABC):
    """A model with its optimizer."""

    share: DataShare = ALONE
    """Of the rows of a batch, this process's."""

    def __init__(self, model: TaskModel, data: TaskData, config: FinetuneConfig, device: torch.device, kind: Kind):
        assert data.train is not None
        self.model, self.train, self.config, self.device = model, data.train, config, device
        self.kind, self.sized = kind, sizes_for(model, config.precision, device)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Prepare the model for steps in the block, and for prediction afterwards."""
        self.model.train()
        yield

    @abstractmethod
    def step(self, rows: np.ndarray, step: int, factor: float) -> tuple[Tensor, bool]:
        """Take one optimizer step.

        Args:
            rows: of the batch.
            step: number of the step, from 0.
            factor: of the peak learning rate.

        Returns:
            (this process's part of the mean loss, whether the gradient norm is finite); if it is not, the weights are
            as they were.
        """

    @abstractmethod
    def weights(self) -> dict[str, Tensor]:
        """Return a copy of this process's weights."""

    @abstractmethod
    def restore(self, weights: dict[str, Tensor]) -> None:
        """Set the weights to a copy of :meth:`weights`, after the last step."""

    def predict(self, examples: EncodedExamples) -> np.ndarray:
        """Return :func:`predict` of the model."""
        return predict(self.model, examples, self.config, self.device, self.kind, self.share)


class LocalTrainer(Trainer):
    """Trains in this process alone."""

    def __init__(self, model: TaskModel, data: TaskData, config: FinetuneConfig, device: torch.device):
        super().__init__(model, data, config, device, kind_of(data, config))
        self.rows = rows_to_train(model.backbone, self.train, device)
        with self.rows.trained():
            self.optimizer = adamw(model, config)

    @contextmanager
    def running(self) -> Iterator[None]:
        with super().running(), self.rows.trained():
            yield

    def step(self, rows: np.ndarray, step: int, factor: float) -> tuple[Tensor, bool]:
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * group["share"] * factor
        with autocast(self.config, self.device):
            outputs_SC = self.model(self.sized(pack_rows(self.train, rows).to(self.device)))
        parts = self.train.targets_of(rows), self.train.row_counts[rows]
        targets, counts_B = (torch.from_numpy(each).to(self.device) for each in parts)
        loss = self.kind.loss(outputs_SC, targets, counts_B)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_clipping or math.inf)
        is_finite = bool(torch.isfinite(norm))
        if is_finite:
            self.optimizer.step()
            self.rows.decay(self.optimizer.param_groups)
        self.optimizer.zero_grad()
        return loss.detach(), is_finite

    def weights(self) -> dict[str, Tensor]:
        return copy.deepcopy(self.model.state_dict())

    def restore(self, weights: dict[str, Tensor]) -> None:
        self.model.load_state_dict(weights)


@torch.no_grad()
def predict(
    model: TaskModel,
    examples: EncodedExamples,
    config: FinetuneConfig,
    device: torch.device,
    kind: Kind,
    share: DataShare = ALONE,
) -> np.ndarray:
    """Outputs float32 [S, C] in the order of ``examples`` and in the unit of the labels; with a share, a collective."""
    model.eval()
    batches, outputs = scoring_batches(examples), []
    sized = sizes_for(model, config.precision, device)
    with autocast(config, device):
        for first in range(0, len(batches), share.size):
            # Under ZeRO 3 a forward pass is a collective: who has no batch left computes the last one again.
            number = first + share.rank
            rows = batches[min(number, len(batches) - 1)]
            found = kind.predict(model, sized(pack_rows(examples, rows).to(device)), examples, rows)
            if number < len(batches):
                outputs.append(found)
    outputs_SC = np.concatenate(interleaved(share.gather(outputs)))
    inverse = np.empty_like(outputs_SC)
    inverse[examples.sequences(np.concatenate(batches))] = outputs_SC
    return inverse
