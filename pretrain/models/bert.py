"""BERT (Devlin et al. 2019): a bidirectional Transformer encoder over token, position and segment embeddings."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator
from torch import nn

from pretrain.interfaces import Batch, Encoded
from pretrain.layers.attention import Attention, Rotary
from pretrain.layers.dropout import Dropout
from pretrain.layers.feed_forward import FeedForward
from pretrain.layers.transformer import BLOCKS
from pretrain.models.family import ModelConfig


class BertConfig(ModelConfig):
    """BERT-base unless said otherwise (section 3, "Model Architecture")."""

    family: Literal["bert"] = "bert"
    layers: int = Field(default=12, gt=0)
    """Transformer blocks."""
    width: int = Field(default=768, gt=0)
    """Size of a token's hidden state (D)."""
    heads: int = Field(default=12, gt=0)
    """Attention heads; the width is split evenly among them."""
    feed_forward_width: int = Field(default=3072, gt=0)
    """Inner size of the feed-forward layer (F); four times the width in the paper."""
    positions: int = Field(default=512, gt=0)
    """Longest sequence, in tokens."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Probability of dropping an entry of a hidden state (appendix A.2)."""
    attention_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Probability of dropping an attention weight (appendix A.2)."""
    norm_placement: Literal["post", "pre"] = "post"
    """Where layer norm stands: after the residual sum as in the paper, or before each part (Xiong et al. 2020)."""
    position_kind: Literal["learned", "rotary"] = "learned"
    """A learned vector for each position as in the paper, or rotary positions (Su et al. 2021), which know from the
    start what is next to what: a model that sees little text then learns from context much sooner."""
    norm_epsilon: float = Field(default=1e-12, gt=0)
    """Added to the variance in layer norm."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "BertConfig":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} does not divide by heads {self.heads}; change one of the two")
        return self


class Bert(nn.Module):
    """The encoder without heads: batch -> hidden states [T, D]."""

    reads: ClassVar[tuple[str, ...]] = ("tokens", "positions", "segments")
    SHARDING: ClassVar[dict[str, str]] = {
        "token_embedding": "vocabulary",
        "blocks.*.attention.core": "heads",
        "blocks.*.attention.query": "column",
        "blocks.*.attention.key": "column",
        "blocks.*.attention.value": "column",
        "blocks.*.attention.output": "row",
        "blocks.*.feed_forward.up": "column",
        "blocks.*.feed_forward.down": "row",
    }

    def __init__(self, config: BertConfig, vocabulary_size: int):
        super().__init__()
        width, epsilon = config.width, config.norm_epsilon
        self.width = width
        self.positions = config.positions
        self.token_embedding = nn.Embedding(config.padded(vocabulary_size), width)
        learned = config.position_kind == "learned"
        self.position_embedding = nn.Embedding(config.positions, width) if learned else None
        self.rotary = None if learned else Rotary(width // config.heads)
        self.segment_embedding = nn.Embedding(2, width)
        self.embedding_norm = nn.LayerNorm(width, epsilon)
        self.dropout = Dropout(config.dropout)
        block = BLOCKS[config.norm_placement]
        self.blocks = nn.ModuleList(
            block(
                Attention(width, config.heads, config.attention_dropout),
                FeedForward(width, config.feed_forward_width),
                width,
                epsilon,
                config.dropout,
            )
            for _ in range(config.layers)
        )
        self.final_norm = nn.LayerNorm(width, epsilon) if config.norm_placement == "pre" else nn.Identity()

    def forward(self, batch: Batch) -> Encoded:
        hidden_TD = self.token_embedding(batch["tokens"]) + self.segment_embedding(batch["segments"])
        if self.position_embedding is not None:
            hidden_TD = hidden_TD + self.position_embedding(batch["positions"])
        angles = self.rotary.angles(batch["positions"], hidden_TD.dtype) if self.rotary is not None else None
        hidden_TD = self.dropout(self.embedding_norm(hidden_TD))
        for block in self.blocks:
            hidden_TD = block(hidden_TD, batch.layout, angles)
        return Encoded(self.final_norm(hidden_TD))
