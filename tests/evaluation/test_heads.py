"""Pooling against the same thing written with a loop."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from evaluation.config import FinetuneConfig
from evaluation.heads import POOLINGS, Head, Mixture
from pretrain.data.packing import pack
from pretrain.roles import Encoded

LENGTHS, FIRSTS = [3, 5, 4], [2, 2, 4]


def backbone(**changes):
    return SimpleNamespace(**{"width": 6, "pooling": "first", "mixed_layers": 0, "pooler": {}, **changes})


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
    assert torch.equal(POOLINGS["last"][0](hidden_TD, batch), torch.stack([part[-1] for part in parts]))
    expected = torch.cat([u, v, (u - v).abs(), u * v], -1)
    torch.testing.assert_close(POOLINGS["pair"][0](hidden_TD, batch), expected)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("hidden_layer", [True, False])
def test_every_head_gives_an_output_and_a_gradient_for_each_token_it_pools(pooling, hidden_layer, batch):
    config = FinetuneConfig(pooling=pooling, hidden_layer=hidden_layer, dropout=0.0)
    hidden_TD = torch.randn(12, 6, requires_grad=True)
    outputs = Head(backbone(), 3, config)(Encoded(hidden_TD), batch)
    assert outputs.shape == (3, 3)
    outputs.square().sum().backward()
    assert hidden_TD.grad is not None
    touched = hidden_TD.grad.abs().sum(-1) > 0
    assert touched.sum() == (3 if pooling in ("first", "last") else 12)


@pytest.mark.parametrize("pooling", ["first", "last", "mean"])
def test_auto_is_what_fits_the_family(pooling, batch):
    torch.manual_seed(1)
    auto = Head(backbone(pooling=pooling), 3, FinetuneConfig(pooling="auto"))
    torch.manual_seed(1)
    named = Head(backbone(), 3, FinetuneConfig(pooling=pooling))
    encoded = Encoded(torch.randn(12, 6))
    assert torch.equal(auto.eval()(encoded, batch), named.eval()(encoded, batch))


def test_a_mixture_is_gamma_times_the_weighted_mean_and_is_learned(batch):
    mixture = Mixture(3)
    layers = tuple(torch.randn(12, 6) for _ in range(3))
    torch.testing.assert_close(mixture(layers), torch.stack(layers).mean(0))
    with torch.no_grad():
        mixture.weights.copy_(torch.tensor([0.0, 1.0, 2.0]).log())
        mixture.gamma.fill_(5.0)
    torch.testing.assert_close(mixture(layers), 5 * (layers[1] / 3 + layers[2] * 2 / 3))
    head = Head(backbone(mixed_layers=3), 2, FinetuneConfig(dropout=0.0))
    head(Encoded(torch.full((12, 6), torch.nan), layers=layers), batch).sum().backward()
    assert head.mixture.weights.grad.abs().min() > 0 and head.mixture.gamma.grad != 0


@pytest.mark.parametrize(("pooling", "hidden_layer"), [("first", True), ("mean", True), ("first", False)])
def test_the_pretrained_pooler_is_where_the_head_starts(pooling, hidden_layer, batch):
    pooler = {"weight": torch.randn(6, 6), "bias": torch.randn(6)}
    config = FinetuneConfig(pooling=pooling, hidden_layer=hidden_layer, dropout=0.0)
    torch.manual_seed(1)
    head = Head(backbone(pooler=pooler), 3, config)
    torch.manual_seed(1)
    new = Head(backbone(), 3, config)
    assert torch.equal(head.output.weight, new.output.weight)
    if (pooling, hidden_layer) == ("first", True):
        hidden_TD = torch.randn(12, 6)
        pooled = torch.tanh(hidden_TD[batch.layout.starts_B] @ pooler["weight"].T + pooler["bias"])
        torch.testing.assert_close(head(Encoded(hidden_TD), batch), head.output(pooled))
        assert head.hidden[0].weight.data_ptr() != pooler["weight"].data_ptr()
    else:
        assert all(torch.equal(value, new.state_dict()[name]) for name, value in head.state_dict().items())
