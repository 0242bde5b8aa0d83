"""Attention kernels of CUDA devices: one call for all sequences of a packed batch, with dropout."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from sesame.pretrain.layers.attention_pattern import AttentionPattern

PREFERRED = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]
"""Kernels behind torch's fused attention, the fastest first (H100, ``benchmarks/RESULTS.md``); torch takes the first
one that supports the device and the shapes."""


def equal_length_attention(
    query_THK: Tensor, key_SHK: Tensor, value_SHK: Tensor, pattern: AttentionPattern, scale: float, dropout_p: float
) -> Tensor:
    """Sequences of one length as a batch, without a window or bias."""
    sequences = pattern.query_layout.sequences, pattern.key_layout.sequences, pattern.key_layout.sequences
    query, key, value = (
        part.unflatten(0, (count, -1)).transpose(1, 2)
        for part, count in zip((query_THK, key_SHK, value_SHK), sequences, strict=True)
    )
    with sdpa_kernel(PREFERRED, set_priority=True):
        output_BHLK = F.scaled_dot_product_attention(
            query, key, value, dropout_p=dropout_p, is_causal=pattern.causal, scale=scale
        )
    return output_BHLK.transpose(1, 2).flatten(0, 1)


def varlen_attention(
    query_THK: Tensor, key_SHK: Tensor, value_SHK: Tensor, pattern: AttentionPattern, scale: float, dropout_p: float
) -> Tensor:
    """Sequences of any lengths by the FlashAttention 2 kernel that takes their boundaries (Dao 2023)."""
    queries, keys, window = pattern.query_layout, pattern.key_layout, pattern.window or -1
    boundaries = queries.cu_seqlens_B1, keys.cu_seqlens_B1, queries.longest, keys.longest
    left, right = window, 0 if pattern.causal else window
    if dropout_p:
        # The public function has no dropout; this is the operator below it, differentiable and with dropout.
        return torch.ops.aten._flash_attention_forward(
            query_THK,
            key_SHK,
            value_SHK,
            *boundaries,
            dropout_p,
            is_causal=(left, right) == (-1, 0),
            return_debug_mask=False,
            scale=scale,
            window_size_left=left,
            window_size_right=right,
        )[0]
    from torch.nn.attention.varlen import varlen_attn

    output = varlen_attn(query_THK, key_SHK, value_SHK, *boundaries, scale=scale, window_size=(left, right))
    return cast(Tensor, output)
