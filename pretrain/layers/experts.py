"""A mixture-of-experts feed-forward layer with top-1 routing (Switch Transformer, Fedus et al. 2022, section 2).

E experts, C capacity of one expert in tokens; other shape suffixes as in ``pretrain/batch.py``.
"""

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sesame.pretrain.batch import Layout
from sesame.pretrain.flops import product_flops
from sesame.pretrain.layers.style import ACTIVATIONS, Style


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
    """Sends states from tokens to experts and back: the identity here, an all-to-all under expert parallelism."""

    def to_experts(self, states_ECD: Tensor) -> Tensor:
        """States of this process's tokens for all experts -> states of all tokens for this process's experts."""
        return states_ECD

    def to_tokens(self, states_ECD: Tensor) -> Tensor:
        """The inverse of ``to_experts``."""
        return states_ECD


class SparseFeedForward(nn.Module):
    """Each token is processed by the expert of its highest probability, and the output is scaled by that probability.

    An expert takes the first ``capacity`` tokens of a micro-batch; for the tokens beyond it the output is zero.
    """

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
            sequence_capacity: tokens of each sequence that an expert takes; 0: use the capacity factors.
        """
        super().__init__()
        self.router = Router(width, experts)
        self.dispatcher = TokenDispatcher()
        self.experts = Experts(experts, width, feed_forward_width, style)
        self.weights_per_token = experts * width + (3 if style.gated else 2) * width * feed_forward_width
        self.capacities = capacities
        self.sequence_capacity = sequence_capacity
        self.layout: Layout | None = None
        """Of the next forward's batch, set by the backbone; read if there is a ``sequence_capacity`` or dummies."""
        self.balance: Tensor | None = None
        """Load-balancing loss of the last forward, read and cleared by the backbone."""

    def capacity(self, tokens: int) -> int:
        """Return how many of so many tokens one expert takes at most (equation 3)."""
        factor = self.capacities[0] if self.training else self.capacities[1]
        return max(1, math.ceil(tokens * factor / self.router.out_features))

    def forward(self, hidden_TD: Tensor) -> Tensor:
        if self.layout is None or not self.layout.dummies:
            return self._compute(hidden_TD)
        # Dummies take no room of an expert and are not balanced.
        counted = sum(self.layout.lengths)
        return F.pad(self._compute(hidden_TD[:counted]), (0, 0, 0, len(hidden_TD) - counted))

    def _compute(self, hidden_TD: Tensor) -> Tensor:
        tokens, experts = len(hidden_TD), self.router.out_features
        probabilities_TE = self.router(hidden_TD)
        probability_T, expert_T = probabilities_TE.max(-1)
        chosen_TE = F.one_hot(expert_T, experts)
        self.balance = balance(chosen_TE, probabilities_TE)
        if self.sequence_capacity:
            chosen_TE = chosen_TE * self._first_of_sequences(chosen_TE)
            capacity = self._largest_share(chosen_TE)
        else:
            capacity = self.capacity(tokens)
        position_T = (chosen_TE.cumsum(0) - 1).gather(1, expert_T[:, None])[:, 0]
        # Which tokens are taken is never asked, which would wait for a GPU: those that are not share one more slot.
        slots = experts * capacity
        slot_T = torch.where(chosen_TE.any(1) & (position_T < capacity), expert_T * capacity + position_T, slots)
        states = cast(Tensor, ScatterRows.apply(hidden_TD, slot_T, slots + 1))[:slots]
        received_ECD = self.dispatcher.to_experts(states.unflatten(0, (experts, capacity)))
        output_ECD = self.dispatcher.to_tokens(self.experts(received_ECD))
        with_zeros = F.pad(output_ECD.flatten(0, 1), (0, 0, 0, 1))
        return cast(Tensor, GatherRows.apply(with_zeros, slot_T)) * probability_T[:, None].to(output_ECD.dtype)

    def flops(self, tokens: int) -> int:
        """Of the router and one expert a token."""
        return product_flops(self.weights_per_token, tokens)

    def _first_of_sequences(self, chosen_TE: Tensor) -> Tensor:
        """bool [T, E]: fewer than ``sequence_capacity`` earlier tokens of the same sequence chose the expert."""
        assert self.layout is not None, "the backbone sets the layout"
        counts_TE = chosen_TE.cumsum(0)
        # Those of dummies end behind the tokens that count.
        cu_seqlens_B1 = self.layout.cu_seqlens_B1.long().clamp(max=len(chosen_TE))
        before_BE = F.pad(counts_TE, (0, 0, 1, 0))[cu_seqlens_B1[:-1]]
        before_TE = before_BE.repeat_interleave(cu_seqlens_B1.diff(), 0, output_size=len(chosen_TE))
        return counts_TE - before_TE <= self.sequence_capacity

    def _largest_share(self, chosen_TE: Tensor) -> int:
        """Return the tokens of the expert with most of them; on a GPU, which is not waited for, a bound of it."""
        assert self.layout is not None, "the backbone sets the layout"
        if chosen_TE.device.type == "cpu":
            return max(1, int(chosen_TE.sum(0).max()))
        return min(len(chosen_TE), self.layout.sequences * self.sequence_capacity)


def balance(chosen_TE: Tensor, probabilities_TE: Tensor) -> Tensor:
    """Load-balancing loss: E times the sum over experts of (fraction of tokens) x (mean probability), 1 for an even
    distribution (section 2.2, equation 4, without its factor alpha)."""
    return chosen_TE.shape[1] * (chosen_TE.float().mean(0) * probabilities_TE.mean(0)).sum()


class ScatterRows(torch.autograd.Function):
    """Copy rows to ``positions`` of a longer tensor of zeros."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, positions: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(positions)
        return rows.new_zeros(size, *rows.shape[1:]).index_copy_(0, positions, rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0].index_select(0, *ctx.saved_tensors), None, None


class GatherRows(torch.autograd.Function):
    """Select the rows at distinct ``positions``; unlike in indexing, the gradient need not be summed."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, positions: Tensor) -> Tensor:
        ctx.save_for_backward(positions)
        ctx.size = len(rows)
        return rows.index_select(0, positions)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,), (positions,) = gradients, ctx.saved_tensors
        return gradient.new_zeros(ctx.size, *gradient.shape[1:]).index_copy_(0, positions, gradient), None
