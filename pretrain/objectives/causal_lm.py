"""Causal language modelling: predict each token from those before it (GPT-2, section 2)."""

from typing import ClassVar

from torch import Tensor

from sesame.pretrain.batch import Batch
from sesame.pretrain.objectives.token_prediction import TokenPrediction
from sesame.pretrain.roles import Backbone, Capability, Encoded


class CausalLM(TokenPrediction):
    """Projection of every token's hidden state but a sequence's last."""

    needs: ClassVar[Capability] = "causal"
    reads: ClassVar[tuple[str, ...]] = ("next_positions", "next_labels")
    label_column: ClassVar[str] = "next_labels"

    def __init__(self, backbone: Backbone):
        super().__init__(backbone, backbone.width, bias=False)

    def states(self, encoded: Encoded, batch: Batch) -> Tensor:
        return encoded.hidden_TD[batch["next_positions"]]
