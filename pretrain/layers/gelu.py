"""GELU by its approximation with a hyperbolic tangent (Hendrycks & Gimpel 2016)."""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from sesame.pretrain.compiled import gelu as loops
from sesame.pretrain.layers.loops import flat, use_loops


def gelu_tanh(states: Tensor) -> Tensor:
    """Return the function of each entry; torch's own takes several times as long on a CPU."""
    if not use_loops(states):
        return F.gelu(states, approximate="tanh")
    return cast(Tensor, _GeluTanh.apply(states))


class _GeluTanh(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor) -> Tensor:
        states = states.contiguous()
        ctx.save_for_backward(states)
        output = torch.empty_like(states)
        loops.gelu_tanh(flat(states), flat(output))
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (states,) = ctx.saved_tensors
        output = torch.empty_like(states)
        loops.gelu_tanh_backward(flat(gradients[0].contiguous()), flat(states), flat(output))
        return output
