"""Steps of a masked model in which it attends to earlier tokens only and predicts every token.

GPT-BERT (Charpentier and Samuel 2024, section 2) does so with a share of the sequences, and the same head.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from sesame.data_pipeline.ragged import Column, Columns, Ragged, boundaries

OBJECTIVE = "masked_next"
"""The objective whose head is the same in both kinds of steps."""
SPECIAL = ("pad", "cls", "sep")
"""Tokens that no step predicts."""


def check(config: Any) -> None:
    """Raise a ValueError if a run cannot have causal steps.

    Args:
        config: a ``RunConfig``.
    """
    every = config.data.causal_every
    if every and set(config.objectives) != {OBJECTIVE}:
        raise ValueError(
            f"data.causal_every {every} needs the objective {OBJECTIVE} and no other, because in causal steps a "
            f"token's state knows its own token and [CLS] nothing; set objectives to {{ {OBJECTIVE} = 1.0 }}"
        )


def is_causal(step: int, every: int) -> bool:
    """Return whether the optimizer step ``step`` (from 0) is causal; ``every`` is ``data.causal_every``."""
    return every > 0 and step % every == every - 1


def causal_columns(columns: Mapping[str, Column], special: Mapping[str, int]) -> Columns:
    """Return the columns with every token as a prediction, but special ones and the first of each row."""
    tokens = columns["tokens"]
    assert isinstance(tokens, Ragged)
    lengths = tokens.lengths
    positions = np.arange(len(tokens.values)) - np.repeat(tokens.offsets[:-1], lengths)
    is_label = (positions > 0) & ~np.isin(tokens.values, [special[name] for name in SPECIAL if name in special])
    rows = np.repeat(np.arange(len(lengths)), lengths)
    offsets = boundaries(np.bincount(rows[is_label], minlength=len(lengths)))
    labels = Ragged(tokens.values[is_label], offsets)
    return {**columns, "mask_positions": Ragged(positions[is_label], offsets), "mask_labels": labels}
