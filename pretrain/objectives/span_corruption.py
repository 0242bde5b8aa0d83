"""Span corruption: predict the spans that sentinels replace in the input (T5, section 3.1.4)."""

from typing import ClassVar

from torch import Tensor

from sesame.pretrain.batch import Batch
from sesame.pretrain.objectives.token_prediction import TokenPrediction
from sesame.pretrain.roles import Backbone, Capability, Encoded


class SpanCorruption(TokenPrediction):
    """Projection of every target position without bias, tied to the embedding (v1.0) or not (v1.1)."""

    needs: ClassVar[Capability] = "decoded"
    reads: ClassVar[tuple[str, ...]] = ("decoder_tokens", "target_labels")
    label_column: ClassVar[str] = "target_labels"

    def __init__(self, backbone: Backbone):
        super().__init__(backbone, backbone.width, bias=False)

    def states(self, encoded: Encoded, batch: Batch) -> Tensor:
        assert encoded.decoded_UD is not None, "the configuration pairs this objective with a family that decodes"
        return encoded.decoded_UD
