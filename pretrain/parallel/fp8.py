"""Blocks whose linear layers multiply in fp8; embeddings, heads, routers and experts do not."""

from functools import partial
from typing import Any

from torch import nn

from sesame.configs.errors import ConfigError
from sesame.pretrain.layers.fp8 import MULTIPLE, fp8_linear


class UnevenSizeError(ConfigError):
    """A layer has a size that products in fp8 cannot have."""


def use_fp8(learner: nn.Module, device_type: str | None = None) -> int:
    """Let the linear layers of all Transformer blocks multiply in fp8, and return how many layers there are.

    Args:
        device_type: type of device whose products are computed; None: that of the states.

    Raises:
        UnevenSizeError: a layer has a size that a GPU cannot multiply so.
    """
    layers: dict[str, Any] = {
        f"{block_name}.{name}": part
        for block_name, block in learner.named_modules()
        if getattr(block, "compilable", ())
        for name, part in block.named_modules()
        if hasattr(part, "product")
    }
    for name, layer in layers.items():
        if any(size % MULTIPLE for size in layer.weight.shape):
            rows, columns = layer.weight.shape
            raise UnevenSizeError(
                f"parallel.fp8: {name} is {rows} x {columns} in each process, and products in fp8 need multiples of "
                f"{MULTIPLE}; change the model's shape or parallel.tensor, or set parallel.fp8 = false"
            )
        layer.product = partial(fp8_linear, device_type=device_type) if device_type else fp8_linear
    return len(layers)
