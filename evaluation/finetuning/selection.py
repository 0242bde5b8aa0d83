"""Which rows of a file are trained on and scored: the split of a dev set, and limits on the number of rows."""

import numpy as np

from sesame.evaluation.reading.tables import Examples

SPLIT_SEED = 20180420
"""Seed of the rows chosen by ``split_dev`` and ``limit_train_rows``: the same rows for every seed and model."""
TRAIN_SHARE_OF_DEV = 0.8


def split(dev: dict[str, Examples]) -> tuple[Examples, dict[str, Examples]]:
    """Split the first dev set into (train, dev); further dev sets (MNLI's mismatched) are not split."""
    prefix, examples = next(iter(dev.items()))
    order = np.random.default_rng(SPLIT_SEED).permutation(len(examples.indices))
    cut = round(TRAIN_SHARE_OF_DEV * len(order))
    return examples.take(order[:cut]), {**dev, prefix: examples.take(order[cut:])}


def limited(examples: Examples, limit: int | None, verb: str, notes: list[str]) -> Examples:
    """Return at most ``limit`` random rows, and append to ``notes`` that there are more.

    Args:
        verb: what is done with the rows, for the note.
    """
    rows = len(examples.indices)
    if limit is None or limit >= rows:
        return examples
    notes.append(f"{verb} on {limit} of {rows} rows, drawn at random")
    generator = np.random.default_rng(SPLIT_SEED)
    groups = examples.group_numbers
    if groups is None:
        return examples.take(generator.permutation(rows)[:limit])
    # Rows that are scored together stay together.
    order = generator.permutation(int(groups.max()) + 1)[groups]
    return examples.take(np.argsort(order, kind="stable")[:limit])
