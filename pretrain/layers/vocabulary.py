"""From a hidden state to a loss over the vocabulary: the projection that is tied to the embedding, and the loss.

Both are modules, because a vocabulary that is split over processes replaces them (``pretrain.parallel.tensor``).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class VocabularyProjection(nn.Module):
    """hidden -> logits with the embedding's own weight (Press & Wolf 2017) and a bias for each token."""

    def __init__(self, vocabulary_size: int, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocabulary_size, width))
        self.bias = nn.Parameter(torch.empty(vocabulary_size))

    def forward(self, hidden_PD: Tensor) -> Tensor:
        return F.linear(hidden_PD, self.weight, self.bias)


class CrossEntropy(nn.Module):
    """Sum of -log softmax(logits)[label] in nats, computed in fp32 whatever the logits' precision."""

    def forward(self, logits_PV: Tensor, labels_P: Tensor) -> Tensor:
        return F.cross_entropy(logits_PV.float(), labels_P, reduction="sum")
