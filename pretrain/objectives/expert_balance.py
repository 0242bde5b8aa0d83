"""Load balancing of experts (Switch Transformer, section 2.2, equations 4 to 6)."""

from typing import ClassVar

from torch import Tensor, nn

from sesame.pretrain.batch import Batch
from sesame.pretrain.roles import Backbone, Capability, Encoded


class ExpertBalance(nn.Module):
    """The backbone's load-balancing loss; its weight in the configuration is the paper's alpha (0.01)."""

    needs: ClassVar[Capability] = "balance"
    reads: ClassVar[tuple[str, ...]] = ()
    label_column: ClassVar[str] = "tokens"
    predicts_tokens: ClassVar[bool] = False
    SHARDING: ClassVar[dict[str, str]] = {}

    def __init__(self, backbone: Backbone):
        super().__init__()

    def forward(self, encoded: Encoded, batch: Batch) -> Tensor:
        assert encoded.balance is not None, "the configuration pairs this objective with a family that has experts"
        return encoded.balance * batch.tokens

    def flops(self, labels: int) -> int:
        return 0
