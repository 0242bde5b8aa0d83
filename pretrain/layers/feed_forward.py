"""The position-wise feed-forward layer (Vaswani et al. 2017, section 3.3), optionally gated (Shazeer 2020)."""

from torch import Tensor, nn

from sesame.pretrain.flops import product_flops
from sesame.pretrain.layers.style import ACTIVATIONS, Style


class FeedForward(nn.Module):
    """width -> feed_forward_width -> activation -> width; gated: down(activation(gate(x)) * up(x)); with an inner norm,
    ``down`` reads the norm of that."""

    def __init__(self, width: int, feed_forward_width: int, style: Style):
        super().__init__()
        self.activation = ACTIVATIONS[style.activation]
        self.weights = (3 if style.gated else 2) * width * feed_forward_width
        self.up = style.linear(width, feed_forward_width)
        self.gate = style.linear(width, feed_forward_width) if style.gated else None
        self.inner_norm = style.normalisation(feed_forward_width) if style.inner_norm else nn.Identity()
        self.down = style.linear(feed_forward_width, width)

    def forward(self, hidden_TD: Tensor) -> Tensor:
        if self.gate is None:
            return self.down(self.inner_norm(self.activation(self.up(hidden_TD))))
        return self.down(self.inner_norm(self.activation(self.gate(hidden_TD)) * self.up(hidden_TD)))

    def flops(self, tokens: int) -> int:
        return product_flops(self.weights, tokens)
