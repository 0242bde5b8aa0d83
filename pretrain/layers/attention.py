"""Multi-head self-attention over packed sequences (Vaswani et al. 2017, section 3.2)."""

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.interfaces import Layout
from pretrain.layers.dropout import dropped


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


class Turn(torch.autograd.Function):
    """Turn each pair (i, i + K / 2) of every head by its angle; the gradient is turned back by the same angle."""

    @staticmethod
    def forward(ctx: Any, states_THK: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        ctx.save_for_backward(cosines, sines)
        return _turned(states_THK, cosines, sines)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        cosines, sines = ctx.saved_tensors
        return _turned(gradients[0], cosines, -sines), None, None


def turn(states_THK: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """[T, H, K] -> the same, each head turned by the angle of its token's position."""
    return cast(Tensor, Turn.apply(states_THK, cosines, sines))


def _turned(states_THK: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    turned_THK = torch.empty_like(states_THK)
    (left, right), (new_left, new_right) = states_THK.chunk(2, dim=-1), turned_THK.chunk(2, dim=-1)
    torch.mul(left, cosines, out=new_left).addcmul_(right, sines, value=-1)
    torch.mul(right, cosines, out=new_right).addcmul_(left, sines)
    return turned_THK


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
    """Attention within sequences of ``lengths`` tokens, padded to the longest where they differ."""
    longest, parts = max(lengths), (query_tHK, key_tHK, value_tHK)
    mask = slots_t = None
    if min(lengths) < longest:
        real_BL = (torch.arange(longest) < torch.tensor(lengths)[:, None]).to(query_tHK.device)
        mask, slots_t = real_BL[:, None, None, :], real_BL.flatten().nonzero()[:, 0]
        parts = tuple(Spread.apply(part, slots_t, real_BL.numel()) for part in parts)
    query, key, value = (part.unflatten(0, (-1, longest)).transpose(1, 2) for part in parts)
    case = (query.device.type, query.dtype, dropout > 0)
    dense = explicit if longest <= EXPLICIT_UP_TO and case in EXPLICIT else F.scaled_dot_product_attention
    mixed_tHK = dense(query, key, value, mask, dropout).transpose(1, 2).flatten(0, 1)
    return mixed_tHK if slots_t is None else cast(Tensor, Pick.apply(mixed_tHK, slots_t))


def explicit(query_BHLK: Tensor, key_BHLK: Tensor, value_BHLK: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """What ``scaled_dot_product_attention`` computes, as two products with the softmax between them.

    ``mask`` [B, 1, 1, L] is true at real keys.
    """
    sequences, heads, length, head_width = query_BHLK.shape
    query, key, value = (part.flatten(0, 1) for part in (query_BHLK, key_BHLK, value_BHLK))
    bias = query.new_zeros(sequences, 1, 1, length)
    if mask is not None:
        bias = bias.masked_fill(~mask, -torch.inf)
    bias = bias.expand(-1, heads, -1, -1).flatten(0, 1)
    scores = torch.baddbmm(bias, query, key.transpose(1, 2), alpha=head_width**-0.5)
    return (dropped(scores.softmax(-1), dropout) @ value).unflatten(0, (sequences, heads))


EXPLICIT = {
    ("cpu", torch.bfloat16, False),
    ("cpu", torch.bfloat16, True),
    ("cpu", torch.float32, True),
}
"""(device, number format, with dropout) where this is faster than torch's fused kernel, at 128 tokens by two or three
times; without dropout the two are equal at 1,024."""
EXPLICIT_UP_TO = 512
"""Tokens; its memory grows with their square, the fused kernel's does not."""


class Spread(torch.autograd.Function):
    """Rows laid at ``slots`` of a longer tensor of zeros."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, slots: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(slots)
        return rows.new_zeros(size, *rows.shape[1:]).index_copy_(0, slots, rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0].index_select(0, *ctx.saved_tensors), None, None


class Pick(torch.autograd.Function):
    """The rows at ``slots``, each taken once: unlike indexing, the gradient need not be summed."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, slots: Tensor) -> Tensor:
        ctx.save_for_backward(slots)
        ctx.size = len(rows)
        return rows.index_select(0, slots)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,), (slots,) = gradients, ctx.saved_tensors
        return gradient.new_zeros(ctx.size, *gradient.shape[1:]).index_copy_(0, slots, gradient), None
