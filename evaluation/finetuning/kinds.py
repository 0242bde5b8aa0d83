"""The table of kinds of tasks: the loss of the head's outputs, and the answers that they mean.

S sequences, B rows, C outputs, M tokens of the longest sequence.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sesame.evaluation.finetune_config import FinetuneConfig
from sesame.evaluation.finetuning.encoded import EncodedExamples
from sesame.pretrain.batch import Batch

DEFAULTS = FinetuneConfig()


@dataclass(frozen=True)
class Kind(ABC):
    """Loss and answers of one kind of task."""

    @classmethod
    def of(cls, labels: np.ndarray, config: FinetuneConfig = DEFAULTS) -> "Kind":
        """Return the kind for training rows with these labels."""
        return cls()

    @abstractmethod
    def loss(self, outputs_SC: Tensor, labels_B: Tensor, counts_B: Tensor) -> Tensor:
        """Mean loss over the rows of a batch.

        Args:
            labels_B: of each row; or the targets of each sequence (``EncodedExamples.targets``).
            counts_B: sequences of each row.
        """

    def terms(self, train: EncodedExamples, rows: np.ndarray) -> int:
        """Return of how many terms the loss of ``rows`` is the mean."""
        return len(rows)

    def predict(self, model: nn.Module, batch: Batch, examples: EncodedExamples, rows: np.ndarray) -> np.ndarray:
        """Return what is stored of each sequence of a batch, which has these ``rows``: [S, C]."""
        return self.in_label_units(model(batch)).cpu().numpy()

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
    def of(cls, labels: np.ndarray, config: FinetuneConfig = DEFAULTS) -> "Regress":
        return cls(float(labels.mean()), float(labels.std()) or 1.0)

    def loss(self, outputs_SC: Tensor, labels_B: Tensor, counts_B: Tensor) -> Tensor:
        return F.mse_loss(outputs_SC[:, 0], (labels_B - self.mean) / self.std)

    def in_label_units(self, outputs_SC: Tensor) -> Tensor:
        return outputs_SC * self.std + self.mean

    @staticmethod
    def answers(outputs_SC: np.ndarray, counts_B: np.ndarray) -> np.ndarray:
        return outputs_SC[:, 0]


class Choose(Kind):
    """The best candidate of each row, whose outputs share a softmax (Radford et al. 2018, section 3.3).

    If several candidates of a row may be right, the loss is that of the sum of their probabilities.
    """

    def loss(self, outputs_SC: Tensor, labels_B: Tensor, counts_B: Tensor) -> Tensor:
        rows = torch.repeat_interleave(torch.arange(len(counts_B), device=counts_B.device), counts_B)
        starts = counts_B.cumsum(0) - counts_B
        places = torch.arange(len(rows), device=rows.device) - starts[rows]
        padded = outputs_SC.new_full((len(counts_B), int(counts_B.max())), float("-inf"))
        scores = padded.index_put((rows, places), outputs_SC[:, 0])
        if labels_B.dtype != torch.bool:
            return F.cross_entropy(scores, labels_B)
        right = padded.index_put((rows[labels_B], places[labels_B]), outputs_SC[labels_B, 0])
        return (scores.logsumexp(-1) - right.logsumexp(-1)).mean()

    @staticmethod
    def answers(outputs_SC: np.ndarray, counts_B: np.ndarray) -> np.ndarray:
        return _best(outputs_SC[:, 0], counts_B)


@dataclass(frozen=True)
class Extract(Kind):
    """The words of a text from the best first to the best last token; the loss is the mean of both cross-entropies."""

    longest: int = DEFAULTS.longest_answer
    """Tokens of an answer, at most."""

    @classmethod
    def of(cls, labels: np.ndarray, config: FinetuneConfig = DEFAULTS) -> "Extract":
        return cls(config.longest_answer)

    def loss(self, outputs_SC: Tensor, labels_B: Tensor, counts_B: Tensor) -> Tensor:
        starts_SM, ends_SM = outputs_SC.unbind(-1)
        return (F.cross_entropy(starts_SM, labels_B[:, 0]) + F.cross_entropy(ends_SM, labels_B[:, 1])) / 2

    def terms(self, train: EncodedExamples, rows: np.ndarray) -> int:
        return int(train.row_counts[rows].sum())

    def predict(self, model: nn.Module, batch: Batch, examples: EncodedExamples, rows: np.ndarray) -> np.ndarray:
        lengths_S = batch.layout.cu_seqlens_B1.long().diff()
        best_S3 = best_spans(model(batch), batch["first_lengths"], lengths_S - 1, self.longest)
        return best_S3.cpu().numpy()

    @staticmethod
    def answers(outputs_SC: np.ndarray, counts_B: np.ndarray) -> np.ndarray:
        """Of each row the number of the sequence with the best span, and its first and last token, [B, 3]."""
        # Results of earlier versions have further spans.
        best_S3 = outputs_SC[:, :3]
        sequences = np.cumsum(counts_B) - counts_B + _best(best_S3[:, 0], counts_B)
        return np.column_stack([sequences, best_S3[sequences, 1:]]).astype(np.int64)


def _best(values_S: np.ndarray, counts_B: np.ndarray) -> np.ndarray:
    """Which of its sequences is the best of each row, int64 [B]."""
    ends = np.cumsum(counts_B)
    best = [values_S[end - count : end].argmax() for count, end in zip(counts_B, ends, strict=True)]
    return np.array(best, np.int64)


def best_spans(outputs_SM2: Tensor, first_S: Tensor, end_S: Tensor, longest: int) -> Tensor:
    """Return (sum of both outputs, first token, last token) of the best span in [first, end) of each sequence.

    Args:
        longest: tokens of a span, at most.

    Returns:
        float32 [S, 3]; -inf, 0, 0 where there is no span.
    """
    length = outputs_SM2.shape[1]
    places = torch.arange(length, device=outputs_SM2.device)
    starts, ends = places[:, None], places[None, :]
    allowed = (starts <= ends) & (ends < starts + longest)
    found_S3 = outputs_SM2.new_tensor([float("-inf"), 0.0, 0.0]).repeat(len(outputs_SM2), 1)
    for number, (output, first, end) in enumerate(zip(outputs_SM2, first_S, end_S, strict=True)):
        inside = (places >= first) & (places < end)
        scores = output[:, :1] + output[:, 1]
        value, index = scores.masked_fill(~(allowed & inside[:, None] & inside), float("-inf")).flatten().max(0)
        best = torch.stack([value, index // length, index % length])
        found_S3[number] = torch.where(value > float("-inf"), best, found_S3[number])
    return found_S3


KINDS: dict[str, type[Kind]] = {
    "classify": Classify,
    "regress": Regress,
    "choose": Choose,
    "spans": Classify,
    "extract": Extract,
}
"""By ``Task.kind``. The head of spans sees the states of the spans beside the pooled state."""
