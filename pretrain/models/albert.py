"""ALBERT (Lan et al. 2020): one block shared by all layers, after a narrow token embedding."""

from typing import ClassVar, Literal

from pydantic import Field
from torch import nn

from sesame.configs.kinds import Fixed, Free
from sesame.pretrain.batch import Batch
from sesame.pretrain.flops import product_flops, token_pairs
from sesame.pretrain.layers.attention import AttentionPattern
from sesame.pretrain.layers.dropout import Dropout
from sesame.pretrain.layers.token_split import TokenSplit
from sesame.pretrain.models.family import Activation, FamilyModule, TransformerConfig, Vocabulary, block_sharding
from sesame.pretrain.roles import Capability, Encoded


class AlbertConfig(TransformerConfig):
    """Defaults: ALBERT-base (table 1)."""

    family: Fixed[Literal["albert"]] = "albert"
    layers: Fixed[int] = Field(default=12, gt=0)
    """Passes through the shared block."""
    embedding_width: Fixed[int] = Field(default=128, gt=0)
    """Size of a token's embedding, which is projected to the width (section 3.1: 128)."""
    positions: Fixed[int] = Field(default=512, gt=0)
    """Longest sequence, in tokens."""
    dropout: Free[float] = Field(default=0.0, ge=0, lt=1)
    """Probability of dropping an entry of a hidden state (section 4.8: 0 in the largest model)."""
    attention_dropout: Free[float] = Field(default=0.0, ge=0, lt=1)
    """Probability of dropping an attention weight."""
    activation: Fixed[Activation] = "gelu_tanh"
    """Of the feed-forward layers and of the head (the published code: gelu_tanh)."""


class Albert(FamilyModule):
    """The encoder without heads: batch -> hidden states [T, D]."""

    provides: ClassVar[frozenset[Capability]] = frozenset({"bidirectional"})
    reads: ClassVar[tuple[str, ...]] = ("tokens", "positions", "segments")
    SHARDING: ClassVar[dict[str, str]] = {"token_embedding": "vocabulary", **block_sharding("block.")}

    def __init__(self, config: AlbertConfig, vocabulary: Vocabulary):
        super().__init__()
        width, embedding_width, style = config.width, config.embedding_width, config.style
        self.style, self.width, self.positions, self.layers = style, width, config.positions, config.layers
        self.embedding_width = embedding_width
        self.vocabulary_rows = config.padded(vocabulary.size)
        self.token_embedding = nn.Embedding(self.vocabulary_rows, embedding_width)
        self.position_embedding = nn.Embedding(config.positions, embedding_width)
        self.segment_embedding = nn.Embedding(2, embedding_width)
        self.embedding_norm = style.normalisation(embedding_width)
        self.embedding_projection = nn.Linear(embedding_width, width)
        self.dropout = Dropout(config.dropout)
        self.token_split = TokenSplit("block")
        self.block = config.block("post")

    def forward(self, batch: Batch) -> Encoded:
        embedding_TE = self.token_embedding(batch["tokens"]) + self.segment_embedding(batch["segments"])
        embedding_TE = embedding_TE + self.position_embedding(batch["positions"])
        hidden_TD = self.embedding_projection(self.dropout(self.embedding_norm(embedding_TE)))
        pattern = AttentionPattern(batch.layout, batch.layout, causal=batch.causal)
        hidden_TD = self.token_split.enter(hidden_TD)
        for _ in range(self.layers):
            hidden_TD = self.block(hidden_TD, pattern)
        return Encoded(self.token_split.leave(hidden_TD))

    def flops(self, batch: Batch) -> int:
        block = self.block.flops(batch.tokens, token_pairs(batch.layout, batch.layout))
        return self.layers * block + product_flops(self.embedding_width * self.width, batch.tokens)
