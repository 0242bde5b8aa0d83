"""Cross-entropy of one row of logits at a time, and its gradient, which replaces them."""

from typing import Any

import numpy as np

from sesame.data_pipeline.compiled import floating
from sesame.pretrain.compiled.formats import exp, load, store

F = np.float32
LANES = 64
"""Largest values that are searched for beside each other, as vectors need it; more than a vector has."""


@floating
def cross_entropy(logits: Any, labels: Any, ignored: int, z_loss: Any, replaces: bool, losses: Any) -> None:
    """Compute -log softmax(logits)[label] + z_loss (log Z)^2 of each row, 0 for rows that are ignored.

    Args:
        logits: [P, V], bf16 or fp32; if ``replaces``, overwritten with the gradient of the sum of all losses.
        labels: int64 [P].
        ignored: label of a row that counts for nothing.
        losses: fp32 [P], written.
    """
    rows, columns = logits.shape
    largest = np.empty(LANES, np.float32)
    powers = np.empty(columns, np.float32)
    whole = columns - columns % LANES
    for row in range(rows):
        own, label = logits[row], labels[row]
        largest[:] = -np.inf
        for start in range(0, whole, LANES):
            for lane in range(LANES):
                value = load(own, start + lane)
                largest[lane] = value if value > largest[lane] else largest[lane]
        most = F(-np.inf)
        for lane in range(LANES):
            most = max(most, largest[lane])
        for column in range(whole, columns):
            most = max(most, load(own, column))
        total = F(0.0)
        for column in range(columns):
            powers[column] = exp(load(own, column) - most)
            total += powers[column]
        counts = label != ignored
        log_z = np.log(total) + most
        losses[row] = log_z - load(own, label) + z_loss * log_z * log_z if counts else F(0.0)
        if replaces:
            factor = (F(1.0) + F(2.0) * z_loss * log_z) / total if counts else F(0.0)
            at_label = powers[label] * factor - F(1.0) if counts else F(0.0)
            for column in range(columns):
                store(own, column, powers[column] * factor)
            store(own, label if counts else 0, at_label)
