"""Linear layers whose matrix products have operands in fp8.

Activations and weights are rounded to E4M3, which has 3 bits of mantissa, and gradients to E5M2, which has 2 and more
range; sums are in fp32 and results in bf16 (Micikevicius et al. 2022, FP8 Formats for Deep Learning, section 3). An
operand is first multiplied by the power of two that brings its largest entry to the format's largest: nothing
overflows, and only the second step rounds, so that entries which do not become subnormal are rounded alike however a
tensor is divided over processes and micro-batches. There is no state, and so nothing in checkpoints.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

MULTIPLE = 16
"""Sizes that the products of a GPU can have (cuBLAS)."""
SMALLEST = 2.0**-100
"""Largest entry below which tensors are not scaled further, so that the scale is finite."""
EXPONENT_BITS = 0x7F800000
"""Of a number in fp32."""


def fp8_linear(
    states_TD: Tensor, weight_ED: Tensor, bias_E: Tensor | None, *, device_type: str | None = None
) -> Tensor:
    """Return states @ weight^T + bias; everything that is given and returned is in bf16.

    Args:
        device_type: key of ``PRODUCTS``; None: the type of the states' device.
    """
    return cast(Tensor, _Fp8Linear.apply(states_TD, weight_ED, bias_E, device_type or states_TD.device.type))


class _Rounded(NamedTuple):
    """An operand."""

    values: Tensor
    """In fp8, contiguous."""
    unscale: Tensor
    """The fp32 number by which they are multiplied to undo their scale."""

    @property
    def turned(self) -> "_Rounded":
        """The transposed operand, contiguous too."""
        return _Rounded(self.values.t().contiguous(), self.unscale)


class _Fp8Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states_TD: Tensor, weight_ED: Tensor, bias_E: Tensor | None, device_type: str) -> Tensor:
        ctx.product = PRODUCTS[device_type]
        # Not in fp8: several layers read the same states, sequence parallelism gathers them again, and under ZeRO 3 no
        # weights are kept.
        ctx.save_for_backward(states_TD, weight_ED)
        states, weight = (_rounded(each, torch.float8_e4m3fn) for each in (states_TD, weight_ED))
        return ctx.product(states, weight, bias_E, is_fast=True)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient_TE,), (states_TD, weight_ED) = gradients, ctx.saved_tensors
        needs_states, needs_weight, needs_bias, _ = ctx.needs_input_grad
        gradient = _rounded(_padded(gradient_TE), torch.float8_e5m2)
        of_states = of_weight = None
        if needs_states:
            of_states = ctx.product(gradient, _rounded(weight_ED, torch.float8_e4m3fn).turned)[: len(states_TD)]
        if needs_weight:
            of_weight = ctx.product(gradient.turned, _rounded(_padded(states_TD), torch.float8_e4m3fn).turned)
        return of_states, of_weight, gradient_TE.sum(0) if needs_bias else None, None


def _rounded(tensor: Tensor, format: torch.dtype) -> _Rounded:
    """Scale and round; what is not finite stays so, or makes everything NaN."""
    largest = torch.linalg.vector_norm(tensor, torch.inf, dtype=torch.float32)
    ratio = torch.finfo(format).max / largest.clamp(min=SMALLEST)
    scale = (ratio.view(torch.int32) & EXPONENT_BITS).view(torch.float32)
    return _Rounded((tensor * scale).to(format).contiguous(), scale.reciprocal())


def _padded(tensor: Tensor) -> Tensor:
    """Return a tensor with rows of zeros, up to a number of rows that a GPU can sum over."""
    missing = -len(tensor) % MULTIPLE
    return F.pad(tensor, (0, 0, 0, missing)) if missing else tensor


def _scaled_product(rows: _Rounded, columns: _Rounded, bias: Tensor | None = None, *, is_fast: bool = False) -> Tensor:
    """Return rows @ columns^T, the only layout that Hopper multiplies in fp8.

    Args:
        is_fast: sum with the 14 bits of Hopper's tensor cores, which are enough for the forward pass.
    """
    return torch._scaled_mm(
        rows.values,
        columns.values.t(),
        scale_a=rows.unscale,
        scale_b=columns.unscale,
        bias=bias,
        out_dtype=torch.bfloat16,
        use_fast_accum=is_fast,
    )


def _emulated_product(
    rows: _Rounded, columns: _Rounded, bias: Tensor | None = None, *, is_fast: bool = False
) -> Tensor:
    """The same in fp32, which has all bits of such products; torch's operator needs instructions that CPUs may lack."""
    product = (rows.values.float() @ columns.values.float().t()) * (rows.unscale * columns.unscale)
    return (product if bias is None else product + bias.float()).to(torch.bfloat16)


PRODUCTS: dict[str, Callable[..., Tensor]] = {"cuda": _scaled_product, "cpu": _emulated_product}
"""By type of device."""
