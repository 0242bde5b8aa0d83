"""Padded blocks of heads: places, zeros and gradients."""

import numpy as np
import pytest
import torch

from sesame.pretrain.data.packing import layout
from sesame.pretrain.layers.attention import AttentionPattern
from sesame.pretrain.layers.padded_heads import pack_heads, pad_heads

HEADS, WIDTH = 3, 2
REST = 4
"""Tokens after the last sequence."""


@pytest.mark.parametrize("lengths", [[5], [4, 4], [3, 4], [1, 2, 7, 7, 30, 30, 31]])
@pytest.mark.parametrize("rest", [0, REST])
def test_blocks_have_the_tokens_of_their_sequences(lengths: list[int], rest: int) -> None:
    packed = layout(np.array(lengths))
    groups, _ = AttentionPattern(packed, packed).padded_groups(HEADS)
    tokens = sum(lengths) + rest
    states = torch.randn(tokens, HEADS, WIDTH, dtype=torch.float64)
    blocks = pad_heads(states, groups)
    start = 0
    for block, group in zip(blocks, packed.groups, strict=True):
        for sequence, length in zip(block, group.lengths, strict=True):
            assert torch.equal(sequence[:, :length], states[start : start + length].transpose(0, 1))
            assert not sequence[:, length:].any()
            start += length
    expected = states.clone()
    expected[sum(lengths) :] = 0.0
    assert torch.equal(pack_heads(blocks, groups, tokens), expected)


@pytest.mark.parametrize("lengths", [[4, 4], [1, 2, 5]])
def test_gradients_are_exact(lengths: list[int]) -> None:
    packed = layout(np.array(lengths))
    groups, _ = AttentionPattern(packed, packed).padded_groups(HEADS)
    states = torch.randn(sum(lengths) + REST, HEADS, WIDTH, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda each: pad_heads(each, groups), states)
    blocks = [block.detach().contiguous().requires_grad_() for block in pad_heads(states, groups)]
    assert torch.autograd.gradcheck(lambda *each: pack_heads(each, groups, len(states)), blocks)


def test_what_is_not_a_number_stays_in_its_sequence() -> None:
    packed = layout(np.array([20, 19]))
    groups, _ = AttentionPattern(packed, packed).padded_groups(HEADS)
    states = torch.ones(39, HEADS, WIDTH)
    states[0] = torch.nan
    (block,) = pad_heads(states, groups)
    assert block[1].isfinite().all()
