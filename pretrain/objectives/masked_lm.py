"""Masked language modelling: predict the original token at the corrupted positions (BERT, section 3.1, task 1)."""

from typing import ClassVar

from torch import Tensor

from pretrain.batch import Batch
from pretrain.flops import product_flops
from pretrain.layers.style import ACTIVATIONS
from pretrain.objectives.token_prediction import TokenPrediction
from pretrain.roles import Backbone, Capability, Encoded


class MaskedLM(TokenPrediction):
    """BERT's head: dense, activation, norm, then the embedding's own weight; predicted positions only."""

    needs: ClassVar[Capability] = "bidirectional"
    reads: ClassVar[tuple[str, ...]] = ("mask_positions", "mask_labels")
    label_column: ClassVar[str] = "mask_labels"

    def __init__(self, backbone: Backbone):
        embedded = backbone.token_embedding.embedding_dim
        super().__init__(backbone, embedded, bias=True)
        self.dense = backbone.style.linear(backbone.width, embedded)
        self.activation = ACTIVATIONS[backbone.style.head_activation or backbone.style.activation]
        self.norm = backbone.style.normalisation(embedded)
        self.dense_weights = backbone.width * embedded

    def logits(self, encoded: Encoded, batch: Batch) -> Tensor:
        predicted_PD = encoded.hidden_TD[batch["mask_positions"]]
        return self.projection(self.norm(self.activation(self.dense(predicted_PD))))

    def flops(self, labels: int) -> int:
        return super().flops(labels) + product_flops(self.dense_weights, labels)
