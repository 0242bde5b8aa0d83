"""Rows that make a loss or a gradient wrong, whichever step, process and micro-batch reads them; late numbers."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sesame.pretrain.batch import Batch
from sesame.pretrain.data.batches import Batches
from sesame.pretrain.device_number import DeviceNumber
from sesame.pretrain.learner import Learner

POISON = "poison"
EFFECTS: dict[str, Callable[[Tensor], Tensor]] = {
    "nan loss": lambda total: total * torch.nan,
    "spike": lambda total: total * 50,
}
"""What happens to the total loss."""
GRADIENT_EFFECTS = {"nan gradient": torch.nan, "gradient spike": 300.0}
"""What the gradient is multiplied by, while the loss stays as it is. "slow process 1" takes a second in each forward
pass of that process, whatever the rows are."""
KINDS = {
    "nan loss": "non_finite_loss",
    "nan gradient": "non_finite_gradient",
    "spike": "loss_spike",
    "gradient spike": "gradient_spike",
}
"""What each is reported as."""


def plant(monkeypatch: pytest.MonkeyPatch, row: int, effect: str) -> None:
    """Let every micro-batch with training row ``row`` have ``effect``."""
    make_batch, forward = Batches._batch, Learner.forward

    def batch_of(self: Batches, split: Any, rows: np.ndarray, part: np.ndarray, *others: Any) -> Batch:
        batch = make_batch(self, split, rows, part, *others)
        if split is self.train and row in rows[part]:
            return Batch(batch.layout, {**batch.columns, POISON: torch.ones(1)}, batch.denominators, batch.targets)
        return batch

    def poisoned(self: Learner, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        total, losses = forward(self, batch)
        if effect == "slow process 1" and os.environ["RANK"] == "1":
            time.sleep(1.0)
        if POISON not in batch.columns or effect.startswith("slow"):
            return total, losses
        if factor := GRADIENT_EFFECTS.get(effect):
            total.register_hook(lambda gradient: gradient * factor)
            return total, losses
        return EFFECTS[effect](total), {name: EFFECTS[effect](loss) for name, loss in losses.items()}

    monkeypatch.setattr(Batches, "_batch", batch_of)
    monkeypatch.setattr(Learner, "forward", poisoned)


def row_of_step(dataset: Path, step: int, *, global_batch: int = 16, seed: int = 1) -> int:
    """Return a row that a run without skipped samples reads in ``step`` (from 1)."""
    from sesame.data_pipeline.dataset.shards import open_dataset
    from sesame.pretrain.data.order import Order

    rows = open_dataset(dataset, verify=False).split("train").rows
    return int(Order(rows, seed, 0)[slice((step - 1) * global_batch, step * global_batch)][5])


class LateNumber(DeviceNumber):
    """Stands for a number on a GPU, which is known one step later."""

    def __init__(self, value: Any):
        super().__init__(value)
        self.is_late = True

    def _read(self) -> Any:
        return self._value


def make_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let losses and norms be known as late as on a GPU."""
    for module in ("watch.losses", "parallel.engine", "parallel.update_gate"):
        monkeypatch.setattr(f"sesame.pretrain.{module}.DeviceNumber", LateNumber)
