"""Transformer blocks: the same two parts, normalised after the residual sum (post) or before each part (pre)."""

from torch import Tensor, nn

from pretrain.interfaces import Layout
from pretrain.layers.attention import Attention
from pretrain.layers.dropout import Dropout
from pretrain.layers.feed_forward import FeedForward

Angles = tuple[Tensor, Tensor]
"""Cosines and sines of rotary positions."""


class PostNormBlock(nn.Module):
    """norm(x + part(x)), as in Vaswani et al. 2017 and BERT."""

    def __init__(self, attention: Attention, feed_forward: FeedForward, width: int, epsilon: float, dropout: float):
        super().__init__()
        self.attention = attention
        self.attention_norm = nn.LayerNorm(width, epsilon)
        self.feed_forward = feed_forward
        self.feed_forward_norm = nn.LayerNorm(width, epsilon)
        self.dropout = Dropout(dropout)

    def forward(self, hidden_TD: Tensor, layout: Layout, angles: Angles | None = None) -> Tensor:
        hidden_TD = self.attention_norm(hidden_TD + self.dropout(self.attention(hidden_TD, layout, angles)))
        return self.feed_forward_norm(hidden_TD + self.dropout(self.feed_forward(hidden_TD)))


class PreNormBlock(PostNormBlock):
    """x + part(norm(x)) (Xiong et al. 2020): stable at higher learning rates; the stack needs a final norm."""

    def forward(self, hidden_TD: Tensor, layout: Layout, angles: Angles | None = None) -> Tensor:
        hidden_TD = hidden_TD + self.dropout(self.attention(self.attention_norm(hidden_TD), layout, angles))
        return hidden_TD + self.dropout(self.feed_forward(self.feed_forward_norm(hidden_TD)))


BLOCKS: dict[str, type[PostNormBlock]] = {"post": PostNormBlock, "pre": PreNormBlock}
