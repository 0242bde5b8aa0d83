"""Values for a module that was built on the meta device.

Each value depends on the parameter's name and the seed only, never on the order of construction or on the layout:
every process can draw the rows that it needs and no others, and every layout starts equal.
"""

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor, nn

Value = Callable[[str, torch.Size], Tensor]
"""(parameter name, full shape) -> its fp32 value."""

Rows = Callable[[int, int], Tensor]
"""(first, last) -> the fp32 rows ``first`` to ``last`` - 1 of a whole parameter, along its first dimension."""

BLOCK = 2**22
"""About how many values are drawn from one seed: whoever needs one row draws so many, or a row that is longer."""

InitStd = Callable[[str, torch.Size], float]
"""(parameter name, full shape) -> standard deviation of its values; a family's ``ModelConfig.init_std``."""


def random_value(seed: int, init_std: InitStd) -> Value:
    """Whole parameters: biases 0, norm weights 1, all else normal, cut off at two standard deviations (BERT's
    published code)."""

    def value(name: str, shape: torch.Size) -> Tensor:
        return random_rows(seed, name, shape, init_std)(0, shape[0])

    return value


def random_rows(seed: int, name: str, shape: torch.Size, init_std: InitStd) -> Rows:
    """The same of one parameter, of which only the rows that are asked for are drawn, and what shares a block."""
    if name.endswith("bias") or len(shape) == 1:
        constant = 0.0 if name.endswith("bias") else 1.0
        return lambda first, last: torch.full((last - first, *shape[1:]), constant)
    std, together = init_std(name, shape), max(1, BLOCK // shape[1:].numel())

    def block(number: int) -> Tensor:
        digest = hashlib.sha256(f"{seed}/{name}{f'/{number}' if number else ''}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
        rows = min(together, shape[0] - number * together)
        return nn.init.trunc_normal_(torch.empty(rows, *shape[1:]), 0.0, std, -2 * std, 2 * std, generator=generator)

    def drawn(first: int, last: int) -> Tensor:
        rows = torch.empty(last - first, *shape[1:])
        for number in range(first // together, -(-last // together)):
            start = number * together
            begin, end = max(first, start), min(last, start + together)
            rows[begin - first : end - first] = block(number)[begin - start : end - start]
        return rows

    return drawn


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
