"""Task head on a backbone: pooling, an optional hidden layer, and the output layer.

T tokens, B sequences, D width, C outputs, L layers.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sesame.evaluation.config import FinetuneConfig
from sesame.pretrain.batch import Batch
from sesame.pretrain.roles import Backbone, Encoded


def first(hidden_TD: Tensor, batch: Batch) -> Tensor:
    """The state of [CLS], [B, D]."""
    return hidden_TD[batch.layout.starts_B]


def last(hidden_TD: Tensor, batch: Batch) -> Tensor:
    """The state of each sequence's last token, [B, D], which depends on the whole sequence in a causal model."""
    return hidden_TD[batch.layout.ends_B]


def mean(hidden_TD: Tensor, batch: Batch) -> Tensor:
    """The mean over each sequence's tokens, [B, D]."""
    return _means(hidden_TD, batch.layout.cu_seqlens_B1.long().diff())


def pair(hidden_TD: Tensor, batch: Batch) -> Tensor:
    """(u, v, |u-v|, u*v) of the means of both segments, [B, 4 D]; v is 0 without a second segment."""
    lengths_B = batch.layout.cu_seqlens_B1.long().diff()
    first_B = batch["first_lengths"]
    means_B2D = _means(hidden_TD, torch.stack([first_B, lengths_B - first_B], 1).flatten()).unflatten(0, (-1, 2))
    u_BD, v_BD = means_B2D.unbind(1)
    return torch.cat([u_BD, v_BD, (u_BD - v_BD).abs(), u_BD * v_BD], -1)


def _means(hidden_TD: Tensor, lengths: Tensor) -> Tensor:
    # Not checked, because a GPU would be waited for: the lengths are those of the batch.
    sums = torch.segment_reduce(hidden_TD.float(), "sum", lengths=lengths, axis=0, initial=0.0, unsafe=True)
    return sums / lengths.clamp(min=1)[:, None]


POOLINGS: dict[str, tuple[Callable[[Tensor, Batch], Tensor], int]] = {
    "first": (first, 1),
    "last": (last, 1),
    "mean": (mean, 1),
    "pair": (pair, 4),
}
"""Name -> (function, width of its result as a multiple of D)."""


class Mixture(nn.Module):
    """Weighted mean of all layers' states, times gamma (ELMo, Peters et al. 2018, eq. 1)."""

    def __init__(self, layers: int):
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(layers))
        self.gamma = nn.Parameter(torch.ones(()))

    def forward(self, layers: tuple[Tensor, ...]) -> Tensor:
        """[T, D] of each layer -> [T, D]."""
        shares = self.weights.softmax(0)
        weighted_LTD = torch.stack([share * hidden_TD for share, hidden_TD in zip(shares, layers, strict=True)])
        return self.gamma * weighted_LTD.sum(0)


class Head(nn.Module):
    """A backbone's hidden states -> outputs [B, C].

    With pooling "first" the hidden layer is BERT's pooler, initialized from the pretrained pooler if there is one.
    """

    def __init__(self, backbone: Backbone, outputs: int, config: FinetuneConfig):
        super().__init__()
        width = backbone.width
        self.mixture = Mixture(backbone.mixed_layers) if backbone.mixed_layers else None
        pooling = backbone.pooling if config.pooling == "auto" else config.pooling
        self.pool, widths = POOLINGS[pooling]
        self.dropout = nn.Dropout(config.dropout)
        dense = nn.Linear(widths * width, width)
        self.hidden = nn.Sequential(dense, nn.Tanh(), self.dropout) if config.hidden_layer else nn.Identity()
        self.output = nn.Linear(width if config.hidden_layer else widths * width, outputs)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02, a=-0.04, b=0.04)
                nn.init.zeros_(module.bias)
        if config.hidden_layer and pooling == "first" and backbone.pooler:
            dense.load_state_dict(dict(backbone.pooler))

    def forward(self, encoded: Encoded, batch: Batch) -> Tensor:
        hidden_TD = encoded.hidden_TD if self.mixture is None else self.mixture(encoded.layers)
        return self.output(self.hidden(self.dropout(self.pool(hidden_TD, batch)))).float()
