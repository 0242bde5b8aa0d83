"""Bidirectional language modelling: predict the next token from those before it, and the previous token from those
after it (ELMo, Peters et al. 2018, section 3.1)."""

from typing import ClassVar

import torch
from torch import Tensor

from sesame.pretrain.batch import IGNORED, Batch
from sesame.pretrain.objectives.token_prediction import TokenPrediction
from sesame.pretrain.roles import Backbone, Capability, Encoded


class BidirectionalLM(TokenPrediction):
    """Mean of both directions' losses, with one projection for both.

    The softmax is over the whole vocabulary; the paper, with 793,471 words, samples 8,192 of them.
    """

    needs: ClassVar[Capability] = "two_directional"
    reads: ClassVar[tuple[str, ...]] = ("tokens", "next_positions", "next_labels")
    label_column: ClassVar[str] = "next_labels"

    def __init__(self, backbone: Backbone):
        super().__init__(backbone, backbone.width // 2, bias=True)

    def forward(self, encoded: Encoded, batch: Batch) -> Tensor:
        forward_TP, backward_TP = encoded.hidden_TD.chunk(2, -1)
        positions_P, next_labels = batch["next_positions"], batch["next_labels"]
        next_loss = self.cross_entropy(self.projection, forward_TP[positions_P], next_labels)
        previous_labels = torch.where(next_labels == IGNORED, IGNORED, batch["tokens"][positions_P])
        previous_loss = self.cross_entropy(self.projection, backward_TP[positions_P + 1], previous_labels)
        return (next_loss + previous_loss) / 2

    def flops(self, labels: int) -> int:
        return 2 * super().flops(labels)
