"""How a model knows where a token stands: rotary angles, and T5's learned bias by distance.

Learned position vectors are a plain ``nn.Embedding`` of the family.
"""

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

Angles = tuple[Tensor, Tensor]
"""Cosines and sines of rotary positions."""


def rotary(positions_T: Tensor, head_width: int, base: float, dtype: torch.dtype) -> Angles:
    """Rotary position embedding (Su et al. 2021, section 3.4.2): dimension pairs of query and key are turned by an
    angle that grows with the position, so that their product depends on the distance alone.

    (cosines, sines), each [T, 1, K / 2]; made once for a batch and shared by its layers.
    """
    exponent = torch.arange(0, head_width, 2, device=positions_T.device) / head_width
    angle = positions_T[:, None].float() * base**-exponent
    return angle.cos().to(dtype)[:, None], angle.sin().to(dtype)[:, None]


class Turn(torch.autograd.Function):
    """Turn each pair (i, i + K / 2) of every head by its angle; the gradient is turned back by the same angle."""

    @staticmethod
    def forward(ctx: Any, states_THK: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        ctx.save_for_backward(cosines, sines)
        return _turned(states_THK, cosines, sines)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        cosines, sines = ctx.saved_tensors
        return _turned(gradients[0], cosines, -sines), None, None


def apply_rotary(states_THK: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """[T, H, K] -> the same, each head turned by the angle of its token's position."""
    return cast(Tensor, Turn.apply(states_THK, cosines, sines))


def _turned(states_THK: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    turned_THK = torch.empty_like(states_THK)
    (left, right), (new_left, new_right) = states_THK.chunk(2, dim=-1), turned_THK.chunk(2, dim=-1)
    torch.mul(left, cosines, out=new_left).addcmul_(right, sines, value=-1)
    torch.mul(right, cosines, out=new_right).addcmul_(left, sines)
    return turned_THK


class RelativePositionBias(nn.Module):
    """A learned number for each head and bucket of distances, added to the attention scores (T5, section 2.1).

    Half of the buckets hold one distance each, the others ever longer ranges up to ``longest_distance``.
    """

    def __init__(self, buckets: int, longest_distance: int, heads: int, bidirectional: bool):
        super().__init__()
        self.buckets, self.longest_distance, self.heads = buckets, longest_distance, heads
        self.bidirectional = bidirectional
        self.weight = nn.Parameter(torch.empty(buckets, heads))

    def forward(self, length: int) -> Tensor:
        """[H, L, L]: query position, then key position."""
        places = torch.arange(length, device=self.weight.device)
        buckets_LL = self.bucket(places[None, :] - places[:, None])
        # Contiguous, because fused kernels take a mask whose last dimension is dense.
        return self.weight[buckets_LL].permute(2, 0, 1).contiguous()

    def bucket(self, distance: Tensor) -> Tensor:
        """int64 bucket of each distance (key position - query position), as in T5's published code."""
        count = self.buckets // 2 if self.bidirectional else self.buckets
        offset = (distance > 0).long() * count if self.bidirectional else torch.zeros_like(distance)
        distance = distance.abs() if self.bidirectional else (-distance).clamp(min=0)
        exact = count // 2
        ratio = torch.log(distance.clamp(min=1).float() / exact) / math.log(self.longest_distance / exact)
        ranged = (exact + (ratio * (count - exact)).long()).clamp(max=count - 1)
        return offset + torch.where(distance < exact, distance, ranged)
