"""Transformer blocks under ``torch.compile``: what lies between matrix products becomes one kernel."""

import os
import shutil
from typing import Any

import torch
from torch import nn

from sesame.configs.errors import ConfigError
from sesame.pretrain.layers.experts import SparseFeedForward

MOST_VARIANTS = 64
"""Compiled versions of one method: blocks of different shape, training and validation, other numbers of tokens."""
COMPILERS = {"cpu": ("CXX", ("g++", "clang++", "c++")), "cuda": ("CC", ("gcc", "clang", "cc"))}
"""Type of device -> variable that names the compiler that torch.compile starts, and the compilers that it looks for."""


def compile_blocks(learner: nn.Module, device: torch.device) -> int:
    """Compile the methods that a block's class names in ``compilable``, and return how many blocks there are.

    The core of attention stays as it is, because its kernel is chosen by the batch. So does the rest of a block after
    it if that has experts: how many tokens an expert gets is known only when the router has run.

    Raises:
        ConfigError: the machine has no compiler.
    """
    variable, names = COMPILERS[device.type]
    if not any(map(shutil.which, (os.environ.get(variable, ""), *names))):
        raise ConfigError(
            f"parallel.compile: torch.compile needs a compiler, and there is none of {', '.join(names)}; install one, "
            f"name it in the environment variable {variable}, or set parallel.compile = false"
        )
    torch._dynamo.config.recompile_limit = MOST_VARIANTS  # pyright: ignore[reportPrivateImportUsage]
    blocks: list[Any] = [part for part in learner.modules() if getattr(part, "compilable", ())]
    for block in blocks:
        has_experts = isinstance(block.feed_forward, SparseFeedForward)
        for method in block.compilable:
            if not (has_experts and method == "leave"):
                setattr(block, method, torch.compile(getattr(block, method)))
    return len(blocks)
