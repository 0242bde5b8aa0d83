"""An LSTM with output projection (Sak et al. 2014; ELMo, Peters et al. 2018, section 3.1) over packed sequences.

C cells, P projection; other shape suffixes as in ``pretrain/batch.py``.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from sesame.pretrain.batch import Layout, on_device
from sesame.pretrain.flops import product_flops

FORGET_BIAS = 1.0
"""Added to the forget gate, so that a new layer keeps its cells (TensorFlow's LSTMCell, which ELMo used)."""


class Steps(NamedTuple):
    """The tokens of a packed batch by time step: first the first tokens of all sequences, then the second ones."""

    order_T: Tensor
    """int64 [T]: token at each position of that order."""
    inverse_T: Tensor
    """int64 [T]: position in that order of each token."""
    counts: tuple[int, ...]
    """Number of sequences with a token at each step, which never increases."""

    @classmethod
    def of(cls, layout: Layout, *, backward: bool) -> "Steps":
        """Return the steps from each sequence's first token to its last, or backward."""
        lengths_B = np.array([length for group in layout.groups for length in group.lengths])
        starts_B = lengths_B.cumsum() - lengths_B
        by_length_B = np.argsort(-lengths_B, kind="stable")
        lengths_B, starts_B = lengths_B[by_length_B], starts_B[by_length_B]
        steps_BL = np.broadcast_to(np.arange(lengths_B.max()), (len(lengths_B), lengths_B.max()))
        is_token_BL = steps_BL < lengths_B[:, None]
        tokens_BL = starts_B[:, None] + (lengths_B[:, None] - 1 - steps_BL if backward else steps_BL)
        order_T = on_device(torch.from_numpy(tokens_BL.T[is_token_BL.T]), layout.cu_seqlens_B1.device)
        return cls(order_T, order_T.argsort(), tuple(is_token_BL.sum(0).tolist()))


class ProjectedLSTM(nn.Module):
    """Input [T, inputs] -> [T, projection], recurrent in the order of ``Steps``.

    The four gates of a cell are adjacent columns of ``gates`` and ``recurrent``, so that splitting the columns over
    processes keeps a cell whole.
    """

    def __init__(self, inputs: int, cells: int, projection: int, cell_clip: float, projection_clip: float):
        """
        Args:
            cell_clip: largest absolute value of a cell.
            projection_clip: largest absolute value of an output.
        """
        super().__init__()
        self.cell_clip, self.projection_clip = cell_clip, projection_clip
        self.projection = projection
        self.weights = 4 * cells * (inputs + projection) + cells * projection
        self.gates = nn.Linear(inputs, 4 * cells)
        self.recurrent = nn.Linear(projection, 4 * cells, bias=False)
        self.output = nn.Linear(cells, projection, bias=False)

    def forward(self, hidden_TD: Tensor, steps: Steps) -> Tensor:
        inputs = self.gates(hidden_TD[steps.order_T]).split(steps.counts)
        state_BP = inputs[0].new_zeros(steps.counts[0], self.projection)
        cell_BC = inputs[0].new_zeros(steps.counts[0], inputs[0].shape[1] // 4, dtype=torch.float32)
        states = []
        for count, input_B4C in zip(steps.counts, inputs, strict=True):
            gates_BC4 = (input_B4C + self.recurrent(state_BP[:count])).unflatten(1, (-1, 4)).float()
            input_BC, forget_BC, candidate_BC, output_BC = gates_BC4.unbind(-1)
            cell_BC = (
                torch.sigmoid(forget_BC + FORGET_BIAS) * cell_BC[:count] + input_BC.sigmoid() * candidate_BC.tanh()
            )
            cell_BC = cell_BC.clamp(-self.cell_clip, self.cell_clip)
            hidden_BC = (output_BC.sigmoid() * cell_BC.tanh()).to(input_B4C.dtype)
            state_BP = self.output(hidden_BC).clamp(-self.projection_clip, self.projection_clip)
            states.append(state_BP)
        return torch.cat(states)[steps.inverse_T]

    def flops(self, tokens: int) -> int:
        return product_flops(self.weights, tokens)
