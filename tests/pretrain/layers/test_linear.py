"""The linear layer that adds its bias within the product, against torch's."""

import pytest
import torch
import torch.nn.functional as F

from sesame.pretrain import precision
from sesame.pretrain.layers import linear
from sesame.pretrain.layers.linear import Linear
from sesame.pretrain.precision import Precision


def outputs(layer: Linear, states: torch.Tensor, upstream: torch.Tensor) -> list[torch.Tensor]:
    inputs = [states.clone().requires_grad_(), *layer.parameters()]
    output = layer(inputs[0])
    return [output.detach(), *torch.autograd.grad(output, inputs, upstream)]


@pytest.mark.skipif(precision.of_device(torch.device("cpu")).name != "bf16", reason="needs a processor with bf16")
def test_it_is_torchs_layer_in_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = Linear(48, 40).bfloat16()
    states, upstream = torch.randn(33, 48).bfloat16(), torch.randn(33, 40).bfloat16()
    calls = []
    operator = torch.ops.mkldnn._linear_pointwise
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", lambda *each: calls.append(1) or operator(*each))
    fused = outputs(layer, states, upstream)
    assert calls, "oneDNN's layer was not used"
    monkeypatch.setattr(linear, "of_device", lambda device: Precision("fp32", "test"))
    plain = outputs(layer, states, upstream)
    assert len(calls) == 1
    for ours, torchs in zip(fused, plain, strict=True):
        # Both sum in fp32 and round once.
        torch.testing.assert_close(ours, torchs, rtol=2**-7, atol=2**-9)


@pytest.mark.parametrize("shape", [(5, 48), (2, 5, 48), (48,)])
def test_other_formats_and_shapes_are_torchs(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", None)
    layer = Linear(48, 40)
    states = torch.randn(shape)
    assert torch.equal(layer(states), F.linear(states, layer.weight, layer.bias))
    if len(shape) != 2:
        assert layer.bfloat16()(states.bfloat16()).shape == (*shape[:-1], 40)
