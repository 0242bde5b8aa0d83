"""Random numbers for the compiled loops (SplitMix64, Steele et al. 2014)."""

import numpy as np

from sesame.data_pipeline.compiled import compiled

STEP, FIRST, SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
"""Constants of SplitMix64."""
ZERO, ONE, WORD = np.uint64(0), np.uint64(1), np.uint64(64)


@compiled
def random_bits(state):
    """Return 64 random bits and advance ``state``, uint64 [1]."""
    state[0] += STEP
    mixed = state[0]
    mixed = (mixed ^ (mixed >> np.uint64(30))) * FIRST
    mixed = (mixed ^ (mixed >> np.uint64(27))) * SECOND
    return mixed ^ (mixed >> np.uint64(31))


@compiled
def uniform(state):
    """Return a uniform number in [0, 1)."""
    return np.int64(random_bits(state) >> np.uint64(11)) * 2.0**-53


@compiled
def uniform_integer(first, last, state):
    """Return a uniform integer of first ... last - 1; its bias is below 2**-53 times the range."""
    return first + np.int64(uniform(state) * (last - first))


@compiled
def count_heads(tosses, state):
    """Return the number of heads among fair coin tosses."""
    count = 0
    while tosses > 0:
        coins = random_bits(state)
        if tosses < 64:
            coins >>= WORD - np.uint64(tosses)
        while coins != ZERO:
            coins &= coins - ONE
            count += 1
        tosses -= 64
    return count
