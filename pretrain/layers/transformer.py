"""Transformer blocks: the same layers, normalized after the residual sum (post), before each layer (pre), or before and
after each layer (both)."""

from typing import ClassVar

from torch import Tensor, nn

from sesame.pretrain.layers.attention import Attention, AttentionPattern
from sesame.pretrain.layers.dropout import Dropout
from sesame.pretrain.layers.experts import SparseFeedForward
from sesame.pretrain.layers.feed_forward import FeedForward
from sesame.pretrain.layers.positions import Angles
from sesame.pretrain.layers.style import Style

Heads = tuple[Tensor, Tensor, Tensor]
"""Queries, keys and values by head."""


class PostNormBlock(nn.Module):
    """norm(x + layer(x)), as in Vaswani et al. 2017 and BERT."""

    recomputable: ClassVar[str] = "block"
    """The word of ``parallel.recompute`` with which the module is run again in the backward pass."""
    compilable: ClassVar[tuple[str, ...]] = ("enter", "leave")
    """Methods that ``parallel.compile`` compiles: all but the core of attention, whose kernel depends on the batch."""

    def __init__(self, attention: Attention, feed_forward: FeedForward | SparseFeedForward, width: int, style: Style):
        super().__init__()
        self.attention = attention
        self.attention_norm = style.normalisation(width)
        self.feed_forward = feed_forward
        self.feed_forward_norm = style.normalisation(width)
        self.dropout = Dropout(style.dropout)

    def forward(self, hidden_TD: Tensor, pattern: AttentionPattern) -> Tensor:
        heads = self.enter(hidden_TD, pattern.rotary_angles)
        return self.leave(hidden_TD, self.attention.core(*heads, pattern))

    def enter(self, hidden_TD: Tensor, angles: Angles | None) -> Heads:
        """Compute all before the core of attention."""
        return self.attention.project(hidden_TD, angles)

    def leave(self, hidden_TD: Tensor, attended_THK: Tensor) -> Tensor:
        """Compute all after it."""
        hidden_TD = self.attention_norm(hidden_TD + self.dropout(self.attention.merge(attended_THK)))
        return self.feed_forward_norm(hidden_TD + self.dropout(self.feed_forward(hidden_TD)))

    def flops(self, tokens: int, pairs: int) -> int:
        """Of so many tokens and pairs of tokens in a sequence."""
        return self.attention.flops(tokens, tokens, pairs) + self.feed_forward.flops(tokens)


class PreNormBlock(PostNormBlock):
    """x + layer(norm(x)) (Xiong et al. 2020): stable at higher learning rates; the stack needs a final norm."""

    def enter(self, hidden_TD: Tensor, angles: Angles | None) -> Heads:
        return self.attention.project(self.attention_norm(hidden_TD), angles)

    def leave(self, hidden_TD: Tensor, attended_THK: Tensor) -> Tensor:
        return self._feed_forward(hidden_TD + self.dropout(self.attention.merge(attended_THK)))

    def _feed_forward(self, hidden_TD: Tensor) -> Tensor:
        return hidden_TD + self.dropout(self.feed_forward(self.feed_forward_norm(hidden_TD)))


class BothNormBlock(PreNormBlock):
    """x + norm(layer(norm(x))), "sandwich" norms (CogView, Ding et al. 2021, section 2.4): what a layer adds to the
    residual stream has a size that its own norm learns. LTG-BERT (Samuel et al. 2023, section 3.1) has norms before and
    after attention too, but that of its feed-forward layer is over the inner width (``Style.inner_norm``)."""

    def __init__(self, attention: Attention, feed_forward: FeedForward | SparseFeedForward, width: int, style: Style):
        super().__init__(attention, feed_forward, width, style)
        self.attention_output_norm = style.normalisation(width)
        self.feed_forward_output_norm = style.normalisation(width)

    def leave(self, hidden_TD: Tensor, attended_THK: Tensor) -> Tensor:
        attended_TD = self.attention_output_norm(self.attention.merge(attended_THK))
        hidden_TD = hidden_TD + self.dropout(attended_TD)
        output_TD = self.feed_forward_output_norm(self.feed_forward(self.feed_forward_norm(hidden_TD)))
        return hidden_TD + self.dropout(output_TD)


class DecoderBlock(PreNormBlock):
    """A pre-norm block with cross-attention to the encoder's states (Vaswani et al. 2017, section 3.1)."""

    compilable: ClassVar[tuple[str, ...]] = ("enter", "cross", "leave")

    def __init__(
        self,
        attention: Attention,
        cross_attention: Attention,
        feed_forward: FeedForward | SparseFeedForward,
        width: int,
        style: Style,
    ):
        super().__init__(attention, feed_forward, width, style)
        self.cross_attention = cross_attention
        self.cross_attention_norm = style.normalisation(width)

    def forward(  # type: ignore[override]
        self, hidden_UD: Tensor, pattern: AttentionPattern, encoded_TD: Tensor, cross_pattern: AttentionPattern
    ) -> Tensor:
        heads = self.enter(hidden_UD, pattern.rotary_angles)
        hidden_UD, cross_heads = self.cross(hidden_UD, self.attention.core(*heads, pattern), encoded_TD)
        return self.leave(hidden_UD, self.cross_attention.core(*cross_heads, cross_pattern))

    def cross(self, hidden_UD: Tensor, attended_UHK: Tensor, encoded_TD: Tensor) -> tuple[Tensor, Heads]:
        """Compute all between the two cores."""
        hidden_UD = hidden_UD + self.dropout(self.attention.merge(attended_UHK))
        return hidden_UD, self.cross_attention.project(self.cross_attention_norm(hidden_UD), None, encoded_TD)

    def leave(self, hidden_TD: Tensor, attended_THK: Tensor) -> Tensor:
        return self._feed_forward(hidden_TD + self.dropout(self.cross_attention.merge(attended_THK)))

    def flops(self, targets: int, pairs: int, tokens: int, cross_pairs: int) -> int:  # type: ignore[override]
        """Of so many target tokens, pairs of them, encoder tokens and pairs of a target and an encoder token."""
        return super().flops(targets, pairs) + self.cross_attention.flops(targets, tokens, cross_pairs)


BLOCKS: dict[str, type[PostNormBlock]] = {"post": PostNormBlock, "pre": PreNormBlock, "both": BothNormBlock}
