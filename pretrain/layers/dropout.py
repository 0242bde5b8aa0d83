"""Dropout (Srivastava et al. 2014) that draws a quarter of torch's random numbers on a CPU: 16 bits for each entry."""

import struct
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Dropout(nn.Dropout):
    """torch's module with the function below."""

    def forward(self, input: Tensor) -> Tensor:
        return dropout(input, self.p) if self.training else input


def dropout(states: Tensor, probability: float) -> Tensor:
    """Drop entries and scale up the others; on a CPU the probability is rounded to a multiple of 2^-16."""
    if probability == 0.0:
        return states
    if states.device.type != "cpu" or torch.compiler.is_compiling():
        return F.dropout(states, probability)
    return cast(Tensor, _CpuDropout.apply(states, probability))


class _CpuDropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, probability: float) -> Tensor:
        factors = _factors(states.shape, states.dtype, probability)
        ctx.save_for_backward(factors)
        return states * factors

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.saved_tensors[0], None


def _factors(shape: torch.Size, dtype: torch.dtype, probability: float) -> Tensor:
    """Return 0 for each entry that is dropped, 1 / (1 - probability) for the others."""
    entries = shape.numel()
    random_bits = torch.empty(-(-entries // 4), dtype=torch.int64).random_(-(2**63), None)
    # Compared in place: a comparison that returns bool is not vectorized, nor is the conversion of bool.
    kept = random_bits.view(torch.int16)[:entries].view(shape).ge_(round(probability * 2**16) - 2**15)
    if dtype.itemsize == 2:
        return kept.mul_(_bits(1 / (1 - probability), dtype)).view(dtype)
    return kept.to(dtype).mul_(1 / (1 - probability))


def _bits(value: float, dtype: torch.dtype) -> int:
    """Return ``value`` in a format of 16 bits, which are read as an integer; without a tensor, which may have no value
    (``pretrain/planning``)."""
    if dtype == torch.float16:
        return struct.unpack("<h", struct.pack("<e", value))[0]
    bits = struct.unpack("<i", struct.pack("<f", value))[0]
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
