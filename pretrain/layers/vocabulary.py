"""Projection of hidden states to the vocabulary, often tied to the embedding, and cross-entropy.

Both are modules, so that ``pretrain.parallel.tensor`` can replace them where the vocabulary is split over processes.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class VocabularyProjection(nn.Module):
    """Hidden states -> logits; the weight may be tied to the embedding (Press & Wolf 2017)."""

    def __init__(self, vocabulary_size: int, width: int, *, bias: bool = True, scale: float = 1.0):
        """
        Args:
            scale: of the hidden state (T5 with a tied embedding: width^-0.5).
        """
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(vocabulary_size, width))
        self.bias = nn.Parameter(torch.empty(vocabulary_size)) if bias else None

    def forward(self, hidden_PD: Tensor) -> Tensor:
        if self.scale != 1.0:
            hidden_PD = hidden_PD * self.scale
        return F.linear(hidden_PD, self.weight, self.bias)


class CrossEntropy(nn.Module):
    """Sum of -log softmax(logits)[label] in nats, computed in fp32 whatever the logits' precision."""

    def forward(self, logits_PV: Tensor, labels_P: Tensor) -> Tensor:
        return cast(Tensor, _SummedCrossEntropy.apply(logits_PV, labels_P))


class _SummedCrossEntropy(torch.autograd.Function):
    """Loss and gradient in one pass over a few rows at a time, without an fp32 copy of all logits.

    The gradient, softmax - one-hot, is stored in the precision of the logits (as in Liger Kernel, Hsu et al. 2024).
    """

    @staticmethod
    def forward(ctx: Any, logits_PV: Tensor, labels_P: Tensor) -> Tensor:
        losses_P = torch.empty(labels_P.shape, dtype=torch.float32, device=logits_PV.device)
        gradient_PV = torch.empty_like(logits_PV) if ctx.needs_input_grad[0] else None
        size = max(1, ENTRIES_AT_ONCE[logits_PV.device.type] // logits_PV.shape[1])
        for start in range(0, len(labels_P), size):
            rows = slice(start, start + size)
            log_probabilities, labels = F.log_softmax(logits_PV[rows], -1, dtype=torch.float32), labels_P[rows, None]
            losses_P[rows] = log_probabilities.gather(1, labels)[:, 0].neg()
            if gradient_PV is not None:
                ones = log_probabilities.new_full(labels.shape, -1.0)
                gradient_PV[rows] = log_probabilities.exp_().scatter_add_(1, labels, ones)
        ctx.save_for_backward(gradient_PV)
        return losses_P.sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.saved_tensors[0].mul(gradients[0]), None


ENTRIES_AT_ONCE = {"cpu": 2**18, "cuda": 2**27}
"""Logits processed at once, by device: a megabyte fits into a core's cache, a GPU needs few large calls."""
