"""Projections that are computed as one product equal projections that are called one by one."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sesame.pretrain.data.packing import layout, layout_like
from sesame.pretrain.layers import joined_linear
from sesame.pretrain.layers.attention import Attention, AttentionPattern
from sesame.pretrain.layers.style import Style


def outputs(attention: Attention, inputs: list[torch.Tensor], pattern: AttentionPattern) -> list[torch.Tensor]:
    """Return the output and the gradients of inputs and parameters."""
    output = attention(inputs[0], pattern, *inputs[1:])
    return [output, *torch.autograd.grad(output.square().sum(), [*inputs, *attention.parameters()])]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("crosses", [False, True])
def test_joined_projections_equal_separate_ones(bias: bool, crosses: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    attention = Attention(24, 3, Style(bias=bias)).double()
    queries = layout(np.array([5, 9, 9]))
    keys = layout_like(queries, np.array([7, 4, 3])) if crosses else queries
    inputs = [torch.randn(23, 24, dtype=torch.float64, requires_grad=True)]
    if crosses:
        inputs.append(torch.randn(14, 24, dtype=torch.float64, requires_grad=True))
    pattern = AttentionPattern(queries, keys)
    calls: list[Any] = []
    for projection in (attention.query, attention.key, attention.value):
        projection.register_forward_hook(lambda *_: calls.append(1))
    separate = outputs(attention, inputs, pattern)
    assert len(calls) == 3
    monkeypatch.setattr(joined_linear, "JOINED_ON", {"cpu"})
    joined = outputs(attention, inputs, pattern)
    assert len(calls) == (4 if crosses else 3), "joined projections are not called"
    for left, right in zip(separate, joined, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)


def test_layers_of_other_classes_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joined_linear, "JOINED_ON", {"cpu"})

    class Split(nn.Linear):
        """Stands for a layer that is split over processes."""

    layers = [Split(4, 4), nn.Linear(4, 4)]
    states = torch.randn(3, 4)
    calls: list[Any] = []
    layers[0].register_forward_hook(lambda *_: calls.append(1))
    for output, layer in zip(joined_linear.joined_linear(states, layers), layers, strict=True):
        torch.testing.assert_close(output, nn.functional.linear(states, layer.weight, layer.bias))
    assert calls
