"""Multi-head attention over packed sequences (Vaswani et al. 2017, section 3.2)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.batch import Layout
from pretrain.flops import attention_flops, product_flops
from pretrain.layers.dropout import dropped
from pretrain.layers.positions import Angles, apply_rotary
from pretrain.layers.style import Style
from pretrain.precision import of_device


class Padding(NamedTuple):
    """Where the tokens of sequences of unequal length lie in a block of B x L places."""

    slots: Tensor
    """int64, for each token."""
    size: int
    """B times L."""

    @classmethod
    def of(cls, lengths: tuple[int, ...], layout: Layout) -> "Padding | None":
        """None where all are of one length."""
        longest = max(lengths)
        if min(lengths) == longest:
            return None
        real_BL = torch.arange(longest) < torch.tensor(lengths)[:, None]
        return cls(real_BL.flatten().nonzero()[:, 0].to(layout.cu_seqlens_B1.device), real_BL.numel())


@dataclass(frozen=True)
class AttentionPattern:
    """What each query may see, and where it stands: made once for a batch and shared by all layers that see alike."""

    queries: Layout
    keys: Layout
    """Of the same sequences, in groups of the same ones; ``queries`` itself in self-attention."""
    causal: bool = False
    """Only what lies before a query, and itself."""
    window: int = 0
    """Only keys at most so many tokens away; 0: all (Sparse Transformer's local band, Child et al. 2019)."""
    angles: Angles | None = None
    """Rotary positions of queries and keys."""
    bias_HLL: Tensor | None = None
    """Added to the scores, by head, place of the query and place of the key; as long as the longest sequence."""

    def __post_init__(self) -> None:
        if self.bias_HLL is not None:
            # Not inside of the first block that asks: one that is computed twice must do the same both times.
            _ = self.masks

    @cached_property
    def masks(self) -> list[Tensor | None]:
        """For each group of sequences what is added to its scores, [B or 1, H or 1, L, S]; None: nothing."""
        return [
            self._mask(queries.lengths, keys.lengths)
            for queries, keys in zip(self.queries.groups, self.keys.groups, strict=True)
        ]

    @cached_property
    def paddings(self) -> tuple[list[Padding | None], list[Padding | None]]:
        """For each group what lays its queries, and its keys, side by side; None where all are of one length."""
        queries = [Padding.of(group.lengths, self.queries) for group in self.queries.groups]
        if self.keys is self.queries:
            return queries, queries
        return queries, [Padding.of(group.lengths, self.keys) for group in self.keys.groups]

    def _mask(self, query_lengths: tuple[int, ...], key_lengths: tuple[int, ...]) -> Tensor | None:
        longest, device = (max(query_lengths), max(key_lengths)), self.queries.cu_seqlens_B1.device
        hidden = []
        # Padding stands behind all that is real, so where nothing looks ahead nothing sees it.
        if not self.causal and min(key_lengths) < longest[1]:
            keys = torch.arange(longest[1]) >= torch.tensor(key_lengths)[:, None]
            hidden.append(keys[:, None, None, :].to(device))
        banded = self.window > 0 and max(longest) > self.window + 1
        if self.causal or banded:
            distance = torch.arange(longest[1], device=device) - torch.arange(longest[0], device=device)[:, None]
            unseen = (distance > 0) & self.causal
            hidden.append((unseen | (distance.abs() > self.window) if banded else unseen)[None, None])
        if not hidden and self.bias_HLL is None:
            return None
        if self.bias_HLL is None:
            scores = torch.zeros((), device=device)
        else:
            scores = self.bias_HLL[None, :, : longest[0], : longest[1]]
        for places in hidden:
            scores = torch.where(places, HIDDEN, scores)
        return scores


HIDDEN = -1e30
"""Score of what is not to be seen. Not infinite: padding may see nothing at all, and its softmax must not be NaN."""


class Attention(nn.Module):
    """Attention within each sequence of a packed batch; over ``memory`` where given, else over itself.

    Query, key and value are separate projections and heads are counted by ``view(T, -1, K)``: a split of their
    columns over processes then needs no knowledge of heads.
    """

    def __init__(self, width: int, heads: int, style: Style, *, head_width: int = 0, scale: float | None = None):
        """
        Args:
            head_width: K; 0 for width / heads.
            scale: of the scores; None for 1 / sqrt(K) (T5 has 1).
        """
        super().__init__()
        self.head_width = head_width or width // heads
        self.width, self.inner_width = width, heads * self.head_width
        self.query = style.linear(width, self.inner_width)
        self.key = style.linear(width, self.inner_width)
        self.value = style.linear(width, self.inner_width)
        self.core = CoreAttention(heads, self.head_width**-0.5 if scale is None else scale, style.attention_dropout)
        self.output = style.linear(self.inner_width, width)

    def forward(self, hidden_TD: Tensor, pattern: AttentionPattern, memory_SD: Tensor | None = None) -> Tensor:
        memory_SD = hidden_TD if memory_SD is None else memory_SD
        query_THK = self.query(hidden_TD).view(len(hidden_TD), -1, self.head_width)
        key_SHK = self.key(memory_SD).view(len(memory_SD), -1, self.head_width)
        if pattern.angles is not None:
            query_THK, key_SHK = apply_rotary(query_THK, *pattern.angles), apply_rotary(key_SHK, *pattern.angles)
        value_SHK = self.value(memory_SD).view(len(memory_SD), -1, self.head_width)
        mixed_THK = self.core(query_THK, key_SHK, value_SHK, pattern)
        return self.output(mixed_THK.flatten(1))

    def flops(self, queries: int, keys: int, pairs: int) -> int:
        """Of so many query tokens, key tokens and pairs of them."""
        projections = product_flops(self.width * self.inner_width, 2 * queries + 2 * keys)
        return projections + attention_flops(self.inner_width, pairs)


class CoreAttention(nn.Module):
    """softmax(scale q k^T + mask) v within each sequence; a module of its own so that its dropout can be placed."""

    def __init__(self, heads: int, scale: float, dropout: float):
        super().__init__()
        self.heads = heads
        self.scale = scale
        self.dropout = dropout

    def forward(self, query_THK: Tensor, key_SHK: Tensor, value_SHK: Tensor, pattern: AttentionPattern) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        place = (query_THK.device.type, query_THK.dtype)
        # The kernels of a device have neither dropout nor a bias.
        plain = not dropout and pattern.bias_HLL is None
        kernel = KERNELS.get(place, grouped) if plain else grouped
        return kernel(query_THK, key_SHK, value_SHK, pattern, self.scale, dropout)


def grouped(
    query_THK: Tensor, key_SHK: Tensor, value_SHK: Tensor, pattern: AttentionPattern, scale: float, dropout: float
) -> Tensor:
    """One call for each run of sequences of similar length; the kernel that has everything and runs everywhere."""
    mixed = []
    groups = zip(pattern.queries.groups, pattern.keys.groups, *pattern.paddings, pattern.masks, strict=True)
    for queries, keys, query_padding, key_padding, mask in groups:
        query = _side_by_side(query_THK[queries.start : queries.end], queries.lengths, query_padding)
        key = _side_by_side(key_SHK[keys.start : keys.end], keys.lengths, key_padding)
        value = _side_by_side(value_SHK[keys.start : keys.end], keys.lengths, key_padding)
        mixed_tHK = _dense(query, key, value, mask, scale, dropout).transpose(1, 2).flatten(0, 1)
        mixed.append(
            mixed_tHK if query_padding is None else cast(Tensor, GatherRows.apply(mixed_tHK, query_padding.slots))
        )
    return mixed[0] if len(mixed) == 1 else torch.cat(mixed)


def variable_length(
    query_THK: Tensor, key_SHK: Tensor, value_SHK: Tensor, pattern: AttentionPattern, scale: float, dropout: float
) -> Tensor:
    """All sequences in one call of the CUDA kernel that takes their boundaries."""
    from torch.nn.attention.varlen import varlen_attn

    queries, keys, reach = pattern.queries, pattern.keys, pattern.window or -1
    mixed = varlen_attn(
        query_THK,
        key_SHK,
        value_SHK,
        queries.cu_seqlens_B1,
        keys.cu_seqlens_B1,
        queries.longest,
        keys.longest,
        scale=scale,
        window_size=(reach, 0 if pattern.causal else reach),
    )
    return cast(Tensor, mixed)


Kernel = Callable[[Tensor, Tensor, Tensor, AttentionPattern, float, float], Tensor]
KERNELS: dict[tuple[str, torch.dtype], Kernel] = {
    ("cuda", torch.bfloat16): variable_length,
    ("cuda", torch.float16): variable_length,
}
"""By device and number format; everywhere else, and with dropout or a bias, which it lacks, ``grouped`` is used."""


def _side_by_side(states_tHK: Tensor, lengths: tuple[int, ...], padding: Padding | None) -> Tensor:
    """[B, H, L, K] with zeros behind shorter sequences."""
    if padding is not None:
        states_tHK = cast(Tensor, ScatterRows.apply(states_tHK, padding.slots, padding.size))
    return states_tHK.unflatten(0, (len(lengths), -1)).transpose(1, 2)


def _dense(
    query_BHLK: Tensor, key_BHSK: Tensor, value_BHSK: Tensor, mask: Tensor | None, scale: float, dropout: float
) -> Tensor:
    if mask is not None:
        mask = mask.to(query_BHLK.dtype)
    case = (query_BHLK.device.type, query_BHLK.dtype, dropout > 0)
    fits = max(query_BHLK.shape[2], key_BHSK.shape[2]) <= EXPLICIT_UP_TO and case in EXPLICIT
    if fits and not (query_BHLK.dtype == torch.bfloat16 and of_device(query_BHLK.device).name == "fp32"):
        return explicit(query_BHLK, key_BHSK, value_BHSK, mask, scale, dropout)
    return F.scaled_dot_product_attention(query_BHLK, key_BHSK, value_BHSK, mask, dropout, scale=scale)


def explicit(
    query_BHLK: Tensor, key_BHSK: Tensor, value_BHSK: Tensor, mask: Tensor | None, scale: float, dropout: float
) -> Tensor:
    """What ``scaled_dot_product_attention`` computes, as two products with the softmax between them.

    ``mask`` [B or 1, H or 1, L or 1, S] is added to the scores.
    """
    sequences, heads = query_BHLK.shape[:2]
    query, key, value = (part.flatten(0, 1) for part in (query_BHLK, key_BHSK, value_BHSK))
    added = query.new_zeros(1, 1, 1) if mask is None else mask
    if mask is not None and mask.shape[:2] == (1, 1):
        added = mask[0]
    elif mask is not None:
        added = mask.expand(sequences, heads, -1, -1).flatten(0, 1)
    scores = torch.baddbmm(added, query, key.transpose(1, 2), alpha=scale)
    return (dropped(scores.softmax(-1), dropout) @ value).unflatten(0, (sequences, heads))


EXPLICIT = {
    ("cpu", torch.bfloat16, False),
    ("cpu", torch.bfloat16, True),
    ("cpu", torch.float32, True),
}
"""(device, number format, with dropout) where this is faster than torch's fused kernel, at 128 tokens by two or three
times; without dropout the two are equal at 1,024. Not in bf16 on a CPU without instructions for it, whose products of
bf16 are two to five times slower than the fused kernel (``benchmarks/kernels_by_processor.py``)."""
EXPLICIT_UP_TO = 512
"""Tokens; its memory grows with their square, the fused kernel's does not."""


class ScatterRows(torch.autograd.Function):
    """Rows laid at ``slots`` of a longer tensor of zeros."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, slots: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(slots)
        return rows.new_zeros(size, *rows.shape[1:]).index_copy_(0, slots, rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0].index_select(0, *ctx.saved_tensors), None, None


class GatherRows(torch.autograd.Function):
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
