"""Random bits of torch's generator for a CPU."""

import numpy as np
import torch
from torch import Tensor

from sesame.pretrain.compiled.random_bits import WORDS, draw_pairs

LEFT, NEXT, STATE = slice(8, 12), slice(16, 24), slice(24, 24 + 8 * WORDS)
"""Bytes of the generator's state (``CPUGeneratorImplState`` of torch) with the words left of a round plus one,
the number of the next word, and the words."""


def random_bits(entries: int, *, loops: bool) -> Tensor:
    """Return int16 [entries] of random bits, and advance the generator: the same with and without loops.

    Args:
        loops: draw with a loop of ``pretrain/compiled``.
    """
    quarters = -(-entries // 4)
    if not loops:
        return torch.empty(quarters, dtype=torch.int64).random_(-(2**63), None).view(torch.int16)[:entries]
    state = torch.default_generator.get_state()
    parts = state.numpy()
    left, following, words = parts[LEFT].view(np.int32), parts[NEXT].view(np.uint64), parts[STATE].view(np.uint64)
    bits = torch.empty(4 * quarters, dtype=torch.int16)
    current = words.astype(np.uint32)
    used = draw_pairs(current, WORDS if left[0] == 1 else int(following[0]), bits.numpy().view(np.uint32))
    words[:], left[0], following[0] = current, WORDS + 1 - used, used
    torch.default_generator.set_state(state)
    return bits[:entries]
