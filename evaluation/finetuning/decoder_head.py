"""The head of text to text: a decoder's projection to the vocabulary, and its loss.

U target tokens, D width, V vocabulary.
"""

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from sesame.configs.errors import TaskError
from sesame.pretrain.batch import IGNORED, Batch
from sesame.pretrain.layers.vocabulary import VocabularyProjection
from sesame.pretrain.roles import Backbone, Encoded


class DecoderHead(nn.Module):
    """The projection of a decoder's states to the vocabulary, with its pretrained weight."""

    def __init__(self, backbone: Backbone):
        super().__init__()
        self.projection = VocabularyProjection(
            backbone.vocabulary_rows, backbone.width, bias=False, scale=backbone.output_scale
        )
        if backbone.ties_output:
            self.projection.weight = cast(nn.Parameter, backbone.token_embedding.weight)
        elif backbone.decoder_projection is not None:
            self.projection.weight = nn.Parameter(backbone.decoder_projection.clone())
        else:
            nn.init.normal_(self.projection.weight, std=backbone.width**-0.5)

    @property
    def pooler(self) -> dict[str, Tensor]:
        """None: there is no hidden layer."""
        return {}

    def forward(self, encoded: Encoded, batch: Batch) -> Tensor:
        """Mean loss of the batch's target tokens."""
        assert encoded.decoded_UD is not None
        # Answers are short, so all logits fit; pretraining's fused loss takes one precision for states and weights.
        logits_UV = self.projection(encoded.decoded_UD).float()
        return F.cross_entropy(logits_UV, batch["target_labels"], ignore_index=IGNORED)


def require_decoder(backbone: Backbone, task: str) -> None:
    """Raise TaskError if the family has no decoder."""
    if "decoded" not in backbone.provides:
        raise TaskError(
            f"{task}: finetune.form 'text' needs a model with a decoder, T5 or Switch, which this checkpoint is not; "
            "use --set finetune.form=head"
        )
