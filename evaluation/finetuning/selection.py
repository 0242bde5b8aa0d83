"""Which rows of a file are trained on and scored: the split of a dev set, and limits on the number of rows."""

import numpy as np

from sesame.evaluation.reading.tables import Examples

SPLIT_SEED = 20180420
"""Seed of the rows chosen by ``split_dev`` and ``limit_train_rows``: the same rows for every seed and model."""
TRAIN_SHARE_OF_DEV = 0.8


def split(dev: dict[str, Examples]) -> tuple[Examples, dict[str, Examples]]:
    """Split the first dev set into (train, dev); further dev sets (MNLI's mismatched) are not split."""
    prefix, examples = next(iter(dev.items()))
    rows, groups = len(examples.indices), examples.group_numbers
    order, units = shuffled(rows, groups, np.random.default_rng(SPLIT_SEED))
    cut = border(units, round(TRAIN_SHARE_OF_DEV * rows))
    return examples.take(order[:cut]), {**dev, prefix: examples.take(order[cut:])}


def shuffled(rows: int, groups: np.ndarray | None, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return rows in random order, and the number of the group of each of them; rows of a group stay together.

    Args:
        groups: [rows], of rows that are scored together; None: each row is alone.
    """
    if groups is None:
        return generator.permutation(rows), np.arange(rows)
    numbers = np.unique(groups, return_inverse=True)[1]
    places = generator.permutation(int(numbers.max()) + 1)[numbers]
    order = np.argsort(places, kind="stable")
    return order, places[order]


def border(units: np.ndarray, count: int) -> int:
    """Return how many of the first ``count`` rows are in whole groups: at least the first group, and not all rows.

    If there is one group, it is divided.

    Args:
        units: [rows], the group of each row, as :func:`shuffled` returns it.
    """
    ends = np.flatnonzero(np.diff(units)) + 1
    return int(ends[max(0, np.searchsorted(ends, count, side="right") - 1)]) if len(ends) else count


def limited(examples: Examples, limit: int | None, verb: str, notes: list[str]) -> Examples:
    """Return at most ``limit`` random rows in whole groups, and append to ``notes`` that there are more.

    Args:
        verb: what is done with the rows, for the note.
    """
    rows = len(examples.indices)
    if limit is None or limit >= rows:
        return examples
    order, units = shuffled(rows, examples.group_numbers, np.random.default_rng(SPLIT_SEED))
    count = border(units, limit)
    notes.append(f"{verb} on {count} of {rows} rows, drawn at random")
    return examples.take(order[:count])
