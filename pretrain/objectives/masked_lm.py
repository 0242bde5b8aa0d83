"""Masked language modelling: predict the original tokens at masked positions (BERT, section 3.1, task 1)."""

from typing import ClassVar

from torch import Tensor

from sesame.pretrain.batch import Batch
from sesame.pretrain.flops import product_flops
from sesame.pretrain.layers.style import ACTIVATIONS
from sesame.pretrain.objectives.token_prediction import TokenPrediction
from sesame.pretrain.roles import Backbone, Capability, Encoded


class MaskedLM(TokenPrediction):
    """BERT's head at the masked positions: dense, activation, norm, projection."""

    needs: ClassVar[Capability] = "bidirectional"
    reads: ClassVar[tuple[str, ...]] = ("mask_positions", "mask_labels")
    label_column: ClassVar[str] = "mask_labels"

    def __init__(self, backbone: Backbone):
        embedding_width = backbone.token_embedding.embedding_dim
        super().__init__(backbone, embedding_width, bias=True)
        self.dense = backbone.style.linear(backbone.width, embedding_width)
        self.activation = ACTIVATIONS[backbone.style.head_activation or backbone.style.activation]
        self.norm = backbone.style.normalisation(embedding_width)
        self.dense_weights = backbone.width * embedding_width

    def states(self, encoded: Encoded, batch: Batch) -> Tensor:
        return self.norm(self.activation(self.dense(self.hidden(encoded, batch))))

    def hidden(self, encoded: Encoded, batch: Batch) -> Tensor:
        """Return [P, D], the states that predict."""
        return encoded.hidden_TD[batch["mask_positions"]]

    def flops(self, labels: int) -> int:
        return super().flops(labels) + product_flops(self.dense_weights, labels)
