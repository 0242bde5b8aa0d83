"""Multi-head attention over packed sequences (Vaswani et al. 2017, section 3.2)."""

from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sesame.pretrain.flops import attention_flops, product_flops
from sesame.pretrain.layers.attention_pattern import AttentionPattern
from sesame.pretrain.layers.cuda_attention import equal_length_attention, varlen_attention
from sesame.pretrain.layers.dropout import dropout
from sesame.pretrain.layers.joined_linear import joined_linear
from sesame.pretrain.layers.padded_heads import pack_heads, pad_heads
from sesame.pretrain.layers.positions import Angles, apply_rotary
from sesame.pretrain.layers.style import Style
from sesame.pretrain.precision import of_device


class Attention(nn.Module):
    """Attention within each sequence of a packed batch, or cross-attention to the states of an encoder.

    Query, key and value are separate parameters and the number of heads follows from ``unflatten(-1, (-1, K))``, so
    that splitting their columns over processes does not depend on heads.
    """

    joins_products: bool = True
    """Compute query, key and value as one product; False where a module's weights exist only while it is called."""
    device_type: str | None = None
    """Type of device that the products are computed for; None: that of the states."""

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
        query_THK, key_SHK, value_SHK = self.project(hidden_TD, pattern.rotary_angles, encoded_SD)
        return self.merge(self.core(query_THK, key_SHK, value_SHK, pattern))

    def project(
        self, hidden_TD: Tensor, angles: Angles | None = None, encoded_SD: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values by head, with rotary positions."""
        if encoded_SD is None:
            parts = self._join(hidden_TD, self.query, self.key, self.value)
        else:
            parts = self.query(hidden_TD), *self._join(encoded_SD, self.key, self.value)
        query_THK, key_SHK, value_SHK = (part.unflatten(-1, (-1, self.head_width)) for part in parts)
        if angles is not None:
            query_THK, key_SHK = apply_rotary(query_THK, *angles), apply_rotary(key_SHK, *angles)
        return query_THK, key_SHK, value_SHK

    def _join(self, states: Tensor, *layers: nn.Module) -> tuple[Tensor, ...]:
        return joined_linear(states, layers, joins=self.joins_products, device_type=self.device_type)

    def merge(self, attended_THK: Tensor) -> Tensor:
        """Project the heads' outputs back to the width."""
        return self.output(attended_THK.flatten(1))

    def flops(self, queries: int, keys: int, pairs: int) -> int:
        """Of so many query tokens, key tokens and pairs of them."""
        projections = product_flops(self.width * self.inner_width, 2 * queries + 2 * keys)
        return projections + attention_flops(self.inner_width, pairs)


class CoreAttention(nn.Module):
    """softmax(scale q k^T + mask) v within each sequence; a module, so that ``parallel`` can change its dropout."""

    recomputable: ClassVar[str] = "attention"
    """See ``PostNormBlock``."""

    def __init__(self, heads: int, scale: float, dropout: float):
        super().__init__()
        self.heads = heads
        self.scale = scale
        self.dropout = dropout

    def forward(self, query_THK: Tensor, key_SHK: Tensor, value_SHK: Tensor, pattern: AttentionPattern) -> Tensor:
        dropout_p = self.dropout if self.training else 0.0
        if pattern.added_values_SD is not None:
            value_SHK = value_SHK + pattern.added_values_SD.view_as(value_SHK)
        kernel = choose_kernel(query_THK.device.type, query_THK.dtype, pattern)
        return kernel(query_THK, key_SHK, value_SHK, pattern, self.scale, dropout_p)


Kernel = Callable[[Tensor, Tensor, Tensor, AttentionPattern, float, float], Tensor]


def choose_kernel(device: str, dtype: torch.dtype, pattern: AttentionPattern) -> Kernel:
    """Return the fastest kernel for a pattern; all of them support dropout."""
    if (device, dtype) not in FLASH_CASES or pattern.bias_HLL is not None:
        return grouped_attention
    # torch's fused attention has no window, and without one it is faster than the kernel that takes boundaries.
    return equal_length_attention if pattern.has_equal_lengths and not pattern.is_banded else varlen_attention


FLASH_CASES = {("cuda", torch.bfloat16), ("cuda", torch.float16)}
"""(device, number format) of the kernels in ``cuda_attention``."""


def grouped_attention(
    query_THK: Tensor, key_SHK: Tensor, value_SHK: Tensor, pattern: AttentionPattern, scale: float, dropout_p: float
) -> Tensor:
    """One padded call for each group of sequences of similar length; supports every pattern and device."""
    query_groups, key_groups = pattern.padded_groups(query_THK.shape[1])
    blocks = pad_heads(query_THK, query_groups), pad_heads(key_SHK, key_groups), pad_heads(value_SHK, key_groups)
    outputs = [
        _padded_attention(query, key, value, mask, scale, dropout_p)
        for query, key, value, mask in zip(*blocks, pattern.masks, strict=True)
    ]
    return pack_heads(outputs, query_groups, len(query_THK))


def _padded_attention(
    query_BHLK: Tensor, key_BHSK: Tensor, value_BHSK: Tensor, mask: Tensor | None, scale: float, dropout_p: float
) -> Tensor:
    if mask is not None:
        # fp16 ends at 65,504; a row of scores that are all infinite would be NaN.
        is_half = query_BHLK.dtype == torch.float16
        mask = (mask.clamp(min=-3e4) if is_half else mask).to(query_BHLK.dtype)
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
    if mask is None:
        added = query.new_empty(1, 1, 1)
    else:
        added = mask[0] if mask.shape[:2] == (1, 1) else mask.expand(sequences, heads, -1, -1).flatten(0, 1)
    scores = torch.baddbmm(added, query, key.transpose(1, 2), beta=float(mask is not None), alpha=scale)
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
