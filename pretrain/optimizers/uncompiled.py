"""torch's optimizers without torch's compiler, which takes two seconds to load and compiles nothing here."""

import inspect
from collections.abc import Callable
from typing import Any

import torch

EXCLUDED = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")
"""Methods of every optimizer that torch excludes from compilation."""


def _step_of(optimizer: type[torch.optim.Optimizer]) -> Callable[..., Any]:
    """Return an optimizer's step without the wrapper that tells the compiler about it."""
    return torch.no_grad()(inspect.unwrap(optimizer.step))


class AdamW(torch.optim.AdamW):
    """torch's AdamW."""

    step = _step_of(torch.optim.AdamW)


class SGD(torch.optim.SGD):
    """torch's SGD."""

    step = _step_of(torch.optim.SGD)


def keep_compiler_unloaded() -> None:
    """Let an optimizer be made without loading the compiler.

    torch imports it when one of the excluded methods is first called. The function itself takes the place of the
    excluded one. Where a torch does this in another way, only the two seconds are lost.
    """
    for name in EXCLUDED:
        function = inspect.unwrap(getattr(torch.optim.Optimizer, name))
        # Where torch's wrapper looks for the excluded function.
        setattr(function, "__dynamo_disable", function)
