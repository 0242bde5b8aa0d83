"""What is wrong with a step, by its losses and its gradient norm."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from sesame.pretrain.watch.config import WatchConfig
from sesame.pretrain.watch.events import Action, Kind
from sesame.pretrain.watch.spikes import Spike, Window

JUMP = 0.01
"""Change of the objectives' weights from one step to the next, relative to their sum, after which the loss is another
one. What changes less in a step, along a line, is followed by the windows."""


class MicroBatch(NamedTuple):
    """One micro-batch of a step."""

    number: int
    """In its process."""
    data_rank: int

    @classmethod
    def of_largest(cls, values_AR: np.ndarray) -> "MicroBatch":
        """Return that with the largest of [micro-batches of a process, data-parallel processes] values."""
        number, rank = np.unravel_index(int(values_AR.argmax()), values_AR.shape)
        return cls(int(number), int(rank))


class Finding(NamedTuple):
    """The first thing that is wrong with a step."""

    kind: Kind
    value: float
    micro_batch: MicroBatch | None
    """None if it is not known."""
    spike: Spike | None = None

    @property
    def is_gradient(self) -> bool:
        """Whether losses do not show which micro-batch it was."""
        return self.kind in ("non_finite_gradient", "gradient_spike")

    def action(self, config: WatchConfig) -> Action:
        """Return what is done about it."""
        return config.spike if self.spike is not None else config.non_finite

    @property
    def description(self) -> str:
        """What it is, without the step and the place."""
        name = "gradient norm" if self.is_gradient else "loss"
        if self.spike is None:
            return f"{name} is {self.value}"
        deviations, mean = self.spike.deviations, self.spike.mean
        return f"{name} {self.value:.4g} is {deviations:.1f} standard deviations above the mean {mean:.4g} of before"


class Watcher:
    """Compares each step with those before it; every process sees the same numbers, so all find the same."""

    def __init__(self, config: WatchConfig):
        self.losses = Window(config.window, config.deviations)
        self.gradient_norms = Window(config.window, config.deviations)
        self.weights: Mapping[str, float] = {}
        """Of the objectives, in the last step."""

    def set_weights(self, weights: Mapping[str, float]) -> None:
        """Set the weights of the objectives in a step; if they jump, the steps before are no measure of it."""
        change = sum(abs(weight - self.weights.get(name, 0.0)) for name, weight in weights.items())
        if change > JUMP * sum(weights.values()):
            self.losses.clear()
            self.gradient_norms.clear()
        self.weights = weights

    def find(self, losses_AR: np.ndarray, gradient_norm: float) -> Finding | None:
        """Return what is wrong with a step; the windows do not change.

        Args:
            losses_AR: [micro-batches of a process, data-parallel processes].
            gradient_norm: NaN if it is not finite.
        """
        loss = float(losses_AR.mean())
        if not math.isfinite(loss):
            return Finding("non_finite_loss", loss, MicroBatch.of_largest(~np.isfinite(losses_AR)))
        if not math.isfinite(gradient_norm):
            return Finding("non_finite_gradient", gradient_norm, None)
        if spike := self.losses.spike(loss):
            return Finding("loss_spike", loss, MicroBatch.of_largest(losses_AR), spike)
        if spike := self.gradient_norms.spike(gradient_norm):
            return Finding("gradient_spike", gradient_norm, None, spike)
        return None

    def add(self, loss: float, gradient_norm: float) -> None:
        """Add a step to the windows."""
        self.losses.add(loss)
        self.gradient_norms.add(gradient_norm)
