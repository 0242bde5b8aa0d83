"""Position information: rotary position embedding, and T5's learned bias by relative position.

Learned position embeddings are a plain ``nn.Embedding`` of the backbone.
"""

import math
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from sesame.pretrain.compiled.rotation import rotate
from sesame.pretrain.layers.loops import array, use_loops

Angles = tuple[Tensor, Tensor]
"""Cosines and sines of rotary positions."""


def rotary(positions_T: Tensor, head_width: int, base: float, dtype: torch.dtype) -> Angles:
    """Rotary position embedding (Su et al. 2021, section 3.4.2): pairs of dimensions of query and key are rotated by an
    angle proportional to the position, so that their product depends on the distance alone.

    Returns:
        (cosines, sines), each [T, 1, K / 2]; computed once for a batch and shared by its layers.
    """
    exponent = torch.arange(0, head_width, 2, device=positions_T.device) / head_width
    angle = positions_T[:, None].float() * base**-exponent
    return angle.cos().to(dtype)[:, None], angle.sin().to(dtype)[:, None]


class _Rotate(torch.autograd.Function):
    """Rotate each pair (i, i + K / 2) of every head by its angle, and the gradient by the negative angle."""

    @staticmethod
    def forward(ctx: Any, states_THK: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        ctx.save_for_backward(cosines, sines)
        return _rotate(states_THK, cosines, sines, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        cosines, sines = ctx.saved_tensors
        return _rotate(gradients[0], cosines, sines, -1), None, None


def apply_rotary(states_THK: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotate each head of [T, H, K] by the angle of its token's position."""
    if torch.compiler.is_compiling():
        # The compiler makes one kernel of the formula, but does not know outputs that are parts of a tensor.
        left, right = states_THK.chunk(2, dim=-1)
        return torch.cat([left * cosines - right * sines, right * cosines + left * sines], -1)
    return cast(Tensor, _Rotate.apply(states_THK, cosines, sines))


def _rotate(states_THK: Tensor, cosines: Tensor, sines: Tensor, direction: int) -> Tensor:
    """Rotate by the angles times ``direction``, 1 or -1."""
    if use_loops(states_THK, cosines, sines):
        states_THK = states_THK.contiguous()
        rotated_THK = torch.empty_like(states_THK)
        pairs, output = (array(each.unflatten(-1, (2, -1))) for each in (states_THK, rotated_THK))
        rotate(pairs, array(cosines.squeeze(1)), array(sines.squeeze(1)), np.float32(direction), output)
        return rotated_THK
    rotated_THK = torch.empty_like(states_THK)
    (left, right), (new_left, new_right) = states_THK.chunk(2, dim=-1), rotated_THK.chunk(2, dim=-1)
    torch.mul(left, cosines, out=new_left).addcmul_(right, sines, value=-direction)
    torch.mul(right, cosines, out=new_right).addcmul_(left, sines, value=direction)
    return rotated_THK


class RelativePositionBias(nn.Module):
    """A learned scalar for each head and bucket of distances, added to the attention scores (T5, section 2.1).

    Half of the buckets are one distance each, the others logarithmic ranges up to ``longest_distance``.
    """

    def __init__(self, buckets: int, longest_distance: int, heads: int, bidirectional: bool):
        super().__init__()
        self.buckets, self.longest_distance, self.heads = buckets, longest_distance, heads
        self.bidirectional = bidirectional
        self.weight = nn.Parameter(torch.empty(buckets, heads))

    def forward(self, length: int) -> Tensor:
        """Return [H, L, L]: head, query position, key position."""
        positions = torch.arange(length, device=self.weight.device)
        buckets_LL = self.bucket(positions[None, :] - positions[:, None])
        # Fused kernels require a mask whose last dimension is contiguous.
        return self.weight[buckets_LL].permute(2, 0, 1).contiguous()

    def bucket(self, distance: Tensor) -> Tensor:
        """Return the int64 bucket of each distance (key position - query position), as in T5's published code."""
        count = self.buckets // 2 if self.bidirectional else self.buckets
        offset = (distance > 0).long() * count if self.bidirectional else torch.zeros_like(distance)
        distance = distance.abs() if self.bidirectional else (-distance).clamp(min=0)
        exact = count // 2
        ratio = torch.log(distance.clamp(min=1).float() / exact) / math.log(self.longest_distance / exact)
        ranged = (exact + (ratio * (count - exact)).long()).clamp(max=count - 1)
        return offset + torch.where(distance < exact, distance, ranged)
