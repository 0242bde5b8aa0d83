"""When a value is a spike: more than some standard deviations above the mean of those before it.

The rule of OLMo-core's ``SkipStepOptimizer`` (olmo_core/optim/skip_step_optimizer.py): 6 sample standard deviations of
the last 128 finite values, from half a window of values on. A spike enters the window as well, so a level that stays
high is soon no spike any more.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np


class Spike(NamedTuple):
    """A value that is too high, and what it was compared with."""

    value: float
    mean: float
    deviation: float
    """Standard deviation."""

    @property
    def deviations(self) -> float:
        """How many standard deviations the value is above the mean."""
        return (self.value - self.mean) / self.deviation if self.deviation else math.inf


class Window:
    """The last values of a series, which a new one is compared with."""

    def __init__(self, size: int, deviations: float, values: Iterable[float] = ()):
        """
        Args:
            size: number of values that are kept.
            deviations: standard deviations above the mean from which on a value is a spike.
            values: of before, the oldest first.
        """
        self.size, self.deviations = size, deviations
        self._values = np.zeros(size)
        self._count = 0
        for value in values:
            self.add(value)

    @property
    def values(self) -> tuple[float, ...]:
        """The values, the oldest first."""
        start = self._count % self.size if self._count > self.size else 0
        return tuple(np.roll(self._values, -start)[: min(self._count, self.size)].tolist())

    def clear(self) -> None:
        """Forget all values."""
        self._count = 0

    def add(self, value: float) -> None:
        """Add a value, in place of the oldest one if the window is full; one that is not finite is left out."""
        if math.isfinite(value):
            self._values[self._count % self.size] = value
            self._count += 1

    def spike(self, value: float) -> Spike | None:
        """Return ``value`` if it is a spike; it is not added."""
        # OLMo-core counts the value itself; of fewer than two before it there is no standard deviation.
        if self._count + 1 < max(3, self.size // 2):
            return None
        known = self._values[: min(self._count, self.size)]
        mean, deviation = float(known.mean()), float(known.std(ddof=1))
        return Spike(value, mean, deviation) if value - mean > self.deviations * deviation else None
