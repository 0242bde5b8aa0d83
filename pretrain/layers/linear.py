"""A linear layer whose bias a CPU adds within the matrix product in bf16, and whose product can be another one."""

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sesame.pretrain.layers.loops import PLAIN
from sesame.pretrain.precision import of_device

Product = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""(states, weight, bias) -> states @ weight^T + bias."""


def linear(states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return states @ weight^T + bias. In bf16 on a CPU that multiplies it in hardware, torch copies the bias to every
    row of the output and adds the product to that; oneDNN's own linear layer adds it before it writes."""
    if bias is None or not _is_fused(states, weight):
        return F.linear(states, weight, bias)
    return cast(Tensor, _FusedBias.apply(states, weight, bias))


def _is_fused(states: Tensor, weight: Tensor) -> bool:
    return (
        states.device.type == "cpu"
        and states.dtype == weight.dtype == torch.bfloat16
        and states.dim() == 2
        and states.numel() > 0
        and type(states) in PLAIN
        and not torch.compiler.is_compiling()
        and of_device(states.device).name == "bf16"
    )


class Linear(nn.Linear):
    """torch's module with the function above."""

    product: Product = staticmethod(linear)
    """A module may have another (``parallel.fp8``)."""

    def forward(self, input: Tensor) -> Tensor:
        return self.product(input, self.weight, self.bias)


class _FusedBias(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states_TD: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(states_TD, weight)
        return torch.ops.mkldnn._linear_pointwise(states_TD, weight, bias, "none", [], "")

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,), (states_TD, weight) = gradients, ctx.saved_tensors
        of_states, of_weight, of_bias = ctx.needs_input_grad
        return (
            gradient @ weight if of_states else None,
            gradient.t() @ states_TD if of_weight else None,
            gradient.sum(0) if of_bias else None,
        )
