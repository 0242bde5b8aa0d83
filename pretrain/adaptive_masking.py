"""Adaptive masking: the worse a token of the vocabulary is predicted, the more often it is masked (Edman and Fraser
2025, "Mask and You Shall Receive").

Weights begin alike. After every ``data.adaptive_masking_every`` steps they become 0.2 of what they were and 0.8 of each
token's mean loss in these steps, as a multiple of the mean over all predictions. The share of masked tokens stays that
of the recipe or of ``schedule.mask_rate``.
"""

import base64
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sesame.configs.errors import CheckpointError
from sesame.pretrain.batch import IGNORED
from sesame.pretrain.checkpoints.record import FILE, AdaptiveMaskingState
from sesame.pretrain.layers.vocabulary import CrossEntropy

LABELS = "mask_labels"
"""Column of the predictions that are counted."""
NEW_SHARE = 0.8
LEAST = 1 / 30
"""Lowest weight, so that each token is masked and its loss known."""
UNIT = 2.0**16
"""A nat in the sums: integers, because their sum does not depend on the order, nor on the number of processes."""
HIGHEST = 64.0
"""Nats of one prediction that count; an infinite loss counts as many."""


def check(config: Any) -> None:
    """Raise a ValueError if a run cannot have adaptive masks.

    Args:
        config: a ``RunConfig``.
    """
    data, key = config.data, f"data.adaptive_masking_every {config.data.adaptive_masking_every}"
    if not data.adaptive_masking_every:
        return
    if not {"masked_lm", "masked_next"} & set(config.objectives):
        raise ValueError(f"{key} follows the losses of masked_lm or masked_next; add one to [objectives], or remove it")
    if data.loader_processes:
        raise ValueError(
            f"{key} masks by the losses of the steps before, but data.loader_processes makes batches of later steps; "
            "set data.loader_processes = 0"
        )
    if config.parallel.tensor > 1:
        raise ValueError(
            f"{key} needs the loss of each prediction, which parallel.tensor {config.parallel.tensor} divides; set "
            "parallel.tensor = 1, with a higher parallel.zero_stage if memory is short"
        )


class AdaptiveMasking:
    """Losses of each token of the vocabulary, and the weights that follow from them."""

    def __init__(
        self,
        every: int,
        objectives: Any,
        vocabulary_size: int,
        device: torch.device,
        sum_over_data: Callable[[Tensor], Tensor],
    ):
        """
        Args:
            every: steps between two updates of the weights; 0: there are none, and nothing is counted.
            objectives: of the learner, by name.
            sum_over_data: over all processes, in place; a collective.
        """
        self._every, self._sum_over_data = every, sum_over_data
        self._cross_entropies: list[CrossEntropy] = [
            objective.cross_entropy for objective in objectives.values() if every and objective.label_column == LABELS
        ]
        for each in self._cross_entropies:
            each.keeps_losses = True
        self._sums = torch.zeros(2, vocabulary_size if every else 0, dtype=torch.int64, device=device)
        self._sums_of_step = torch.zeros_like(self._sums)
        self.restore(None)

    def weights(self, step: int) -> np.ndarray:
        """Return float32 [V], the weights of optimizer step ``step`` (from 0): of the next one or the one before."""
        return self._weights if step >= self._first_step else self._weights_before

    def add(self, *, is_causal: bool) -> None:
        """Count the predictions of the micro-batch that was last trained on, unless it is causal: all tokens are
        predicted there, from less."""
        for each in self._cross_entropies:
            assert each.kept is not None, "a training step keeps them"
            labels, losses = each.kept
            if is_causal:
                continue
            counts = (labels != IGNORED).long()
            units = (losses.nan_to_num(HIGHEST).clamp(0, HIGHEST) * UNIT).long() * counts
            self._sums_of_step.index_add_(1, labels.clamp(min=0), torch.stack([units, counts]))

    def finish_step(self, steps: int, *, was_applied: bool = True) -> None:
        """Update the weights if ``steps``, taken so far, are a multiple of the period; then a collective.

        Args:
            was_applied: whether the last step has changed the model; if not, its losses do not count.
        """
        if not self._every:
            return
        if was_applied:
            self._sums += self._sums_of_step
        self._sums_of_step.zero_()
        if steps % self._every:
            return
        units, counts = self._summed()
        self._sums.zero_()
        self._weights_before, self._first_step = self._weights, steps
        if counts.any():
            self._weights = updated(self._weights, units / UNIT, counts)

    @property
    def state(self) -> AdaptiveMaskingState | None:
        """What a checkpoint holds; a collective."""
        if not self._every:
            return None
        units, counts = self._summed()
        return AdaptiveMaskingState(weights=_text(self._weights), losses=_text(units), counts=_text(counts))

    def restore(self, state: AdaptiveMaskingState | None, folder: Path = Path(), *, has_sums: bool = True) -> None:
        """Continue from a checkpoint; None: begin.

        Args:
            folder: of the checkpoint, for messages.
            has_sums: in one process, which has the sums of all.

        Raises:
            CheckpointError: the state is not one of this vocabulary.
        """
        size = self._sums.shape[1]
        self._first_step, self._weights = 0, np.ones(size, np.float32)
        self._sums.zero_()
        self._sums_of_step.zero_()
        if state is not None and self._every:
            try:
                self._weights = _array(state.weights, np.dtype(np.float32), size)
                sums = np.stack([_array(text, np.dtype(np.int64), size) for text in (state.losses, state.counts)])
            except ValueError:
                raise CheckpointError(
                    f"{folder / FILE}: adaptive_masking is not that of a vocabulary of {size}; use another checkpoint"
                ) from None
            if has_sums:
                self._sums.copy_(torch.from_numpy(sums))
        self._weights_before = self._weights

    def _summed(self) -> np.ndarray:
        """Return int64 [2, V], the sums of all processes; a collective."""
        return self._sum_over_data(self._sums.clone()).cpu().numpy()


def updated(weights: np.ndarray, losses: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the next weights, float32 [V].

    Args:
        losses: [V], sum of each token's losses, in nats.
        counts: [V], predictions of each token, not all 0.
    """
    mean = max(losses.sum() / counts.sum(), 1 / UNIT)
    # As if each had one more prediction of the mean loss: few predictions say little.
    means = (losses + mean) / (counts + 1)
    return np.maximum((1 - NEW_SHARE) * weights + NEW_SHARE * means / mean, LEAST).astype(np.float32)


def _text(values: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(values.astype(values.dtype.newbyteorder("<")).tobytes())).decode()


def _array(text: str, dtype: np.dtype, size: int) -> np.ndarray:
    """Return ``size`` numbers, or raise ValueError."""
    try:
        # One byte more than fits tells a longer array, whatever its length.
        content = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), size * dtype.itemsize + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if len(content) != size * dtype.itemsize:
        raise ValueError(f"{len(content)} bytes")
    return np.frombuffer(content, dtype.newbyteorder("<")).astype(dtype)
