"""BERT (Devlin et al. 2019): a bidirectional Transformer encoder over token, position and segment embeddings.

RoBERTa (Liu et al. 2019) and ModernBERT (Warner et al. 2024: pre-norm, rotary positions, gated feed-forward layers, no
biases, local attention in two layers of three) are other settings of the same configuration.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from sesame.configs.kinds import Fixed
from sesame.pretrain.batch import Batch
from sesame.pretrain.flops import token_pairs
from sesame.pretrain.layers.attention import AttentionPattern
from sesame.pretrain.layers.dropout import Dropout
from sesame.pretrain.layers.positions import Angles, rotary
from sesame.pretrain.layers.style import Style
from sesame.pretrain.layers.token_split import TokenSplit
from sesame.pretrain.models.family import Activation, FamilyModule, TransformerConfig, Vocabulary, block_sharding
from sesame.pretrain.roles import Capability, Encoded


class BertConfig(TransformerConfig):
    """Defaults: BERT-base (section 3, "Model Architecture")."""

    family: Fixed[Literal["bert"]] = "bert"
    positions: Fixed[int] = Field(default=512, gt=0)
    """Longest sequence, in tokens."""
    first_position: Fixed[int] = Field(default=0, ge=0)
    """Row of the position table for the first token (RoBERTa's published code: 2, in a table with 2 rows more)."""
    segments: Fixed[int] = Field(default=2, ge=0, le=2)
    """Rows of the segment table: 2; 1: both segments share a row (RoBERTa); 0: no table."""
    norm_placement: Fixed[Literal["post", "pre", "both"]] = "post"
    """Layer norm after the residual sum as in the paper, before each layer (Xiong et al. 2020), or before each layer
    and on what it adds to the sum (CogView, Ding et al. 2021)."""
    first_attention_norm: Fixed[bool] = True
    """With ``norm_placement`` pre or both: the first layer's attention has a norm, although the embedding is already
    normalized (ModernBERT: false)."""
    position_kind: Fixed[Literal["learned", "rotary"]] = "learned"
    """A learned vector for each position as in the paper, or rotary positions (Su et al. 2021), with which a model that
    is trained on little text learns from context much sooner."""
    rotary_base: Fixed[float] = Field(default=10_000.0, gt=0)
    """Base of the rotary angles; larger for longer sequences (ModernBERT: 160,000 in global layers)."""
    local_rotary_base: Fixed[float] = Field(default=10_000.0, gt=0)
    """The same in local layers (ModernBERT: 10,000)."""
    local_window: Fixed[int] = Field(default=0, ge=0)
    """Largest distance of attention in local layers, in tokens (ModernBERT: 64); 0: all layers are global."""
    global_every: Fixed[int] = Field(default=3, gt=0)
    """One layer of so many is global, beginning with the first (ModernBERT: 3)."""
    gated: Fixed[bool] = False
    """Gated feed-forward layers (Shazeer 2020), which have a second projection to the inner width."""
    inner_norm: Fixed[bool] = False
    """Feed-forward layers have a norm over the inner width, before the projection back (LTG-BERT, Samuel et al. 2023,
    section 3.1)."""
    bias: Fixed[bool] = True
    """Linear layers and norms have biases."""
    value_embeddings: Fixed[int] = Field(default=0, ge=0)
    """Tables with a vector for each token that is added to the values of attention: with n of them the first n layers
    use one each, in order, and so do the last n (modded-nanogpt: 3). They cost parameters and no products."""
    head_activation: Fixed[Activation | None] = None
    """Of the masked-language-modelling head; unset: ``activation``, as in BERT (RoBERTa's published code: gelu)."""

    follows: ClassVar[Mapping[str, str]] = {"head_activation": "activation"}

    @model_validator(mode="after")
    def _head_width_is_even(self) -> Self:
        if self.position_kind == "rotary" and (self.width // self.heads) % 2:
            raise ValueError(
                f"width {self.width} / heads {self.heads} is odd, but rotary positions rotate pairs; change one of them"
            )
        return self

    @model_validator(mode="after")
    def _value_embeddings_have_layers(self) -> Self:
        if 2 * self.value_embeddings > self.layers:
            raise ValueError(
                f"value_embeddings {self.value_embeddings} need two layers each, but there are {self.layers} layers; "
                f"use at most {self.layers // 2}"
            )
        return self

    def value_table(self, layer: int) -> int:
        """Return which table of value embeddings a layer adds; -1 for a layer in the middle."""
        if layer < self.value_embeddings:
            return layer
        return max(-1, layer - self.layers + self.value_embeddings)

    @property
    def style(self) -> Style:
        names = ("gated", "inner_norm", "bias", "head_activation")
        return super().style._replace(**{name: getattr(self, name) for name in names})


class Bert(FamilyModule):
    """The encoder without heads: batch -> hidden states [T, D]."""

    provides: ClassVar[frozenset[Capability]] = frozenset({"bidirectional"})
    SHARDING: ClassVar[dict[str, str]] = {"token_embedding": "vocabulary", **block_sharding("blocks.*.")}

    blocks: Any
    """Transformer blocks, in an nn.ModuleList."""

    @property
    def unsplittable(self) -> str:
        if self.config.value_embeddings:
            return "model.value_embeddings are added to the values of all heads at once"
        return "the norms of model.inner_norm are over a width that it splits" if self.config.inner_norm else ""

    def __init__(self, config: BertConfig, vocabulary: Vocabulary):
        super().__init__()
        width, style = config.width, config.style
        self.config, self.style, self.width, self.positions = config, style, width, config.positions
        self.reads = ("tokens", "positions") + (("segments",) if config.segments == 2 else ())
        self.vocabulary_rows = config.padded(vocabulary.size)
        self.token_embedding = nn.Embedding(self.vocabulary_rows, width)
        learned = config.position_kind == "learned"
        rows = config.positions + config.first_position
        self.position_embedding = nn.Embedding(rows, width) if learned else None
        self.segment_embedding = nn.Embedding(config.segments, width) if config.segments else None
        self.embedding_norm = style.normalisation(width)
        tables = range(config.value_embeddings)
        self.value_embeddings = nn.ModuleList(nn.Embedding(self.vocabulary_rows, width) for _ in tables)
        self.dropout = Dropout(config.dropout)
        self.token_split = TokenSplit("blocks")
        self.blocks = nn.ModuleList(config.block(config.norm_placement) for _ in range(config.layers))
        normalizes_inputs = config.norm_placement != "post"
        if normalizes_inputs and not config.first_attention_norm:
            self.blocks[0].attention_norm = nn.Identity()
        self.final_norm = style.normalisation(width) if normalizes_inputs else nn.Identity()

    def forward(self, batch: Batch) -> Encoded:
        hidden_TD = self.dropout(self.embedding_norm(self._embed(batch)))
        hidden_TD = self.token_split.enter(hidden_TD)
        values = [table(batch["tokens"]) for table in self.value_embeddings]
        with_values = [
            [*(replace(pattern, added_values_SD=each) for each in values), pattern]
            for pattern in self._patterns(batch, hidden_TD.dtype)
        ]
        for number, block in enumerate(self.blocks):
            is_local = number % self.config.global_every > 0
            hidden_TD = block(hidden_TD, with_values[is_local][self.config.value_table(number)])
        return Encoded(self.final_norm(self.token_split.leave(hidden_TD)))

    def flops(self, batch: Batch) -> int:
        pairs = token_pairs(batch.layout, batch.layout)
        return sum(block.flops(batch.tokens, pairs) for block in self.blocks)

    def _embed(self, batch: Batch) -> Tensor:
        hidden_TD = self.token_embedding(batch["tokens"])
        if self.segment_embedding is not None:
            has_two = self.config.segments == 2
            hidden_TD = hidden_TD + (
                self.segment_embedding(batch["segments"]) if has_two else self.segment_embedding.weight[0]
            )
        if self.position_embedding is not None:
            hidden_TD = hidden_TD + self.position_embedding(batch["positions"] + self.config.first_position)
        return hidden_TD

    def _patterns(self, batch: Batch, dtype: torch.dtype) -> tuple[AttentionPattern, AttentionPattern]:
        """Return the attention patterns of global and of local layers."""
        config, layout = self.config, batch.layout

        def angles(base: float) -> Angles | None:
            if config.position_kind == "learned":
                return None
            return rotary(batch["positions"], config.width // config.heads, base, dtype)

        pattern = partial(AttentionPattern, layout, layout, causal=batch.causal)
        global_pattern = pattern(rotary_angles=angles(config.rotary_base))
        if not config.local_window:
            return global_pattern, global_pattern
        return global_pattern, pattern(window=config.local_window, rotary_angles=angles(config.local_rotary_base))
