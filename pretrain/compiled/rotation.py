"""Rotary positions: pairs of entries of each head, rotated by the angles of their token."""

from typing import Any

import numpy as np

from sesame.data_pipeline.compiled import floating
from sesame.pretrain.compiled.formats import load, store


@floating
def rotate(states: Any, cosines: Any, sines: Any, direction: Any, output: Any) -> None:
    """Write each pair (i, i + K / 2) rotated by its angle, with one rounding.

    Args:
        states: [T, H, 2, K / 2], bf16 or fp32, as ``output``.
        cosines: [T, K / 2], bf16 or fp32, as ``sines``.
        direction: fp32, 1 for the angles and -1 for the opposite ones.
    """
    tokens, heads, _, half = states.shape
    across, up = np.empty(half, np.float32), np.empty(half, np.float32)
    x, y = np.empty(half, np.float32), np.empty(half, np.float32)
    for token in range(tokens):
        cosine, sine = cosines[token], sines[token]
        for index in range(half):
            across[index] = load(cosine, index)
            up[index] = direction * load(sine, index)
        for head in range(heads):
            left, right = states[token, head, 0], states[token, head, 1]
            for index in range(half):
                x[index] = load(left, index)
            for index in range(half):
                y[index] = load(right, index)
            new_left, new_right = output[token, head, 0], output[token, head, 1]
            for index in range(half):
                store(new_left, index, x[index] * across[index] - y[index] * up[index])
            for index in range(half):
                store(new_right, index, y[index] * across[index] + x[index] * up[index])
