"""Next-sentence prediction (BERT, section 3.1, task 2) and sentence-order prediction (ALBERT, section 3.1).

The two differ only in how the dataset's pairs are made, so they are one class.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sesame.pretrain.batch import IGNORED, Batch
from sesame.pretrain.flops import product_flops
from sesame.pretrain.roles import Backbone, Capability, Encoded


class SentencePairs(nn.Module):
    """First token -> dense, tanh (BERT's pooler) -> two classes: 0 original pair, 1 random or swapped pair."""

    needs: ClassVar[Capability] = "bidirectional"
    reads: ClassVar[tuple[str, ...]] = ("pair_labels",)
    label_column: ClassVar[str] = "pair_labels"
    predicts_tokens: ClassVar[bool] = False
    SHARDING: ClassVar[dict[str, str]] = {}

    def __init__(self, backbone: Backbone):
        super().__init__()
        self.width = backbone.width
        self.pooler = nn.Linear(backbone.width, backbone.width)
        self.classifier = nn.Linear(backbone.width, 2)

    def forward(self, encoded: Encoded, batch: Batch) -> Tensor:
        pooled_BD = torch.tanh(self.pooler(encoded.hidden_TD[batch.layout.starts_B]))
        scores_B2 = self.classifier(pooled_BD).float()
        return F.cross_entropy(scores_B2, batch["pair_labels"], reduction="sum", ignore_index=IGNORED)

    def flops(self, labels: int) -> int:
        return product_flops(self.width * (self.width + 2), labels)
