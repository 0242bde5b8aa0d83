"""Activation recomputation (Chen et al. 2016): keep a part's input only and run it again in the backward pass.

A whole block keeps its input, the number of tokens times the width. The core of attention keeps queries, keys and
values, and saves what grows with the square of the length (Korthikanti et al. 2022, section 5).
"""

from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint


def recompute_parts(learner: nn.Module, kind: str) -> int:
    """Recompute every module whose class declares ``recomputable = kind``, and return how many there are.

    Dropout draws the same numbers both times, because the random state is saved with the input.
    """
    parts = [part for part in learner.modules() if getattr(part, "recomputable", None) == kind]
    for part in parts:
        forward: Any = part.forward
        part.forward = partial(checkpoint, forward, use_reentrant=False)
    return len(parts)
