"""The training steps of fine-tuning: gradients of a batch, clipping, AdamW and the learning rate's schedule."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from sesame.configs.errors import TaskError
from sesame.evaluation.config import FinetuneConfig
from sesame.evaluation.finetuning.batches import autocast, pack_rows
from sesame.evaluation.finetuning.encoding import TaskData
from sesame.evaluation.finetuning.kinds import Kind
from sesame.evaluation.finetuning.optimization import adamw, schedule_of, steps_of
from sesame.evaluation.finetuning.share import ALONE, DataShare
from sesame.evaluation.finetuning.used_rows import rows_to_train
from sesame.pretrain.data.repeated_sizes import sizes_for


class DivergedError(TaskError):
    """The gradient norm of a fine-tuning run is not finite."""


class Training:
    """The steps of one fine-tuning run; with a share, a collective."""

    def __init__(
        self,
        model: nn.Module,
        data: TaskData,
        config: FinetuneConfig,
        device: torch.device,
        kind: Kind,
        share: DataShare = ALONE,
    ):
        """
        Args:
            model: a ``TaskModel`` on ``device``.
            share: of this process, if several fine-tune together.
        """
        assert data.train is not None
        self.model, self.data, self.train, self.config = model, data, data.train, config
        self.device, self.kind, self.share = device, kind, share
        self.steps, self.step_number = steps_of(config, data.train.rows), 0
        self.sized = sizes_for(model, config.precision, device)
        self.schedule = schedule_of(config, self.steps)
        self.rows = rows_to_train(model.get_submodule("backbone"), data.train, device)
        with self.rows.trained():
            self.optimizer = adamw(model, config)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Prepare the model for steps in the block, and for prediction afterwards."""
        self.model.train()
        with self.rows.trained():
            yield

    def step(self, rows: np.ndarray) -> Tensor:
        """Train on ``rows``; return this process's part of their mean loss.

        Raises:
            DivergedError: the gradient norm is not finite.
        """
        config, groups = self.config, self.optimizer.param_groups
        for group in groups:
            group["lr"] = config.learning_rate * group["share"] * self.schedule.factor(self.step_number, self.steps)
        loss = self._backward(rows)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.gradient_clipping or math.inf)
        if not torch.isfinite(norm):
            raise DivergedError(
                f"{self.data.title}: the gradient norm is not finite at step {self.step_number} of {self.steps} with "
                f"learning_rate {config.learning_rate:g}; lower it under [tasks.{self.data.task.name}]"
            )
        self.optimizer.step()
        self.rows.decay(groups)
        self.optimizer.zero_grad()
        self.step_number += 1
        return loss

    def _backward(self, rows: np.ndarray) -> Tensor:
        """Compute the gradients of a batch, and return this process's part of its mean loss."""
        share, train = self.share, self.train
        own, loss = rows[share.rank :: share.size], torch.zeros((), device=self.device)
        # A batch may have fewer rows than there are processes.
        if len(own):
            with autocast(self.config, self.device):
                outputs_SC = self.model(self.sized(pack_rows(train, own).to(self.device)))
            targets, counts_B = (
                torch.from_numpy(each).to(self.device) for each in (train.targets_of(own), train.row_counts[own])
            )
            loss = self.kind.loss(outputs_SC, targets, counts_B)
            loss = loss if share.size == 1 else loss * (len(own) / len(rows))
            loss.backward()
        share.sum_gradients(self.model.parameters())
        return loss.detach()
