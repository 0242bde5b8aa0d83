"""Initial values of a module that was built on the meta device.

Each value depends on the parameter's name and the seed only, not on the order of construction or on the layout: a
process can draw just the rows that it needs, and every layout starts with the same weights.
"""

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor, nn

Value = Callable[[str, torch.Size], Tensor]
"""(parameter name, whole shape) -> its fp32 value."""

Rows = Callable[[int, int], Tensor]
"""(first, last) -> the fp32 rows ``first`` to ``last`` - 1 of a whole parameter, along its first dimension."""

BLOCK = 2**22
"""Values that are drawn from one seed, in whole rows: a process that needs one row draws the whole block."""

InitStd = Callable[[str, torch.Size], float]
"""(parameter name, whole shape) -> standard deviation of its values; a family's ``ModelConfig.init_std``."""


def random_value(seed: int, init_std: InitStd) -> Value:
    """Return a function that draws whole parameters.

    Biases are 0 and norm weights 1; all others are from a normal distribution truncated at two standard deviations
    (BERT's published code).
    """

    def value(name: str, shape: torch.Size) -> Tensor:
        return random_rows(seed, name, shape, init_std)(0, shape[0])

    return value


def random_rows(seed: int, name: str, shape: torch.Size, init_std: InitStd) -> Rows:
    """Return a function that draws some rows of one parameter, the same values as :func:`random_value`."""
    if name.endswith("bias") or len(shape) == 1:
        constant = 0.0 if name.endswith("bias") else 1.0
        return lambda first, last: torch.full((last - first, *shape[1:]), constant)
    std, block_rows = init_std(name, shape), max(1, BLOCK // shape[1:].numel())

    def block(number: int) -> Tensor:
        digest = hashlib.sha256(f"{seed}/{name}{f'/{number}' if number else ''}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
        rows = min(block_rows, shape[0] - number * block_rows)
        return nn.init.trunc_normal_(torch.empty(rows, *shape[1:]), 0.0, std, -2 * std, 2 * std, generator=generator)

    def draw(first: int, last: int) -> Tensor:
        rows = torch.empty(last - first, *shape[1:])
        for number in range(first // block_rows, -(-last // block_rows)):
            start = number * block_rows
            begin, end = max(first, start), min(last, start + block_rows)
            rows[begin - first : end - first] = block(number)[begin - start : end - start]
        return rows

    return draw


def materialise(module: nn.Module, local_value: Callable[[str, nn.Parameter], Tensor]) -> None:
    """Allocate every parameter of ``module`` and set its value; tied parameters stay tied."""
    materialised: dict[int, nn.Parameter] = {}
    for path, part in module.named_modules():
        for leaf, parameter in list(part.named_parameters(recurse=False)):
            if id(parameter) not in materialised:
                name = f"{path}.{leaf}" if path else leaf
                new_parameter = nn.Parameter(local_value(name, parameter), requires_grad=parameter.requires_grad)
                vars(new_parameter).update(vars(parameter))
                materialised[id(parameter)] = new_parameter
            setattr(part, leaf, materialised[id(parameter)])
