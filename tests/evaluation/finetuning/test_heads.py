"""Poolings compared with a loop over the sequences, and the initial values of heads."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from sesame.evaluation.finetune_config import FinetuneConfig
from sesame.evaluation.finetuning.heads import HEAD_LAYER, POOLINGS, Head, Mixture
from sesame.pretrain.batch import Batch
from sesame.pretrain.data.packing import pack
from sesame.pretrain.roles import Encoded

LENGTHS, FIRSTS = [3, 5, 4], [2, 2, 4]


def stub_backbone(**changes: Any) -> Any:
    return SimpleNamespace(**{"width": 6, "pooling": "first", "mixed_layers": 0, "pooler": {}, **changes})


@pytest.fixture
def batch() -> Batch:
    sequences = [np.arange(length) for length in LENGTHS]
    return pack(sequences, FIRSTS, first_lengths=np.array(FIRSTS))


def test_poolings(batch: Batch) -> None:
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
def test_every_head_has_outputs_and_a_gradient_for_each_pooled_token(
    pooling: Any, hidden_layer: bool, batch: Batch
) -> None:
    config = FinetuneConfig(pooling=pooling, hidden_layer=hidden_layer, dropout=0.0)
    hidden_TD = torch.randn(12, 6, requires_grad=True)
    outputs = Head(stub_backbone(), 3, config)(Encoded(hidden_TD), batch)
    assert outputs.shape == (3, 3)
    outputs.square().sum().backward()
    assert hidden_TD.grad is not None
    touched = hidden_TD.grad.abs().sum(-1) > 0
    assert touched.sum() == (3 if pooling in ("first", "last") else 12)


@pytest.mark.parametrize("pooling", ["first", "last", "mean"])
def test_auto_is_the_pooling_of_the_family(pooling: Any, batch: Batch) -> None:
    torch.manual_seed(1)
    auto = Head(stub_backbone(pooling=pooling), 3, FinetuneConfig(pooling="auto"))
    torch.manual_seed(1)
    named = Head(stub_backbone(), 3, FinetuneConfig(pooling=pooling))
    encoded = Encoded(torch.randn(12, 6))
    assert torch.equal(auto.eval()(encoded, batch), named.eval()(encoded, batch))


def test_a_mixture_is_gamma_times_the_weighted_mean_and_has_gradients(batch: Batch) -> None:
    mixture = Mixture(3)
    layers = tuple(torch.randn(12, 6) for _ in range(3))
    torch.testing.assert_close(mixture(layers), torch.stack(layers).mean(0))
    with torch.no_grad():
        mixture.weights.copy_(torch.tensor([0.0, 1.0, 2.0]).log())
        mixture.gamma.fill_(5.0)
    torch.testing.assert_close(mixture(layers), 5 * (layers[1] / 3 + layers[2] * 2 / 3))
    head = Head(stub_backbone(mixed_layers=3), 2, FinetuneConfig(dropout=0.0))
    head(Encoded(torch.full((12, 6), torch.nan), layers=layers), batch).sum().backward()
    weights, gamma = (head.get_parameter(f"mixture.{name}").grad for name in ("weights", "gamma"))
    assert weights is not None and weights.abs().min() > 0 and gamma is not None and gamma != 0


@pytest.mark.parametrize(("pooling", "hidden_layer"), [("first", True), ("mean", True), ("first", False)])
def test_the_head_is_initialized_from_the_pretrained_pooler(pooling: Any, hidden_layer: bool, batch: Batch) -> None:
    pooler = {"weight": torch.randn(6, 6), "bias": torch.randn(6)}
    config = FinetuneConfig(pooling=pooling, hidden_layer=hidden_layer, dropout=0.0)
    torch.manual_seed(1)
    head = Head(stub_backbone(pooler=pooler), 3, config)
    torch.manual_seed(1)
    new = Head(stub_backbone(), 3, config)
    assert torch.equal(head.output.weight, new.output.weight)
    if (pooling, hidden_layer) == ("first", True):
        hidden_TD = torch.randn(12, 6)
        pooled = torch.tanh(hidden_TD[batch.layout.starts_B] @ pooler["weight"].T + pooler["bias"])
        torch.testing.assert_close(head(Encoded(hidden_TD), batch), head.output(pooled))
        assert head.get_parameter("hidden.0.weight").data_ptr() != pooler["weight"].data_ptr()
    else:
        assert all(torch.equal(value, new.state_dict()[name]) for name, value in head.state_dict().items())


def test_a_pretrained_pooler_reads_its_input_without_dropout(batch: Batch) -> None:
    """As in BERT; a new hidden layer has dropout before it, as in RoBERTa."""
    weights = {"weight": torch.eye(6), "bias": torch.zeros(6)}
    config, hidden_TD = FinetuneConfig(pooling="first", dropout=0.5), torch.randn(12, 6)
    for pooler, is_dropped in ((weights, False), ({}, True)):
        head = Head(stub_backbone(pooler=pooler), 3, config).train()
        read: list[torch.Tensor] = []

        def keep(_: Any, given: tuple[torch.Tensor, ...], read: list[torch.Tensor] = read) -> None:
            read.append(given[0])

        head.get_submodule(HEAD_LAYER).register_forward_pre_hook(keep)
        head(Encoded(hidden_TD), batch)
        expected = POOLINGS["first"][0](hidden_TD, batch)
        assert torch.equal(read[0], expected) != is_dropped
