"""The table of kinds of tasks: the loss of the head's outputs, and the answers that they mean.

S sequences, B rows, C outputs.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sesame.evaluation.tasks.task import Task


@dataclass(frozen=True)
class Kind(ABC):
    """Loss and answers of one kind of task."""

    @classmethod
    def of(cls, labels: np.ndarray) -> "Kind":
        """Return the kind for training rows with these labels."""
        return cls()

    @abstractmethod
    def loss(self, outputs_SC: Tensor, labels_B: Tensor, counts_B: Tensor) -> Tensor:
        """Mean loss over the rows of a batch; ``counts_B`` are the sequences of each row."""

    def in_label_units(self, outputs_SC: Tensor) -> Tensor:
        """Outputs as they are stored and answers are read from."""
        return outputs_SC

    @staticmethod
    @abstractmethod
    def answers(outputs_SC: np.ndarray, counts_B: np.ndarray) -> np.ndarray:
        """Predictions [B]: int64 classes, or float32 scores."""


class Classify(Kind):
    """A class for each row; cross-entropy."""

    def loss(self, outputs_SC: Tensor, labels_B: Tensor, counts_B: Tensor) -> Tensor:
        return F.cross_entropy(outputs_SC, labels_B)

    @staticmethod
    def answers(outputs_SC: np.ndarray, counts_B: np.ndarray) -> np.ndarray:
        return outputs_SC.argmax(-1)


@dataclass(frozen=True)
class Regress(Kind):
    """A score for each row; mean squared error of standardized scores."""

    mean: float = 0.0
    std: float = 1.0

    @classmethod
    def of(cls, labels: np.ndarray) -> "Regress":
        return cls(float(labels.mean()), float(labels.std()) or 1.0)

    def loss(self, outputs_SC: Tensor, labels_B: Tensor, counts_B: Tensor) -> Tensor:
        return F.mse_loss(outputs_SC[:, 0], (labels_B - self.mean) / self.std)

    def in_label_units(self, outputs_SC: Tensor) -> Tensor:
        return outputs_SC * self.std + self.mean

    @staticmethod
    def answers(outputs_SC: np.ndarray, counts_B: np.ndarray) -> np.ndarray:
        return outputs_SC[:, 0]


class Choose(Kind):
    """The best candidate of each row, whose outputs share a softmax (Radford et al. 2018, section 3.3)."""

    def loss(self, outputs_SC: Tensor, labels_B: Tensor, counts_B: Tensor) -> Tensor:
        rows = torch.repeat_interleave(torch.arange(len(counts_B), device=counts_B.device), counts_B)
        starts = counts_B.cumsum(0) - counts_B
        places = torch.arange(len(rows), device=rows.device) - starts[rows]
        padded = outputs_SC.new_full((len(counts_B), int(counts_B.max())), float("-inf"))
        return F.cross_entropy(padded.index_put((rows, places), outputs_SC[:, 0]), labels_B)

    @staticmethod
    def answers(outputs_SC: np.ndarray, counts_B: np.ndarray) -> np.ndarray:
        ends = np.cumsum(counts_B)
        return np.array([outputs_SC[end - count : end, 0].argmax() for count, end in zip(counts_B, ends, strict=True)])


KINDS: dict[str, type[Kind]] = {"classify": Classify, "regress": Regress, "choose": Choose, "spans": Classify}
"""By ``Task.kind``. The head of spans sees the states of the spans beside the pooled state."""


def _pair_answers(outputs_SC: np.ndarray, counts_B: np.ndarray) -> np.ndarray:
    """1 if the first of two sequences has the larger output, 1/2 if both are equal, else 0."""
    first, second = outputs_SC.reshape(-1, 2).T
    return np.where(first == second, 0.5, first > second).astype(np.float32)


ANSWERS = {
    **{name: kind.answers for name, kind in KINDS.items()},
    # Both sequences of a row have the cosine of the two.
    "similarity": lambda outputs_SC, counts_B: outputs_SC[::2, 0],
    "minimal_pairs": _pair_answers,
}
"""Function from stored outputs [S, C] and the sequences of each row [B] to predictions [B], by ``Task.kind``."""


def answers_of(task: Task, outputs_SC: np.ndarray, counts_B: np.ndarray) -> np.ndarray:
    """Return the predictions [B] that stored outputs mean."""
    return ANSWERS[task.kind](outputs_SC, counts_B)
