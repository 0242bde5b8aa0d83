"""A recurrent layer over packed sequences: an LSTM whose output is projected (Sak et al. 2014; ELMo's, Peters et al.
2018, section 3.1). C cells; other shape suffixes as in ``pretrain/batch.py``."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pretrain.batch import Layout
from pretrain.flops import product_flops

FORGET_BIAS = 1.0
"""Added to the forget gate, so that a new layer remembers (TensorFlow's LSTMCell, with which ELMo was trained)."""


class Steps(NamedTuple):
    """The tokens of a packed batch in the order of time: all first ones, all second ones, and so on."""

    order_T: Tensor
    """int64 [T]: which token stands at each place of that order."""
    inverse_T: Tensor
    """int64 [T]: where in that order each token stands."""
    counts: tuple[int, ...]
    """How many sequences have a token at each step, never more than at the step before."""

    @classmethod
    def of(cls, layout: Layout, *, backward: bool) -> "Steps":
        """From each sequence's first token on, or backward from its last."""
        lengths_B = torch.tensor([length for group in layout.groups for length in group.lengths])
        starts_B = lengths_B.cumsum(0) - lengths_B
        by_length_B = lengths_B.argsort(descending=True, stable=True)
        lengths_B, starts_B = lengths_B[by_length_B], starts_B[by_length_B]
        steps_BL = torch.arange(layout.longest).expand(len(lengths_B), -1)
        real_BL = steps_BL < lengths_B[:, None]
        tokens_BL = starts_B[:, None] + (lengths_B[:, None] - 1 - steps_BL if backward else steps_BL)
        order_T = tokens_BL.T[real_BL.T].to(layout.cu_seqlens_B1.device)
        return cls(order_T, order_T.argsort(), tuple(real_BL.sum(0).tolist()))


class ProjectedLSTM(nn.Module):
    """Input [T, inputs] -> [T, projection], each token's state knowing those before it in the order of ``Steps``.

    The four gates of a cell lie side by side in the columns of ``gates`` and ``recurrent``: a split of them over
    processes then keeps a cell whole.
    """

    def __init__(self, inputs: int, cells: int, projection: int, cell_clip: float, projection_clip: float):
        """
        Args:
            cell_clip: largest value of a cell, either sign; ``projection_clip`` the same of an output.
        """
        super().__init__()
        self.cell_clip, self.projection_clip = cell_clip, projection_clip
        self.projection = projection
        self.weights = 4 * cells * (inputs + projection) + cells * projection
        self.gates = nn.Linear(inputs, 4 * cells)
        self.recurrent = nn.Linear(projection, 4 * cells, bias=False)
        self.output = nn.Linear(cells, projection, bias=False)

    def forward(self, hidden_TD: Tensor, steps: Steps) -> Tensor:
        given = self.gates(hidden_TD[steps.order_T]).split(steps.counts)
        state_BP = given[0].new_zeros(steps.counts[0], self.projection)
        cell_BC = given[0].new_zeros(steps.counts[0], given[0].shape[1] // 4, dtype=torch.float32)
        states = []
        for count, given_B4C in zip(steps.counts, given, strict=True):
            gates_BC4 = (given_B4C + self.recurrent(state_BP[:count])).unflatten(1, (-1, 4)).float()
            enter_BC, forget_BC, new_BC, leave_BC = gates_BC4.unbind(-1)
            cell_BC = torch.sigmoid(forget_BC + FORGET_BIAS) * cell_BC[:count] + enter_BC.sigmoid() * new_BC.tanh()
            cell_BC = cell_BC.clamp(-self.cell_clip, self.cell_clip)
            shown_BC = (leave_BC.sigmoid() * cell_BC.tanh()).to(given_B4C.dtype)
            state_BP = self.output(shown_BC).clamp(-self.projection_clip, self.projection_clip)
            states.append(state_BP)
        return torch.cat(states)[steps.inverse_T]

    def flops(self, tokens: int) -> int:
        return product_flops(self.weights, tokens)
