"""GPT (Radford et al. 2019; Megatron 8.3B, Turing-NLG and GPT-3 are larger shapes): a causal pre-norm Transformer."""

import math
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from sesame.configs.kinds import Fixed
from sesame.pretrain.batch import Batch
from sesame.pretrain.flops import token_pairs
from sesame.pretrain.layers.attention import AttentionPattern
from sesame.pretrain.layers.dropout import Dropout
from sesame.pretrain.layers.token_split import TokenSplit
from sesame.pretrain.models.family import Activation, FamilyModule, TransformerConfig, Vocabulary, block_sharding
from sesame.pretrain.roles import Capability, Encoded

RESIDUAL_OUTPUTS = (".attention.output.weight", ".feed_forward.down.weight")
"""Name endings of the weights whose products are added to the residual stream, each once in a layer."""


class GptConfig(TransformerConfig):
    """Defaults: GPT-2 small (Radford et al. 2019, section 2.3)."""

    family: Fixed[Literal["gpt"]] = "gpt"
    positions: Fixed[int] = Field(default=1024, gt=0)
    """Longest sequence, in tokens (GPT-3: 2048)."""
    local_window: Fixed[int] = Field(default=0, ge=0)
    """Largest distance of attention in every second layer, in tokens: GPT-3's alternating dense and locally banded
    sparse attention (Brown et al. 2020, section 2.1, which gives no number); 0: all layers are dense."""
    activation: Fixed[Activation] = "gelu_tanh"
    """Of the feed-forward layers (GPT-2's published code)."""
    norm_epsilon: Fixed[float] = Field(default=1e-5, gt=0)
    """Added to the variance in layer norm."""

    def init_std(self, name: str, shape: torch.Size) -> float:
        """Divided by sqrt(2 x layers) for weights before the residual sum (GPT-2, section 2.3)."""
        sums = 2 * self.layers if name.endswith(RESIDUAL_OUTPUTS) else 1
        return self.initial_std / math.sqrt(sums)


class Gpt(FamilyModule):
    """The decoder without its head: batch -> hidden states [T, D], each of the tokens up to its own."""

    provides: ClassVar[frozenset[Capability]] = frozenset({"causal"})
    pooling = "last"
    reads: ClassVar[tuple[str, ...]] = ("tokens", "positions")
    SHARDING: ClassVar[dict[str, str]] = {"token_embedding": "vocabulary", **block_sharding("blocks.*.")}

    blocks: Any
    """Transformer blocks, in an nn.ModuleList."""

    def __init__(self, config: GptConfig, vocabulary: Vocabulary):
        super().__init__()
        width, style = config.width, config.style
        self.style, self.width, self.positions = style, width, config.positions
        self.local_window = config.local_window
        self.vocabulary_rows = config.padded(vocabulary.size)
        self.token_embedding = nn.Embedding(self.vocabulary_rows, width)
        self.position_embedding = nn.Embedding(config.positions, width)
        self.dropout = Dropout(config.dropout)
        self.token_split = TokenSplit("blocks")
        self.blocks = nn.ModuleList(config.block("pre") for _ in range(config.layers))
        self.final_norm = style.normalisation(width)

    def forward(self, batch: Batch) -> Encoded:
        hidden_TD = self.token_embedding(batch["tokens"]) + self.position_embedding(batch["positions"])
        hidden_TD = self.dropout(hidden_TD)
        dense = AttentionPattern(batch.layout, batch.layout, causal=True)
        banded = (
            AttentionPattern(batch.layout, batch.layout, causal=True, window=self.local_window)
            if self.local_window
            else dense
        )
        hidden_TD = self.token_split.enter(hidden_TD)
        for number, block in enumerate(self.blocks):
            hidden_TD = block(hidden_TD, banded if number % 2 else dense)
        return Encoded(self.final_norm(self.token_split.leave(hidden_TD)))

    def flops(self, batch: Batch) -> int:
        pairs = token_pairs(batch.layout, batch.layout)
        return sum(block.flops(batch.tokens, pairs) for block in self.blocks)
