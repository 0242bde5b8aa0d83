"""Multi-head attention over packed sequences (Vaswani et al. 2017, section 3.2)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sesame.pretrain.batch import Layout
from sesame.pretrain.flops import attention_flops, product_flops
from sesame.pretrain.layers.dropout import dropout
from sesame.pretrain.layers.positions import Angles, apply_rotary
from sesame.pretrain.layers.style import Style
from sesame.pretrain.precision import of_device


class Padding(NamedTuple):
    """Positions of the tokens of sequences of unequal length in a padded block of B x L."""

    positions: Tensor
    """int64, for each token."""
    size: int
    """B times L."""

    @classmethod
    def of(cls, lengths: tuple[int, ...], layout: Layout) -> "Padding | None":
        """Return the padding of sequences of these lengths; None if all lengths are equal."""
        longest = max(lengths)
        if min(lengths) == longest:
            return None
        is_token_BL = torch.arange(longest) < torch.tensor(lengths)[:, None]
        return cls(is_token_BL.flatten().nonzero()[:, 0].to(layout.cu_seqlens_B1.device), is_token_BL.numel())


@dataclass(frozen=True)
class AttentionPattern:
    """Which keys each query attends to, and positions; made once for a batch and shared by its layers."""

    query_layout: Layout
    key_layout: Layout
    """Of the same sequences in the same groups; the same object as ``query_layout`` in self-attention."""
    causal: bool = False
    """A query attends only to keys at or before its position."""
    window: int = 0
    """Largest distance of a key, in tokens; 0: no limit (Sparse Transformer's local band, Child et al. 2019)."""
    rotary_angles: Angles | None = None
    """Of queries and keys."""
    bias_HLL: Tensor | None = None
    """Added to the scores, by head, query position and key position; L is the longest sequence."""

    def __post_init__(self) -> None:
        if self.bias_HLL is not None:
            # Not in the first block that reads it: a recomputed block must do the same in both passes.
            _ = self.masks

    @cached_property
    def masks(self) -> list[Tensor | None]:
        """The mask of each group of sequences, added to its scores: [B or 1, H or 1, L, S], or None."""
        return [
            self._mask(queries.lengths, keys.lengths)
            for queries, keys in zip(self.query_layout.groups, self.key_layout.groups, strict=True)
        ]

    @cached_property
    def paddings(self) -> tuple[list[Padding | None], list[Padding | None]]:
        """The padding of queries and of keys, for each group; None where all lengths are equal."""
        queries = [Padding.of(group.lengths, self.query_layout) for group in self.query_layout.groups]
        if self.key_layout is self.query_layout:
            return queries, queries
        return queries, [Padding.of(group.lengths, self.key_layout) for group in self.key_layout.groups]

    def _mask(self, query_lengths: tuple[int, ...], key_lengths: tuple[int, ...]) -> Tensor | None:
        longest, device = (max(query_lengths), max(key_lengths)), self.query_layout.cu_seqlens_B1.device
        masked = []
        # Padding comes after the tokens of a sequence, so a causal mask covers it.
        if not self.causal and min(key_lengths) < longest[1]:
            is_padding = torch.arange(longest[1]) >= torch.tensor(key_lengths)[:, None]
            masked.append(is_padding[:, None, None, :].to(device))
        banded = self.window > 0 and max(longest) > self.window + 1
        if self.causal or banded:
            distance = torch.arange(longest[1], device=device) - torch.arange(longest[0], device=device)[:, None]
            later = (distance > 0) & self.causal
            masked.append((later | (distance.abs() > self.window) if banded else later)[None, None])
        if not masked and self.bias_HLL is None:
            return None
        if self.bias_HLL is None:
            scores = torch.zeros((), device=device)
        else:
            scores = self.bias_HLL[None, :, : longest[0], : longest[1]]
        for mask in masked:
            scores = torch.where(mask, MASKED_SCORE, scores)
        return scores


MASKED_SCORE = -1e30
"""Finite, because all keys of a padding query can be masked, and its softmax must not be NaN."""


class Attention(nn.Module):
    """Attention within each sequence of a packed batch, or cross-attention to the states of an encoder.

    Query, key and value are separate projections and the number of heads follows from ``view(T, -1, K)``, so that
    splitting their columns over processes does not depend on heads.
    """

    def __init__(self, width: int, heads: int, style: Style, *, head_width: int = 0, scale: float | None = None):
        """
        Args:
            head_width: K; 0: width / heads.
            scale: of the scores; None: 1 / sqrt(K) (T5: 1).
        """
        super().__init__()
        self.head_width = head_width or width // heads
        self.width, self.inner_width = width, heads * self.head_width
        self.query = style.linear(width, self.inner_width)
        self.key = style.linear(width, self.inner_width)
        self.value = style.linear(width, self.inner_width)
        self.core = CoreAttention(heads, self.head_width**-0.5 if scale is None else scale, style.attention_dropout)
        self.output = style.linear(self.inner_width, width)

    def forward(self, hidden_TD: Tensor, pattern: AttentionPattern, encoded_SD: Tensor | None = None) -> Tensor:
        source_SD = hidden_TD if encoded_SD is None else encoded_SD
        query_THK = self.query(hidden_TD).view(len(hidden_TD), -1, self.head_width)
        key_SHK = self.key(source_SD).view(len(source_SD), -1, self.head_width)
        if pattern.rotary_angles is not None:
            query_THK = apply_rotary(query_THK, *pattern.rotary_angles)
            key_SHK = apply_rotary(key_SHK, *pattern.rotary_angles)
        value_SHK = self.value(source_SD).view(len(source_SD), -1, self.head_width)
        attended_THK = self.core(query_THK, key_SHK, value_SHK, pattern)
        return self.output(attended_THK.flatten(1))

    def flops(self, queries: int, keys: int, pairs: int) -> int:
        """Of so many query tokens, key tokens and pairs of them."""
        projections = product_flops(self.width * self.inner_width, 2 * queries + 2 * keys)
        return projections + attention_flops(self.inner_width, pairs)


class CoreAttention(nn.Module):
    """softmax(scale q k^T + mask) v within each sequence; a module, so that ``parallel`` can change its dropout."""

    def __init__(self, heads: int, scale: float, dropout: float):
        super().__init__()
        self.heads = heads
        self.scale = scale
        self.dropout = dropout

    def forward(self, query_THK: Tensor, key_SHK: Tensor, value_SHK: Tensor, pattern: AttentionPattern) -> Tensor:
        dropout_p = self.dropout if self.training else 0.0
        # The kernels of the table have neither dropout nor a bias.
        kernel = grouped_attention
        if not dropout_p and pattern.bias_HLL is None:
            kernel = KERNELS.get((query_THK.device.type, query_THK.dtype), grouped_attention)
        return kernel(query_THK, key_SHK, value_SHK, pattern, self.scale, dropout_p)


def grouped_attention(
    query_THK: Tensor, key_SHK: Tensor, value_SHK: Tensor, pattern: AttentionPattern, scale: float, dropout_p: float
) -> Tensor:
    """One padded call for each group of sequences of similar length; supports every pattern and device."""
    outputs = []
    layouts = pattern.query_layout.groups, pattern.key_layout.groups
    groups = zip(*layouts, *pattern.paddings, pattern.masks, strict=True)
    for queries, keys, query_padding, key_padding, mask in groups:
        query = _pad(query_THK[queries.start : queries.end], queries.lengths, query_padding)
        key = _pad(key_SHK[keys.start : keys.end], keys.lengths, key_padding)
        value = _pad(value_SHK[keys.start : keys.end], keys.lengths, key_padding)
        output_tHK = _padded_attention(query, key, value, mask, scale, dropout_p).transpose(1, 2).flatten(0, 1)
        if query_padding is not None:
            output_tHK = cast(Tensor, GatherRows.apply(output_tHK, query_padding.positions))
        outputs.append(output_tHK)
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def varlen_attention(
    query_THK: Tensor, key_SHK: Tensor, value_SHK: Tensor, pattern: AttentionPattern, scale: float, dropout_p: float
) -> Tensor:
    """All sequences in one call of the CUDA kernel that takes cumulative sequence lengths."""
    from torch.nn.attention.varlen import varlen_attn

    queries, keys, window = pattern.query_layout, pattern.key_layout, pattern.window or -1
    output = varlen_attn(
        query_THK,
        key_SHK,
        value_SHK,
        queries.cu_seqlens_B1,
        keys.cu_seqlens_B1,
        queries.longest,
        keys.longest,
        scale=scale,
        window_size=(window, 0 if pattern.causal else window),
    )
    return cast(Tensor, output)


Kernel = Callable[[Tensor, Tensor, Tensor, AttentionPattern, float, float], Tensor]
KERNELS: dict[tuple[str, torch.dtype], Kernel] = {
    ("cuda", torch.bfloat16): varlen_attention,
    ("cuda", torch.float16): varlen_attention,
}
"""By device and number format; ``grouped_attention`` for all others, with dropout and with a bias."""


def _pad(states_tHK: Tensor, lengths: tuple[int, ...], padding: Padding | None) -> Tensor:
    """Return [B, H, L, K] with zeros after shorter sequences."""
    if padding is not None:
        states_tHK = cast(Tensor, ScatterRows.apply(states_tHK, padding.positions, padding.size))
    return states_tHK.unflatten(0, (len(lengths), -1)).transpose(1, 2)


def _padded_attention(
    query_BHLK: Tensor, key_BHSK: Tensor, value_BHSK: Tensor, mask: Tensor | None, scale: float, dropout_p: float
) -> Tensor:
    if mask is not None:
        mask = mask.to(query_BHLK.dtype)
    case = (query_BHLK.device.type, query_BHLK.dtype, dropout_p > 0)
    unfused = max(query_BHLK.shape[2], key_BHSK.shape[2]) <= UNFUSED_MAX_LENGTH and case in UNFUSED_CASES
    if unfused and not (query_BHLK.dtype == torch.bfloat16 and of_device(query_BHLK.device).name == "fp32"):
        return unfused_attention(query_BHLK, key_BHSK, value_BHSK, mask, scale, dropout_p)
    return F.scaled_dot_product_attention(query_BHLK, key_BHSK, value_BHSK, mask, dropout_p, scale=scale)


def unfused_attention(
    query_BHLK: Tensor, key_BHSK: Tensor, value_BHSK: Tensor, mask: Tensor | None, scale: float, dropout_p: float
) -> Tensor:
    """Compute ``scaled_dot_product_attention`` as two matrix products and a softmax.

    Args:
        mask: [B or 1, H or 1, L or 1, S], added to the scores.
    """
    sequences, heads = query_BHLK.shape[:2]
    query, key, value = (part.flatten(0, 1) for part in (query_BHLK, key_BHSK, value_BHSK))
    added = query.new_zeros(1, 1, 1) if mask is None else mask
    if mask is not None and mask.shape[:2] == (1, 1):
        added = mask[0]
    elif mask is not None:
        added = mask.expand(sequences, heads, -1, -1).flatten(0, 1)
    scores = torch.baddbmm(added, query, key.transpose(1, 2), alpha=scale)
    return (dropout(scores.softmax(-1), dropout_p) @ value).unflatten(0, (sequences, heads))


UNFUSED_CASES = {
    ("cpu", torch.bfloat16, False),
    ("cpu", torch.bfloat16, True),
    ("cpu", torch.float32, True),
}
"""(device, number format, with dropout) where unfused attention is faster than torch's fused kernel: two to three times
at 128 tokens; without dropout both are equal at 1,024. On a CPU without bf16 instructions it is two to five times
slower than the fused kernel in bf16 and is not used (``benchmarks/kernels_by_processor.py``)."""
UNFUSED_MAX_LENGTH = 512
"""Tokens; memory grows with their square, unlike the fused kernel's."""


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
