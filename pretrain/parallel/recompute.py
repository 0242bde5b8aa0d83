"""Keep a block's input only, and compute the rest again on the way back (Chen et al. 2016).

What a step must remember then grows with the number of blocks times the width, not with all that is inside of them, for
a third more computing.
"""

from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from pretrain.layers.transformer import PostNormBlock


def recompute_blocks(learner: nn.Module) -> int:
    """Let every Transformer block of ``learner`` be computed twice; how many there are.

    Dropout draws the same numbers both times, for the random state is kept with the input.
    """
    blocks = [part for part in learner.modules() if isinstance(part, PostNormBlock)]
    for block in blocks:
        forward: Any = block.forward
        block.forward = partial(checkpoint, forward, use_reentrant=False)
    return len(blocks)
