"""A feed-forward layer made of experts, of which a router chooses one for each token (Switch Transformer, Fedus et al.
2022, section 2). E experts, C places of one expert; other shape suffixes as in ``pretrain/batch.py``."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.batch import Layout
from pretrain.flops import product_flops
from pretrain.layers.style import ACTIVATIONS, Style


class Router(nn.Linear):
    """hidden [T, D] -> probabilities of the experts [T, E], in fp32 whatever the precision (section 2.4)."""

    def __init__(self, width: int, experts: int):
        super().__init__(width, experts, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            return F.linear(input.float(), self.weight.float()).softmax(-1)


class Experts(nn.Module):
    """All experts' feed-forward layers in three tensors: states [E, C, D] -> [E, C, D]."""

    def __init__(self, experts: int, width: int, feed_forward_width: int, style: Style):
        super().__init__()
        self.experts, self.feed_forward_width = experts, feed_forward_width
        self.activation = ACTIVATIONS[style.activation]
        self.up = nn.Parameter(torch.empty(experts, width, feed_forward_width))
        self.gate = nn.Parameter(torch.empty(experts, width, feed_forward_width)) if style.gated else None
        self.down = nn.Parameter(torch.empty(experts, feed_forward_width, width))

    def forward(self, states_ECD: Tensor) -> Tensor:
        if self.gate is None:
            inner_ECF = self.activation(torch.bmm(states_ECD, self.up))
        else:
            inner_ECF = self.activation(torch.bmm(states_ECD, self.gate)) * torch.bmm(states_ECD, self.up)
        return torch.bmm(inner_ECF, self.down)


class TokenDispatcher(nn.Module):
    """Between tokens and experts: one process has both, so nothing moves. Replaced where experts are spread."""

    def to_experts(self, states_ECD: Tensor) -> Tensor:
        """States that every process sends to all experts -> those that this process's experts get."""
        return states_ECD

    def to_tokens(self, states_ECD: Tensor) -> Tensor:
        """The way back."""
        return states_ECD


class SparseFeedForward(nn.Module):
    """Each token goes through the expert of its highest probability and is scaled by it; an expert takes the first
    ``capacity`` tokens of a micro-batch, and what is beyond adds nothing to the residual stream."""

    def __init__(
        self,
        width: int,
        feed_forward_width: int,
        experts: int,
        capacities: tuple[float, float],
        style: Style,
        sequence_capacity: int = 0,
    ):
        """
        Args:
            capacities: capacity factors in training and evaluation.
            sequence_capacity: tokens of each sequence that an expert takes, in place of the factors; 0: those count.
        """
        super().__init__()
        self.router = Router(width, experts)
        self.dispatcher = TokenDispatcher()
        self.experts = Experts(experts, width, feed_forward_width, style)
        self.weights_per_token = experts * width + (3 if style.gated else 2) * width * feed_forward_width
        self.capacities = capacities
        self.sequence_capacity = sequence_capacity
        self.layout: Layout | None = None
        """Where the sequences of the next forward lie, given by the family; read with a ``sequence_capacity``."""
        self.balance: Tensor | None = None
        """Load-balancing loss of the last forward, for the family to collect."""

    def capacity(self, tokens: int) -> int:
        """Most tokens of so many that one expert takes (equation 3)."""
        factor = self.capacities[0] if self.training else self.capacities[1]
        return max(1, math.ceil(tokens * factor / self.router.out_features))

    def forward(self, hidden_TD: Tensor) -> Tensor:
        tokens, experts = len(hidden_TD), self.router.out_features
        probabilities_TE = self.router(hidden_TD)
        share_T, expert_T = probabilities_TE.max(-1)
        chosen_TE = F.one_hot(expert_T, experts)
        self.balance = balance(chosen_TE, probabilities_TE)
        if self.sequence_capacity:
            chosen_TE = chosen_TE * self._first_of_sequences(chosen_TE)
            capacity = max(1, int(chosen_TE.sum(0).max()))
        else:
            capacity = self.capacity(tokens)
        place_T = (chosen_TE.cumsum(0) - 1).gather(1, expert_T[:, None])[:, 0]
        taken = (chosen_TE.any(1) & (place_T < capacity)).nonzero()[:, 0]
        slots = (expert_T * capacity + place_T)[taken]
        sent = hidden_TD.new_zeros(experts * capacity, hidden_TD.shape[1]).index_copy(0, slots, hidden_TD[taken])
        back = self.dispatcher.to_tokens(
            self.experts(self.dispatcher.to_experts(sent.unflatten(0, (experts, capacity))))
        )
        computed = back.flatten(0, 1)[slots] * share_T[taken, None].to(back.dtype)
        return torch.zeros_like(hidden_TD, dtype=computed.dtype).index_copy(0, taken, computed)

    def flops(self, tokens: int) -> int:
        """Of the router and one expert a token."""
        return product_flops(self.weights_per_token, tokens)

    def _first_of_sequences(self, chosen_TE: Tensor) -> Tensor:
        """bool [T, E]: fewer than ``sequence_capacity`` tokens of the same sequence chose the expert before."""
        assert self.layout is not None, "the family gives the layout"
        counts_TE = chosen_TE.cumsum(0)
        cu_seqlens_B1 = self.layout.cu_seqlens_B1.long()
        before_BE = torch.cat([torch.zeros_like(counts_TE[:1]), counts_TE[cu_seqlens_B1[1:-1] - 1]])
        return counts_TE - before_BE.repeat_interleave(cu_seqlens_B1.diff(), 0) <= self.sequence_capacity


def balance(chosen_TE: Tensor, probabilities_TE: Tensor) -> Tensor:
    """E times the sum over experts of (share of tokens chosen) x (mean probability): 1 for an even split (section 2.2,
    equation 4, without its factor alpha)."""
    return chosen_TE.shape[1] * (chosen_TE.float().mean(0) * probabilities_TE.mean(0)).sum()
