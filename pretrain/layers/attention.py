"""Multi-head self-attention over packed sequences (Vaswani et al. 2017, section 3.2)."""

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from pretrain.interfaces import Layout


class Rotary(nn.Module):
    """Rotary position embedding (Su et al. 2021, section 3.4.2): dimension pairs of query and key are turned by an
    angle that grows with the position, so that their product depends on the distance alone."""

    def __init__(self, head_width: int, base: float = 10_000.0):
        super().__init__()
        self.head_width, self.base = head_width, base

    def angles(self, positions_T: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """(cosines, sines), each [T, 1, K / 2]; made once for a batch and shared by its layers."""
        exponent = torch.arange(0, self.head_width, 2, device=positions_T.device) / self.head_width
        angle = positions_T[:, None].float() * self.base**-exponent
        return angle.cos().to(dtype)[:, None], angle.sin().to(dtype)[:, None]


def turn(states_THK: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Turn each pair (i, i + K / 2) of every head by its angle."""
    left, right = states_THK.chunk(2, dim=-1)
    return torch.cat((left * cosines - right * sines, right * cosines + left * sines), dim=-1)


class Attention(nn.Module):
    """Self-attention within each sequence of a packed batch.

    Query, key and value are separate projections and heads are counted by ``view(T, -1, K)``: a split of their
    columns over processes then needs no knowledge of heads.
    """

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.head_width = width // heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.core = CoreAttention(heads, dropout)
        self.output = nn.Linear(width, width)

    def forward(self, hidden_TD: Tensor, layout: Layout, angles: tuple[Tensor, Tensor] | None = None) -> Tensor:
        split = (hidden_TD.shape[0], -1, self.head_width)
        query_THK = self.query(hidden_TD).view(split)
        key_THK = self.key(hidden_TD).view(split)
        if angles is not None:
            query_THK, key_THK = turn(query_THK, *angles), turn(key_THK, *angles)
        value_THK = self.value(hidden_TD).view(split)
        mixed_THK = self.core(query_THK, key_THK, value_THK, layout)
        return self.output(mixed_THK.flatten(1))


class CoreAttention(nn.Module):
    """softmax(q k^T / sqrt(K)) v within each sequence; a module of its own so that its dropout can be placed."""

    def __init__(self, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.dropout = dropout

    def forward(self, query_THK: Tensor, key_THK: Tensor, value_THK: Tensor, layout: Layout) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        place = (query_THK.device.type, query_THK.dtype)
        kernel = grouped if dropout else KERNELS.get(place, grouped)
        return kernel(query_THK, key_THK, value_THK, layout, dropout)


def grouped(query_THK: Tensor, key_THK: Tensor, value_THK: Tensor, layout: Layout, dropout: float) -> Tensor:
    """One call for each run of sequences of similar length; the kernel that has dropout and runs everywhere."""
    mixed = [
        _group(query_THK[start:end], key_THK[start:end], value_THK[start:end], lengths, dropout)
        for start, end, lengths in layout.groups
    ]
    return mixed[0] if len(mixed) == 1 else torch.cat(mixed)


def variable_length(query_THK: Tensor, key_THK: Tensor, value_THK: Tensor, layout: Layout, dropout: float) -> Tensor:
    """All sequences in one call of the CUDA kernel that takes their boundaries."""
    from torch.nn.attention.varlen import varlen_attn

    boundaries = layout.boundaries_B1
    mixed = varlen_attn(query_THK, key_THK, value_THK, boundaries, boundaries, layout.longest, layout.longest)
    return cast(Tensor, mixed)


Kernel = Callable[[Tensor, Tensor, Tensor, Layout, float], Tensor]
KERNELS: dict[tuple[str, torch.dtype], Kernel] = {
    ("cuda", torch.bfloat16): variable_length,
    ("cuda", torch.float16): variable_length,
}
"""By device and number format; everywhere else, and with dropout, which it lacks, ``grouped`` is used."""


def _group(query_tHK: Tensor, key_tHK: Tensor, value_tHK: Tensor, lengths: tuple[int, ...], dropout: float) -> Tensor:
    longest = max(lengths)
    if min(lengths) == longest:
        shape = (len(lengths), longest, *query_tHK.shape[1:])
        query, key, value = (part.view(shape).transpose(1, 2) for part in (query_tHK, key_tHK, value_tHK))
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        return mixed.transpose(1, 2).reshape(query_tHK.shape)
    query, key, value = (
        pad_sequence(list(part.split(lengths)), batch_first=True).transpose(1, 2)
        for part in (query_tHK, key_tHK, value_tHK)
    )
    real_BL = torch.arange(longest) < torch.tensor(lengths)[:, None]
    mask = real_BL[:, None, None, :].to(query.device)
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout).transpose(1, 2)
    return torch.cat([row[:length] for row, length in zip(mixed, lengths, strict=True)])
