"""A feed-forward layer made of experts, of which a router chooses one for each token (Switch Transformer, Fedus et al.
2022, section 2). E experts, C places of one expert; other shape suffixes as in ``pretrain/interfaces.py``."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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


class Exchange(nn.Module):
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
        self, width: int, feed_forward_width: int, experts: int, capacities: tuple[float, float], style: Style
    ):
        """
        Args:
            capacities: capacity factors in training and evaluation.
        """
        super().__init__()
        self.router = Router(width, experts)
        self.exchange = Exchange()
        self.experts = Experts(experts, width, feed_forward_width, style)
        self.capacities = capacities
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
        place_T = (chosen_TE.cumsum(0) - 1).gather(1, expert_T[:, None])[:, 0]
        capacity = self.capacity(tokens)
        taken = (place_T < capacity).nonzero()[:, 0]
        slots = (expert_T * capacity + place_T)[taken]
        sent = hidden_TD.new_zeros(experts * capacity, hidden_TD.shape[1]).index_copy(0, slots, hidden_TD[taken])
        back = self.exchange.to_tokens(self.experts(self.exchange.to_experts(sent.unflatten(0, (experts, capacity)))))
        computed = back.flatten(0, 1)[slots] * share_T[taken, None].to(back.dtype)
        return torch.zeros_like(hidden_TD, dtype=computed.dtype).index_copy(0, taken, computed)


def balance(chosen_TE: Tensor, probabilities_TE: Tensor) -> Tensor:
    """E times the sum over experts of (share of tokens chosen) x (mean probability): 1 for an even split (section 2.2,
    equation 4, without its factor alpha)."""
    return chosen_TE.shape[1] * (chosen_TE.float().mean(0) * probabilities_TE.mean(0)).sum()
