"""Hashes of word n-grams, which find equal n-grams without building their text."""

import numpy as np

BASE = np.uint64(0x9E3779B97F4A7C15)


def ngram_hashes(words: np.ndarray, size: int) -> np.ndarray:
    """Return uint64 [words - size + 1]: the hash of every n-gram of ``size`` words; empty if there are fewer words.

    Args:
        words: uint64 [words], equal for equal words.
    """
    if len(words) < size:
        return np.zeros(0, np.uint64)
    hashes = words
    for position in range(1, size):
        hashes = hashes[:-1] * BASE + words[position:]
    return hashes
