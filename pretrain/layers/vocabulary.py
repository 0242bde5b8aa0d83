"""From a hidden state to a loss over the vocabulary: the projection, often tied to the embedding, and the loss.

Both are modules, because a vocabulary that is split over processes replaces them (``pretrain.parallel.tensor``).
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class VocabularyProjection(nn.Module):
    """hidden -> logits; its weight may be the embedding's own (Press & Wolf 2017)."""

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
    """Loss and gradient in one pass over a few rows at a time, so that no fp32 copy of all logits ever exists.

    The gradient, softmax - one-hot, is kept in the logits' own precision (as Liger Kernel does, Hsu et al. 2024).
    """

    @staticmethod
    def forward(ctx: Any, logits_PV: Tensor, labels_P: Tensor) -> Tensor:
        losses_P = torch.empty(labels_P.shape, dtype=torch.float32, device=logits_PV.device)
        gradient_PV = torch.empty_like(logits_PV) if ctx.needs_input_grad[0] else None
        size = max(1, ENTRIES_AT_ONCE[logits_PV.device.type] // logits_PV.shape[1])
        for start in range(0, len(labels_P), size):
            rows = slice(start, start + size)
            logs, labels = F.log_softmax(logits_PV[rows], -1, dtype=torch.float32), labels_P[rows, None]
            losses_P[rows] = logs.gather(1, labels)[:, 0].neg()
            if gradient_PV is not None:
                ones = logs.new_full(labels.shape, -1.0)
                gradient_PV[rows] = logs.exp_().scatter_add_(1, labels, ones)
        ctx.save_for_backward(gradient_PV)
        return losses_P.sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.saved_tensors[0].mul(gradients[0]), None


ENTRIES_AT_ONCE = {"cpu": 2**18, "cuda": 2**27}
"""Logits handled together, by device: a megabyte stays in a core's cache, a GPU wants few large calls."""
