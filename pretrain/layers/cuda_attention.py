"""Attention kernels of CUDA devices: one call for all sequences of a packed batch, with dropout."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from sesame.pretrain.layers.attention_pattern import AttentionPattern

FLASH_UP_TO = 256
"""Longest sequences, in tokens, for which FlashAttention 2 is preferred to cuDNN, whose kernels are shorter but take
the host longer to start. On an H100 a step of BERT-large, 32 x 512, takes 172.8 ms with the one and 167.5 with the
other, and its attention 28.3 and 21.3 ms of the device; alone 0.59 and 0.45 ms (8 x 2048 causal: 1.89 and 1.14)."""
OTHERS = [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
"""For devices or shapes that neither of the two supports; torch takes the first kernel that does."""
SHORT = [SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, *OTHERS]
LONG = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, *OTHERS]
"""Kernels behind torch's fused attention in order of preference."""


def equal_length_attention(
    query_THK: Tensor, key_SHK: Tensor, value_SHK: Tensor, pattern: AttentionPattern, scale: float, dropout_p: float
) -> Tensor:
    """Sequences of one length as a batch, without a window or bias."""
    sequences = pattern.query_layout.sequences, pattern.key_layout.sequences, pattern.key_layout.sequences
    query, key, value = (
        part.unflatten(0, (count, -1)).transpose(1, 2)
        for part, count in zip((query_THK, key_SHK, value_SHK), sequences, strict=True)
    )
    preferred = SHORT if pattern.query_layout.longest <= FLASH_UP_TO else LONG
    with sdpa_kernel(preferred, set_priority=True):
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
