"""Conversions between a group of Sesame parameters and a group of transformers tensors."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Shapes = list[tuple[int, ...]]


class TensorConversion(NamedTuple):
    """A conversion in both directions."""

    to_hf: Callable[[list[Tensor]], list[Tensor]]
    from_hf: Callable[[list[Tensor], Shapes], list[Tensor]]
    """Takes the shapes of the Sesame parameters as second argument."""


def _transpose(value: Tensor) -> Tensor:
    return value.T if value.dim() == 2 else value


def _split(value: Tensor, shapes: Shapes) -> list[Tensor]:
    return list(value.split([shape[0] for shape in shapes]))


IDENTITY = TensorConversion(lambda ours: ours, lambda hf, shapes: hf)
TRANSPOSE = TensorConversion(lambda ours: [_transpose(ours[0])], lambda hf, shapes: [_transpose(hf[0])])
"""[out, in] in Sesame, [in, out] in transformers (GPT-2's Conv1D)."""
CONCATENATE = TensorConversion(lambda ours: [torch.cat(ours)], lambda hf, shapes: _split(hf[0], shapes))
"""Several Sesame parameters are one tensor, concatenated along dimension 0."""
CONCATENATE_TRANSPOSE = TensorConversion(
    lambda ours: [_transpose(torch.cat(ours))], lambda hf, shapes: _split(_transpose(hf[0]), shapes)
)
UNSTACK_EXPERTS = TensorConversion(
    lambda ours: [_transpose(expert) for expert in ours[0]],
    lambda hf, shapes: [torch.stack([_transpose(expert) for expert in hf])],
)
"""One parameter [E, in, out] in Sesame, E tensors [out, in] in transformers."""
