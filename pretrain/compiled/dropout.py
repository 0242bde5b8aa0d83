"""Dropout by given random bits."""

from typing import Any

import numpy as np

from sesame.data_pipeline.compiled import floating
from sesame.pretrain.compiled.formats import load, store

F = np.float32


@floating
def drop(states: Any, random: Any, least: Any, scale: Any, output: Any, kept: Any) -> None:
    """Multiply each entry by ``scale``, or by 0 where its random bits are below ``least``.

    Args:
        states: [n], bf16 or fp32, as all that follow without a type.
        random: int16 [n].
        output: [n], written.
        kept: uint8 [n], written: 1 where an entry is not dropped.
    """
    for index in range(len(states)):
        keeps = random[index] >= least
        kept[index] = keeps
        store(output, index, load(states, index) * (scale if keeps else F(0.0)))


@floating
def scale_kept(gradient: Any, kept: Any, scale: Any, output: Any) -> None:
    """Write the gradient of what was dropped."""
    for index in range(len(gradient)):
        store(output, index, load(gradient, index) * (scale if kept[index] else F(0.0)))
