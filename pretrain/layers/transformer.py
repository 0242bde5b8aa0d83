"""Transformer blocks: the same layers, normalized after the residual sum (post) or before each layer (pre)."""

from typing import ClassVar

from torch import Tensor, nn

from sesame.pretrain.layers.attention import Attention, AttentionPattern
from sesame.pretrain.layers.dropout import Dropout
from sesame.pretrain.layers.experts import SparseFeedForward
from sesame.pretrain.layers.feed_forward import FeedForward
from sesame.pretrain.layers.style import Style


class PostNormBlock(nn.Module):
    """norm(x + layer(x)), as in Vaswani et al. 2017 and BERT."""

    recomputable: ClassVar[bool] = True
    """``parallel.recompute`` runs the module again in the backward pass."""

    def __init__(self, attention: Attention, feed_forward: FeedForward | SparseFeedForward, width: int, style: Style):
        super().__init__()
        self.attention = attention
        self.attention_norm = style.normalisation(width)
        self.feed_forward = feed_forward
        self.feed_forward_norm = style.normalisation(width)
        self.dropout = Dropout(style.dropout)

    def forward(self, hidden_TD: Tensor, pattern: AttentionPattern) -> Tensor:
        hidden_TD = self.attention_norm(hidden_TD + self.dropout(self.attention(hidden_TD, pattern)))
        return self.feed_forward_norm(hidden_TD + self.dropout(self.feed_forward(hidden_TD)))

    def flops(self, tokens: int, pairs: int) -> int:
        """Of so many tokens and pairs of tokens in a sequence."""
        return self.attention.flops(tokens, tokens, pairs) + self.feed_forward.flops(tokens)


class PreNormBlock(PostNormBlock):
    """x + layer(norm(x)) (Xiong et al. 2020): stable at higher learning rates; the stack needs a final norm."""

    def forward(self, hidden_TD: Tensor, pattern: AttentionPattern) -> Tensor:
        hidden_TD = hidden_TD + self.dropout(self.attention(self.attention_norm(hidden_TD), pattern))
        return hidden_TD + self.dropout(self.feed_forward(self.feed_forward_norm(hidden_TD)))


class DecoderBlock(PreNormBlock):
    """A pre-norm block with cross-attention to the encoder's states (Vaswani et al. 2017, section 3.1)."""

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
        hidden_UD = hidden_UD + self.dropout(self.attention(self.attention_norm(hidden_UD), pattern))
        attended_UD = self.cross_attention(self.cross_attention_norm(hidden_UD), cross_pattern, encoded_TD)
        hidden_UD = hidden_UD + self.dropout(attended_UD)
        return hidden_UD + self.dropout(self.feed_forward(self.feed_forward_norm(hidden_UD)))

    def flops(self, targets: int, pairs: int, tokens: int, cross_pairs: int) -> int:  # type: ignore[override]
        """Of so many target tokens, pairs of them, encoder tokens and pairs of a target and an encoder token."""
        return super().flops(targets, pairs) + self.cross_attention.flops(targets, tokens, cross_pairs)


BLOCKS: dict[str, type[PostNormBlock]] = {"post": PostNormBlock, "pre": PreNormBlock}
