"""The position-wise feed-forward layer (Vaswani et al. 2017, section 3.3) with BERT's GELU."""

import torch.nn.functional as F
from torch import Tensor, nn


class FeedForward(nn.Module):
    """width -> feed_forward_width -> GELU -> width."""

    def __init__(self, width: int, feed_forward_width: int):
        super().__init__()
        self.up = nn.Linear(width, feed_forward_width)
        self.down = nn.Linear(feed_forward_width, width)

    def forward(self, hidden_TD: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(hidden_TD)))
