"""Transformer blocks under ``torch.compile``: what lies between matrix products becomes one kernel."""

from typing import Any

import torch
from torch import nn

from sesame.pretrain.layers.experts import SparseFeedForward

MOST_VARIANTS = 64
"""Compiled versions of one method: blocks of different shape, training and validation, other numbers of tokens."""


def compile_blocks(learner: nn.Module) -> int:
    """Compile the methods that a block's class names in ``compilable``, and return how many blocks there are.

    The core of attention stays as it is, because its kernel is chosen by the batch. A layer with experts is left out:
    how many tokens an expert gets is known only when the router has run.
    """
    torch._dynamo.config.recompile_limit = MOST_VARIANTS  # pyright: ignore[reportPrivateImportUsage]
    blocks: list[Any] = [part for part in learner.modules() if getattr(part, "compilable", ())]
    for block in blocks:
        sparse = isinstance(block.feed_forward, SparseFeedForward)
        for method in block.compilable:
            if not (sparse and method == "leave"):
                setattr(block, method, torch.compile(getattr(block, method)))
    return len(blocks)
