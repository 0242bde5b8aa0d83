"""Pooling against the same thing written with a loop."""

import numpy as np
import pytest
import torch

from evaluation.finetune_config import FinetuneConfig
from evaluation.heads import POOLINGS, Head
from pretrain.batches import pack

LENGTHS, FIRSTS = [3, 5, 4], [2, 2, 4]


@pytest.fixture
def batch():
    sequences = [np.arange(length) for length in LENGTHS]
    return pack(sequences, FIRSTS, first_lengths=np.array(FIRSTS))


def test_poolings(batch):
    hidden_TD = torch.randn(12, 6)
    parts = hidden_TD.split(LENGTHS)
    assert torch.equal(POOLINGS["first"][0](hidden_TD, batch), torch.stack([part[0] for part in parts]))
    mean = torch.stack([part.mean(0) for part in parts])
    torch.testing.assert_close(POOLINGS["mean"][0](hidden_TD, batch), mean)
    u = torch.stack([part[:cut].mean(0) for part, cut in zip(parts, FIRSTS, strict=True)])
    v = torch.stack([part[cut:].sum(0) / max(1, len(part) - cut) for part, cut in zip(parts, FIRSTS, strict=True)])
    expected = torch.cat([u, v, (u - v).abs(), u * v], -1)
    torch.testing.assert_close(POOLINGS["pair"][0](hidden_TD, batch), expected)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("hidden_layer", [True, False])
def test_every_head_gives_an_output_and_a_gradient_for_each_token_it_pools(pooling, hidden_layer, batch):
    config = FinetuneConfig(pooling=pooling, hidden_layer=hidden_layer, dropout=0.0)
    hidden_TD = torch.randn(12, 6, requires_grad=True)
    outputs = Head(6, 3, config)(hidden_TD, batch)
    assert outputs.shape == (3, 3)
    outputs.square().sum().backward()
    assert hidden_TD.grad is not None
    touched = hidden_TD.grad.abs().sum(-1) > 0
    assert touched.sum() == (3 if pooling == "first" else 12)
