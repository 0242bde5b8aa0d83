"""Random generators by purpose and number, so that no draw depends on who works, or on what was drawn before it.

PCG64DXSM: NumPy's generator for many parallel streams; its permutations stay uniform at any size.
"""

import zlib

import numpy as np


def generator(seed: int, purpose: str, *numbers: int) -> np.random.Generator:
    """The generator of one purpose and of one part, split or pass; equal arguments give equal draws."""
    return np.random.Generator(np.random.PCG64DXSM([seed, zlib.crc32(purpose.encode()), *numbers]))
