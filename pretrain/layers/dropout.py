"""Dropout (Srivastava et al. 2014) that draws a quarter of torch's random numbers on a CPU: 16 bits for each entry."""

import struct
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sesame.pretrain.compiled import dropout as compiled
from sesame.pretrain.layers.loops import fits_loops, flat, has_memory
from sesame.pretrain.layers.random_bits import random_bits


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
    function = _LoopDropout if fits_loops(states) else _CpuDropout
    return cast(Tensor, function.apply(states, probability))


class _LoopDropout(torch.autograd.Function):
    """The same numbers as below in one pass over the states, with a mask of one byte for each entry. In a trace
    (``pretrain/planning``) tensors have no memory, and only their sizes matter."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, probability: float) -> Tensor:
        states = states.contiguous()
        output, kept = torch.empty_like(states), torch.empty_like(states, dtype=torch.uint8)
        ctx.save_for_backward(kept)
        ctx.scale = _scale(probability, states.dtype)
        if has_memory(states):
            bits = random_bits(states.numel(), loops=True)
            compiled.drop(flat(states), bits.numpy(), _least(probability), ctx.scale, flat(output), flat(kept))
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        gradient, (kept,) = gradients[0].contiguous(), ctx.saved_tensors
        output = torch.empty_like(gradient)
        if has_memory(gradient):
            compiled.scale_kept(flat(gradient), flat(kept), ctx.scale, flat(output))
        return output, None


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
    # Compared in place: a comparison that returns bool is not vectorized, nor is the conversion of bool.
    kept = random_bits(shape.numel(), loops=False).view(shape).ge_(int(_least(probability)))
    if dtype.itemsize == 2:
        return kept.mul_(_bits(1 / (1 - probability), dtype)).view(dtype)
    return kept.to(dtype).mul_(1 / (1 - probability))


def _least(probability: float) -> np.int16:
    """Return the least value of 16 random bits that keeps an entry."""
    return np.int16(min(round(probability * 2**16), 2**16 - 1) - 2**15)


def _scale(probability: float, dtype: torch.dtype) -> np.float32:
    """Return 1 / (1 - probability), rounded to ``dtype``."""
    scale = 1 / (1 - probability)
    return np.float32(scale) if dtype == torch.float32 else np.uint32(_bits(scale, dtype) << 16).view(np.float32)


def _bits(value: float, dtype: torch.dtype) -> int:
    """Return ``value`` in a format of 16 bits, which are read as an integer; without a tensor, which may have no value
    (``pretrain/planning``)."""
    if dtype == torch.float16:
        return struct.unpack("<h", struct.pack("<e", value))[0]
    bits = struct.unpack("<i", struct.pack("<f", value))[0]
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
