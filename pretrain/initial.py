"""Values for a module that was built on the meta device.

Each value depends on the parameter's name and the seed only, never on the order of construction or on the layout:
every process can make its own part, and every layout starts equal.
"""

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor, nn

Value = Callable[[str, torch.Size], Tensor]
"""(parameter name, full shape) -> its fp32 value."""


Deviation = Callable[[str, torch.Size], float]
"""(parameter name, full shape) -> standard deviation of its values; a family's ``ModelConfig.deviation``."""


def random_value(seed: int, deviation: Deviation) -> Value:
    """Biases 0, norm weights 1, all else normal with its deviation, cut off at two of them (BERT's published code)."""

    def value(name: str, shape: torch.Size) -> Tensor:
        if name.endswith("bias"):
            return torch.zeros(shape)
        if len(shape) == 1:
            return torch.ones(shape)
        digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
        std = deviation(name, shape)
        return nn.init.trunc_normal_(torch.empty(shape), 0.0, std, -2 * std, 2 * std, generator=generator)

    return value


def materialise(module: nn.Module, local_value: Callable[[str, nn.Parameter], Tensor]) -> None:
    """Give every parameter of ``module`` memory and its value; a parameter held twice (tied) stays one."""
    made: dict[int, nn.Parameter] = {}
    for path, part in module.named_modules():
        for leaf, parameter in list(part.named_parameters(recurse=False)):
            if id(parameter) not in made:
                name = f"{path}.{leaf}" if path else leaf
                fresh = nn.Parameter(local_value(name, parameter), requires_grad=parameter.requires_grad)
                vars(fresh).update(vars(parameter))
                made[id(parameter)] = fresh
            setattr(part, leaf, made[id(parameter)])
