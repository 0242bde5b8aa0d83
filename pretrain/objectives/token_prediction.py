"""Base of objectives that predict tokens: projection to the vocabulary and cross-entropy."""

from typing import ClassVar, cast

from torch import Tensor, nn

from sesame.pretrain.batch import Batch
from sesame.pretrain.flops import product_flops
from sesame.pretrain.layers.vocabulary import CrossEntropy, VocabularyProjection
from sesame.pretrain.roles import Backbone, Encoded


class TokenPrediction(nn.Module):
    """Cross-entropy of the projection of a subclass's ``states`` against its ``label_column``."""

    label_column: ClassVar[str]
    predicts_tokens: ClassVar[bool] = True
    SHARDING: ClassVar[dict[str, str]] = {"projection": "vocabulary", "cross_entropy": "vocabulary"}

    def __init__(self, backbone: Backbone, width: int, *, bias: bool):
        """
        Args:
            width: of the hidden states that are projected.
            bias: add a bias for each token of the vocabulary.
        """
        super().__init__()
        rows, scale = backbone.vocabulary_rows, backbone.output_scale
        self.projection_weights = rows * width
        self.projection = VocabularyProjection(rows, width, bias=bias, scale=scale)
        self.cross_entropy = CrossEntropy()
        self.tie(backbone)

    def tie(self, backbone: Backbone) -> None:
        """Tie the projection to the token embedding if the backbone does; called again after modules were replaced."""
        if backbone.ties_output:
            self.projection.weight = cast(nn.Parameter, backbone.token_embedding.weight)

    def states(self, encoded: Encoded, batch: Batch) -> Tensor:
        """Return [P, D], what is projected for each label."""
        raise NotImplementedError

    def logits(self, encoded: Encoded, batch: Batch) -> Tensor:
        """Return [P, V], one row for each label."""
        return self.projection(self.states(encoded, batch))

    def forward(self, encoded: Encoded, batch: Batch) -> Tensor:
        return self.cross_entropy(self.projection, self.states(encoded, batch), batch[self.label_column])

    def flops(self, labels: int) -> int:
        return product_flops(self.projection_weights, labels)
