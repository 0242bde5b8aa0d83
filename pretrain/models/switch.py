"""Switch Transformer (Fedus et al. 2022): T5 with sparse feed-forward layers, one of many experts for each token."""

from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from sesame.configs.kinds import Fixed, Free
from sesame.pretrain.batch import Batch, Layout
from sesame.pretrain.layers.experts import SparseFeedForward
from sesame.pretrain.layers.feed_forward import FeedForward
from sesame.pretrain.models.t5 import T5, T5Config
from sesame.pretrain.roles import Capability, Encoded


class SwitchConfig(T5Config):
    """Defaults: Switch-Base with eight experts (section 2.2, table 9)."""

    family: Fixed[Literal["switch"]] = "switch"  # type: ignore[assignment]
    experts: Fixed[int] = Field(default=8, gt=1)
    """Experts of a sparse layer (E)."""
    sparse_every: Fixed[int] = Field(default=2, gt=0)
    """Every ``sparse_every``-th layer is sparse (Switch-Base: 2, Switch-C: 1)."""
    capacity_factor: Fixed[float] = Field(default=1.25, gt=0)
    """Capacity of an expert, relative to an even distribution; tokens beyond it are dropped (section 2.2)."""
    evaluation_capacity_factor: Free[float] = Field(default=2.0, gt=0)
    """The same in evaluation."""
    sequence_capacity: Fixed[int] = Field(default=0, ge=0)
    """Capacity of an expert in tokens of each sequence (transformers' expert_capacity); 0: both factors apply, over a
    micro-batch."""

    @model_validator(mode="after")
    def _some_layer_is_sparse(self) -> "SwitchConfig":
        if self.sparse_every > self.layers:
            raise ValueError(
                f"sparse_every {self.sparse_every} is larger than layers {self.layers}, so no layer is sparse; lower it"
            )
        return self

    def init_std(self, name: str, shape: torch.Size) -> float:
        """A tenth of T5's variance, which is more stable (section 2.4)."""
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
        _set_layout(self.encoder_blocks, batch.layout)
        encoded = super().forward(batch)
        sparse_layers = [part for part in self.modules() if isinstance(part, SparseFeedForward)]
        losses = [part.balance for part in sparse_layers if part.balance is not None]
        for part in sparse_layers:
            part.balance = None
        return encoded._replace(balance=torch.stack(losses).sum() if losses else None)

    def decode(self, batch: Batch, encoded_TD: Tensor) -> Tensor:
        _set_layout(self.decoder_blocks, batch.targets)
        return super().decode(batch, encoded_TD)


def _set_layout(blocks: nn.Module, layout: Layout | None) -> None:
    for part in blocks.modules():
        if isinstance(part, SparseFeedForward):
            part.layout = layout
