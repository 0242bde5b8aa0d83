"""Several linear layers of one input as a single matrix product; their parameters stay apart."""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sesame.pretrain.layers.linear import Linear

PLAIN_LAYERS = {nn.Linear, Linear}
"""Layers that are their product and bias, and nothing else."""
JOINED_ON = {"cuda"}
"""Types of devices on which one product of 3,072 columns is faster than three of 1,024; a CPU is up to a tenth slower,
because it copies the weights."""


def joined_linear(
    states_TD: Tensor, layers: Sequence[nn.Module], *, joins: bool = True, device_type: str | None = None
) -> tuple[Tensor, ...]:
    """Return the output of each layer, computed as one product if all are ``PLAIN_LAYERS``.

    Args:
        joins: False: call the layers one by one.
        device_type: key of the table above; None: the type of the states' device.
    """
    is_joined = joins and (device_type or states_TD.device.type) in JOINED_ON
    if not is_joined or any(type(layer) not in PLAIN_LAYERS for layer in layers):
        return tuple(layer(states_TD) for layer in layers)
    linears = cast(Sequence[nn.Linear], layers)
    biases: list[Tensor] = [layer.bias for layer in linears if layer.bias is not None]
    weights: list[Tensor] = [layer.weight for layer in linears]
    product = getattr(layers[0], "product", F.linear)
    output = product(states_TD, torch.cat(weights), torch.cat(biases) if biases else None)
    return output.split([layer.out_features for layer in linears], -1)
