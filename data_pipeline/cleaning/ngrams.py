"""Runs of words as numbers, so that equal runs are found without building their text."""

import numpy as np

BASE = np.uint64(0x9E3779B97F4A7C15)


def ngram_hashes(words: np.ndarray, size: int) -> np.ndarray:
    """uint64 hash of every run of ``size`` words; none where there are fewer.

    Args:
        words: uint64 [words], equal for equal words.
    """
    if len(words) < size:
        return np.zeros(0, np.uint64)
    runs = words
    for more in range(1, size):
        runs = runs[:-1] * BASE + words[more:]
    return runs
