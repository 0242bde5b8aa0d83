"""The order of an epoch: a permutation of all rows, any slice of which is computed without the others.

Up to a few million rows it is a shuffled array. For more, an array would take gigabytes and minutes at every start, so
the row at each position is computed: a Feistel network is a permutation of all numbers of some bits, whatever its round
function is (Luby & Rackoff 1988), and a number outside of the rows is permuted again until it is inside (cycle walking;
Black & Rogaway 2002, section 4).
"""

import numpy as np

SHUFFLED_ROWS = 1 << 22
"""Largest number of rows whose order is a shuffled array."""
ROUNDS = 8
"""Four suffice for a pseudo-random permutation with ideal round functions; these are hashes."""


class Order:
    """The row at each position of one epoch."""

    def __init__(self, rows: int, seed: int, epoch: int):
        self.rows = rows
        # torch.randperm was visibly uneven on large inputs for years; PCG64DXSM is not.
        generator = np.random.Generator(np.random.PCG64DXSM([seed, epoch]))
        self._shuffled = generator.permutation(rows) if rows <= SHUFFLED_ROWS else None
        if self._shuffled is None:
            self._keys = generator.integers(0, 2**64, ROUNDS, dtype=np.uint64)
            bits = (rows - 1).bit_length()
            self._bits = (np.uint64(bits - bits // 2), np.uint64(bits // 2))

    def __getitem__(self, positions: slice) -> np.ndarray:
        """Return int64 rows at ``positions``, a slice without a step within the epoch."""
        if self._shuffled is not None:
            return self._shuffled[positions]
        values = self._permuted(np.arange(positions.start, positions.stop, dtype=np.uint64))
        outside = np.flatnonzero(values >= self.rows)
        while len(outside):
            values[outside] = self._permuted(values[outside])
            outside = outside[values[outside] >= self.rows]
        return values.astype(np.int64)

    def _permuted(self, values: np.ndarray) -> np.ndarray:
        """Apply the network once; the two halves swap, with their widths, in each round."""
        wide, narrow = self._bits
        left, right = values >> narrow, values & _mask(narrow)
        for key in self._keys:
            left, right = right, left ^ (_hashed(right ^ key) & _mask(wide))
            wide, narrow = narrow, wide
        return (left << narrow) | right


def _mask(bits: np.uint64) -> np.uint64:
    return (np.uint64(1) << bits) - np.uint64(1)


def _hashed(values: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser (Steele, Lea & Flood 2014): every output bit depends on every input bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
