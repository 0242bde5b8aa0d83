"""Masked language modelling: predict the original token at the corrupted positions (BERT, section 3.1, task 1)."""

from typing import ClassVar, cast

import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.interfaces import Backbone, Batch, Encoded
from pretrain.layers.vocabulary import CrossEntropy, VocabularyProjection


class MaskedLM(nn.Module):
    """BERT's head: dense, GELU, layer norm, then the embedding's own weight; predicted positions only."""

    reads: ClassVar[tuple[str, ...]] = ("mask_positions", "mask_labels")
    label_column: ClassVar[str] = "mask_labels"
    SHARDING: ClassVar[dict[str, str]] = {"projection": "vocabulary", "cross_entropy": "vocabulary"}

    def __init__(self, backbone: Backbone):
        super().__init__()
        width = backbone.width
        self.dense = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, 1e-12)
        self.projection = VocabularyProjection(backbone.token_embedding.num_embeddings, width)
        self.cross_entropy = CrossEntropy()
        self.tie(backbone)

    def tie(self, backbone: Backbone) -> None:
        """Share the embedding's weight; called again when either of the two modules was replaced."""
        self.projection.weight = cast(nn.Parameter, backbone.token_embedding.weight)

    def forward(self, encoded: Encoded, batch: Batch) -> Tensor:
        predicted_PD = encoded.hidden_TD[batch["mask_positions"]]
        predicted_PD = self.norm(F.gelu(self.dense(predicted_PD)))
        return self.cross_entropy(self.projection(predicted_PD), batch["mask_labels"])
