"""T5 (Raffel et al. 2020): a pre-norm encoder and decoder with RMS norms and learned relative position biases."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from sesame.configs.kinds import Fixed, Free
from sesame.pretrain.batch import Batch
from sesame.pretrain.flops import token_pairs
from sesame.pretrain.layers.attention import Attention, AttentionPattern
from sesame.pretrain.layers.dropout import Dropout
from sesame.pretrain.layers.experts import SparseFeedForward
from sesame.pretrain.layers.feed_forward import FeedForward
from sesame.pretrain.layers.positions import RelativePositionBias
from sesame.pretrain.layers.style import Style
from sesame.pretrain.layers.token_split import TokenSplit
from sesame.pretrain.layers.transformer import DecoderBlock, PreNormBlock
from sesame.pretrain.models.family import Activation, FamilyModule, ModelConfig, Vocabulary, block_sharding
from sesame.pretrain.roles import Capability, Encoded


class T5Config(ModelConfig):
    """Defaults: T5-base v1.0 (section 3.1.1)."""

    family: Fixed[Literal["t5"]] = "t5"
    layers: Fixed[int] = Field(default=12, gt=0)
    """Blocks of the encoder."""
    decoder_layers: Fixed[int] = Field(default=12, gt=0)
    """Blocks of the decoder."""
    width: Fixed[int] = Field(default=768, gt=0)
    """Size of a token's hidden state (D)."""
    heads: Fixed[int] = Field(default=12, gt=0)
    """Attention heads."""
    head_width: Fixed[int] = Field(default=64, gt=0)
    """Size of one head (K); heads x head_width can differ from the width (T5-11B: 128 x 128, width 1024)."""
    feed_forward_width: Fixed[int] = Field(default=3072, gt=0)
    """Inner size of the feed-forward layer (F)."""
    activation: Fixed[Activation] = "relu"
    """Of the feed-forward layers (v1.1: gelu_tanh)."""
    gated: Fixed[bool] = False
    """Gated feed-forward layers (v1.1; Shazeer 2020)."""
    tied: Fixed[bool] = True
    """The output projection is tied to the token embedding (v1.1: false)."""
    scaled_output: Fixed[bool | None] = None
    """The decoder's last states are multiplied by width^-0.5 before the output projection; unset: if it is tied, as in
    v1.0."""
    position_buckets: Fixed[int] = Field(default=32, gt=3)
    """Ranges of distances, each with its own bias (section 2.1)."""
    longest_distance: Fixed[int] = Field(default=128, gt=8)
    """Distance in tokens from which on all share a bias (section 2.1)."""
    dropout: Free[float] = Field(default=0.1, ge=0, lt=1)
    """Probability of dropping an entry of a hidden state; unlike in the paper not within feed-forward layers."""
    attention_dropout: Free[float] = Field(default=0.1, ge=0, lt=1)
    """Probability of dropping an attention weight."""
    norm_epsilon: Fixed[float] = Field(default=1e-6, gt=0)
    """Added to the mean square in RMS norm."""

    follows: ClassVar[Mapping[str, str]] = {"scaled_output": "tied"}

    @property
    def style(self) -> Style:
        return Style("rms", self.norm_epsilon, self.activation, self.gated, False, self.dropout, self.attention_dropout)

    def init_std(self, name: str, shape: torch.Size) -> float:
        """1 / sqrt(fan-in), for queries also 1 / sqrt(K) (T5's published code, Mesh TensorFlow); ``initial_std`` has
        no effect."""
        layer = name.removesuffix(".weight").rpartition(".")[2]
        fan_ins = {
            "token_embedding": 1,
            "query": self.width * self.head_width,
            "output": self.heads * self.head_width,
            "down": self.feed_forward_width,
        }
        return fan_ins.get(layer, self.width) ** -0.5


class T5(FamilyModule):
    """Encoder and decoder without the head: batch -> hidden states [T, D], and [U, D] where the batch has targets."""

    provides: ClassVar[frozenset[Capability]] = frozenset({"bidirectional", "decoded"})
    pooling = "mean"
    reads: ClassVar[tuple[str, ...]] = ("tokens",)
    SHARDING: ClassVar[dict[str, str]] = {
        "token_embedding": "vocabulary",
        "*position_bias": "heads",
        **block_sharding("*blocks.*"),
    }

    encoder_blocks: Any
    """PreNormBlocks, in an nn.ModuleList."""
    decoder_blocks: Any
    """DecoderBlocks, in an nn.ModuleList."""

    def __init__(self, config: T5Config, vocabulary: Vocabulary):
        super().__init__()
        self.config, style, width = config, config.style, config.width
        self.style, self.width, self.ties_output = style, width, config.tied
        self.output_scale = width**-0.5 if config.resolved("scaled_output") else 1.0
        self.vocabulary_rows = config.padded(vocabulary.size)
        self.token_embedding = nn.Embedding(self.vocabulary_rows, width)
        buckets = (config.position_buckets, config.longest_distance, config.heads)
        self.encoder_position_bias = RelativePositionBias(*buckets, bidirectional=True)
        self.encoder_split = TokenSplit("encoder_blocks")
        self.encoder_blocks = nn.ModuleList(
            PreNormBlock(self._attention(), self._feed_forward(layer), width, style) for layer in range(config.layers)
        )
        self.encoder_norm = style.normalisation(width)
        self.decoder_position_bias = RelativePositionBias(*buckets, bidirectional=False)
        self.decoder_split = TokenSplit("decoder_blocks")
        self.decoder_blocks = nn.ModuleList(
            DecoderBlock(self._attention(), self._attention(), self._feed_forward(layer), width, style)
            for layer in range(config.decoder_layers)
        )
        self.decoder_norm = style.normalisation(width)
        self.dropout = Dropout(config.dropout)

    def _attention(self) -> Attention:
        config = self.config
        return Attention(config.width, config.heads, config.style, head_width=config.head_width, scale=1.0)

    def _feed_forward(self, layer: int) -> FeedForward | SparseFeedForward:
        return FeedForward(self.config.width, self.config.feed_forward_width, self.config.style)

    def forward(self, batch: Batch) -> Encoded:
        hidden_TD = self.dropout(self.token_embedding(batch["tokens"]))
        pattern = AttentionPattern(
            batch.layout, batch.layout, bias_HLL=self.encoder_position_bias(batch.layout.longest)
        )
        hidden_TD = self.encoder_split.enter(hidden_TD)
        for block in self.encoder_blocks:
            hidden_TD = block(hidden_TD, pattern)
        hidden_TD = self.dropout(self.encoder_norm(self.encoder_split.leave(hidden_TD)))
        return Encoded(hidden_TD, decoded_UD=self.decode(batch, hidden_TD) if batch.targets else None)

    def flops(self, batch: Batch) -> int:
        tokens, pairs = batch.tokens, token_pairs(batch.layout, batch.layout)
        encoder = sum(block.flops(tokens, pairs) for block in self.encoder_blocks)
        if batch.targets is None:
            return encoder
        targets, target_pairs = batch.count("decoder_tokens"), token_pairs(batch.targets, batch.targets)
        cross_pairs = token_pairs(batch.targets, batch.layout)
        return encoder + sum(block.flops(targets, target_pairs, tokens, cross_pairs) for block in self.decoder_blocks)

    def decode(self, batch: Batch, encoded_TD: Tensor) -> Tensor:
        """Return the decoder's last states [U, D] for the targets of a batch that is encoded already."""
        targets = batch.targets
        assert targets is not None
        hidden_UD = self.dropout(self.token_embedding(batch["decoder_tokens"]))
        bias = self.decoder_position_bias(targets.longest)
        pattern = AttentionPattern(targets, targets, causal=True, bias_HLL=bias)
        cross_pattern = AttentionPattern(targets, batch.layout)
        hidden_UD = self.decoder_split.enter(hidden_UD)
        for block in self.decoder_blocks:
            hidden_UD = block(hidden_UD, pattern, encoded_TD, cross_pattern)
        return self.dropout(self.decoder_norm(self.decoder_split.leave(hidden_UD)))
