"""Count again what the manifest states about the rows; shares no code with ``statistics.py``, which it checks."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from sesame.data_pipeline.ragged import Columns, Ragged

BIN = 16
"""Tokens of a bin of the histogram."""


class Recount:
    """Sums over the rows of one split, which are added block by block."""

    def __init__(self, vocabulary_size: int, special: dict[str, int], special_tokens: int, sentinels: Iterable[int]):
        """
        Args:
            special: role of a special token -> id.
            special_tokens: number of special tokens of each row.
            sentinels: ids of the sentinels.
        """
        self.rows = self.tokens = self.text_tokens = self.predictions = self.spans = self.ones = 0
        self.predicted_as: Counter[str] = Counter()
        """Predictions whose token is a mask ("mask") or the original ("kept")."""
        self.lengths: Counter[int] = Counter()
        self.targets = np.zeros(vocabulary_size, np.int64)
        """int64 [V]: how often each id is predicted; without predictions, how often it is in the text."""
        self._special, self._special_tokens, self._sentinels = special, special_tokens, list(sentinels)

    def add(self, columns: Columns) -> None:
        """Count a block of rows."""
        tokens: Any = columns["tokens"]
        rows, sizes = len(tokens.lengths), tokens.lengths
        self.rows += rows
        self.tokens += int(sizes.sum())
        self.text_tokens += int(sizes.sum()) - self._special_tokens * rows
        self.lengths.update(
            dict(zip(*(each.tolist() for each in np.unique(sizes // BIN, return_counts=True)), strict=True))
        )
        if "pair_labels" in columns:
            self.ones += int(np.count_nonzero(columns["pair_labels"]))  # pyright: ignore[reportArgumentType]
        if "mask_labels" in columns:
            self._add_masks(tokens, columns["mask_positions"], columns["mask_labels"])
        elif "target_tokens" in columns:
            self._add_targets(columns["target_tokens"])
        else:
            ends = (self._special["cls"], self._special["sep"])
            self._count(tokens.values[~np.isin(tokens.values, ends)])

    def _add_masks(self, tokens: Ragged, positions: Any, labels: Any) -> None:
        starts = np.repeat(tokens.offsets[:-1], np.diff(positions.offsets))
        inputs = tokens.values[starts + positions.values]
        self.predicted_as["kept"] += int((inputs == labels.values).sum())
        self.predicted_as["mask"] += int((inputs == self._special["mask"]).sum())
        self.predictions += len(labels.values)
        self._count(labels.values)

    def _add_targets(self, targets: Any) -> None:
        sentinels = int(np.isin(targets.values, self._sentinels).sum())
        self.spans += sentinels
        self.predictions += len(targets.values)
        # Sentinels are in the rows and in the targets, and each target ends with a [SEP].
        self.text_tokens += len(targets.values) - 2 * sentinels - len(targets.lengths)
        self._count(targets.values)

    def _count(self, ids: np.ndarray) -> None:
        np.add.at(self.targets, ids, 1)

    @property
    def masked(self) -> int:
        """Tokens of the masked spans."""
        return self.predictions - self.spans - self.rows


def observed(train: Recount, validation: Recount, columns: Iterable[str]) -> dict[str, Any]:
    """Return the observed fields of the manifest, by name."""
    return {
        "lengths": {f"{first * BIN}-{first * BIN + BIN - 1}": n for first, n in sorted(train.lengths.items())},
        "masking": shares(train) if {"mask_labels", "target_tokens"} & {*columns} else {},
        "pair_share": train.ones / max(1, train.rows) if "pair_labels" in columns else None,
        "unigram_entropy": _cross_entropy(train, train),
        "unigram_cross_entropy_validation": _cross_entropy(validation, train),
    }


def shares(counted: Recount) -> dict[str, float]:
    """Return the shares of masked tokens, by their names in the manifest."""
    text, predictions = max(1, counted.text_tokens), max(1, counted.predictions)
    if counted.spans:
        return {"hidden_of_text": counted.masked / text, "mean_span_length": counted.masked / counted.spans}
    mask, kept = counted.predicted_as["mask"], counted.predicted_as["kept"]
    return {
        "predicted_of_text": counted.predictions / text,
        "mask_of_predicted": mask / predictions,
        "kept_of_predicted": kept / predictions,
        "random_of_predicted": (counted.predictions - mask - kept) / predictions,
    }


def agrees(stated: Any, found: Any) -> bool:
    """Whether a stated value is equal to the one found, except for rounding in the sixth decimal place."""
    if isinstance(found, dict):
        return stated.keys() == found.keys() and all(agrees(stated[key], found[key]) for key in found)
    if stated is None or found is None:
        return stated is found
    return stated == found if isinstance(found, int) else abs(stated - found) < 2e-6


def _cross_entropy(of: Recount, by: Recount) -> float | None:
    """Nats per target of one split under the frequencies of another, with one added to each count."""
    total, seen = of.targets.sum(), by.targets.sum()
    if not total or not seen:
        return None
    nats = np.log(float(seen + len(by.targets))) - np.log1p(by.targets)
    return float(np.average(nats, weights=of.targets))
