"""Which attention kernel a batch gets, and torch's fused attention of equal lengths against the formula.

``tests/pretrain/test_gpu.py`` compares the kernels on a device.
"""

from typing import Any

import numpy as np
import pytest
import torch

from sesame.pretrain.data.packing import layout, layout_like
from sesame.pretrain.layers.attention import AttentionPattern, choose_kernel, grouped_attention
from sesame.pretrain.layers.cuda_attention import equal_length_attention, varlen_attention
from tests.pretrain.layers.test_kernels import PATTERNS, compare

EQUAL, UNEVEN = layout(np.array([6, 6, 6])), layout(np.array([4, 6, 6]))
MANY_GROUPS = layout(np.array([2, 2, 2, 2, 9, 9, 9, 9]))
CASES: list[tuple[str, AttentionPattern, Any]] = [
    ("equal lengths", AttentionPattern(EQUAL, EQUAL), equal_length_attention),
    ("equal lengths, causal", AttentionPattern(EQUAL, EQUAL, causal=True), equal_length_attention),
    ("a window longer than all", AttentionPattern(EQUAL, EQUAL, window=5), equal_length_attention),
    ("a window", AttentionPattern(EQUAL, EQUAL, window=4), varlen_attention),
    ("uneven", AttentionPattern(UNEVEN, UNEVEN), varlen_attention),
    ("groups of equal lengths", AttentionPattern(MANY_GROUPS, MANY_GROUPS), varlen_attention),
    ("uneven keys", AttentionPattern(layout_like(UNEVEN, np.array([3, 3, 3])), UNEVEN), varlen_attention),
    ("a bias", AttentionPattern(EQUAL, EQUAL, bias_HLL=torch.zeros(2, 6, 6)), grouped_attention),
]


@pytest.mark.parametrize(("pattern", "kernel"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_gpu_takes_the_kernel_that_fits_the_batch(pattern: AttentionPattern, kernel: Any) -> None:
    assert choose_kernel("cuda", torch.bfloat16, pattern) is kernel
    assert choose_kernel("cuda", torch.float32, pattern) is grouped_attention
    assert choose_kernel("cpu", torch.bfloat16, pattern) is grouped_attention


@pytest.mark.parametrize("causal", [False, True])
def test_equal_lengths_in_one_call_are_the_formula(causal: bool) -> None:
    states: Any = [torch.randn(18, 2, 8, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    pattern = AttentionPattern(EQUAL, EQUAL, causal=causal)
    ours = equal_length_attention(states[0], states[1], states[2], pattern, 0.3, 0.0)
    plain = []
    for query, key, value in zip(*(part.split(6) for part in states), strict=True):
        scores = torch.einsum("ihk,jhk->hij", query, key) * 0.3
        if causal:
            scores = scores.masked_fill(torch.ones(6, 6).triu(1) > 0, -torch.inf)
        plain.append(torch.einsum("hij,jhk->ihk", scores.softmax(-1), value))
    upstream = torch.randn(18, 2, 8, dtype=torch.float64)
    torch.testing.assert_close(ours, torch.cat(plain))
    gradients = [torch.autograd.grad(made, states, upstream) for made in (ours, torch.cat(plain))]
    for left, right in zip(*gradients, strict=True):
        torch.testing.assert_close(left, right)


@pytest.mark.parametrize("kind", PATTERNS)
def test_one_group_for_all_sequences_is_the_formula(kind: str) -> None:
    """What a GPU gets where no kernel takes boundaries: with a bias, or in fp32."""
    lengths = [3, 4, 20, 20, 20, 20, 21, 60]
    packed = layout(np.array(lengths))
    assert len(packed.groups) > 1 and len(packed.merged.groups) == 1
    inputs = [torch.randn(sum(lengths), 3, 8, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    bias = torch.randn(3, 60, 60, dtype=torch.float64, requires_grad=True)
    changes = {**PATTERNS[kind], **({"bias_HLL": bias} if "bias" in kind else {})}
    compare(inputs, AttentionPattern(packed.merged, packed.merged, **changes), lengths, lengths)


def test_cross_attention_of_equal_lengths_is_the_formula() -> None:
    keys = layout_like(EQUAL, np.array([4, 4, 4]))
    query, key, value = (torch.randn(size, 2, 8, dtype=torch.float64) for size in (18, 12, 12))
    ours = equal_length_attention(query, key, value, AttentionPattern(EQUAL, keys), 0.3, 0.0)
    torch.testing.assert_close(ours, grouped_attention(query, key, value, AttentionPattern(EQUAL, keys), 0.3, 0.0))


def test_the_operator_below_variable_length_attention_has_the_arguments_that_are_used() -> None:
    """It is private in torch, so a new version may change it; on a CPU only its signature can be read."""
    arguments = {argument.name for argument in torch.ops.aten._flash_attention_forward.default._schema.arguments}
    assert {
        "cum_seq_q",
        "max_q",
        "dropout_p",
        "is_causal",
        "scale",
        "window_size_left",
        "window_size_right",
    } <= arguments
