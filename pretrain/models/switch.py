"""Switch Transformer (Fedus et al. 2022): T5 whose feed-forward layers choose one of many experts for each token."""

from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator

from configs.kinds import Fixed, Free
from pretrain.batch import Batch
from pretrain.layers.experts import SparseFeedForward
from pretrain.layers.feed_forward import FeedForward
from pretrain.models.t5 import T5, T5Config
from pretrain.roles import Capability, Encoded


class SwitchConfig(T5Config):
    """Switch-Base with eight experts unless said otherwise (section 2.2, table 9)."""

    family: Fixed[Literal["switch"]] = "switch"  # type: ignore[assignment]
    experts: Fixed[int] = Field(default=8, gt=1)
    """Feed-forward layers to choose from (E)."""
    sparse_every: Fixed[int] = Field(default=2, gt=0)
    """Every so many layers one is sparse, the first of them the ``sparse_every``-th (Switch-Base: 2, Switch-C: 1)."""
    capacity_factor: Fixed[float] = Field(default=1.25, gt=0)
    """Tokens that an expert takes, in shares of an even split; what is beyond passes by (section 2.2)."""
    evaluation_capacity_factor: Free[float] = Field(default=2.0, gt=0)
    """The same when nothing is trained."""
    sequence_capacity: Fixed[int] = Field(default=0, ge=0)
    """Tokens of each sequence that an expert takes, in place of both factors (transformers' expert_capacity); 0: the
    factors count, over a micro-batch."""

    @model_validator(mode="after")
    def _some_layer_is_sparse(self) -> "SwitchConfig":
        if self.sparse_every > self.layers:
            raise ValueError(f"sparse_every {self.sparse_every} makes none of {self.layers} layers sparse; lower it")
        return self

    def init_std(self, name: str, shape: torch.Size) -> float:
        """A tenth of T5's variance (section 2.4: smaller values train more steadily)."""
        return super().init_std(name, shape) * 0.1**0.5


class Switch(T5):
    """T5 with sparse layers; ``Encoded.balance`` is their load-balancing loss."""

    provides: ClassVar[frozenset[Capability]] = frozenset({"bidirectional", "decoded", "balance"})
    SHARDING: ClassVar[dict[str, str]] = {
        **T5.SHARDING,
        "*blocks.*.feed_forward.experts": "experts",
        "*blocks.*.feed_forward.dispatcher": "experts",
    }

    config: SwitchConfig

    def _feed_forward(self, layer: int) -> FeedForward | SparseFeedForward:
        config = self.config
        if (layer + 1) % config.sparse_every:
            return super()._feed_forward(layer)
        capacities = config.capacity_factor, config.evaluation_capacity_factor
        return SparseFeedForward(
            config.width, config.feed_forward_width, config.experts, capacities, config.style, config.sequence_capacity
        )

    def forward(self, batch: Batch) -> Encoded:
        for blocks, layout in ((self.encoder_blocks, batch.layout), (self.decoder_blocks, batch.targets)):
            for part in blocks.modules():
                if isinstance(part, SparseFeedForward) and part.sequence_capacity:
                    part.layout = layout
        encoded = super().forward(batch)
        sparse = [part for part in self.modules() if isinstance(part, SparseFeedForward)]
        used = [part.balance for part in sparse if part.balance is not None]
        for part in sparse:
            part.balance = None
        return encoded._replace(balance=torch.stack(used).sum() if used else None)
