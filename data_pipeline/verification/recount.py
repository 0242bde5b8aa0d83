"""What a manifest says of its rows, counted again by ``sesame verify``; ``statistics.py`` is what it checks."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from data_pipeline.ragged import Columns, Ragged

BIN = 16
"""Tokens of a bin of the histogram."""


class Recount:
    """Sums over the rows of one split; rows are added some at a time."""

    def __init__(self, vocabulary_size: int, special: dict[str, int], specials: int, sentinels: Iterable[int]):
        """
        Args:
            specials: special tokens of each row.
        """
        self.rows = self.tokens = self.text_tokens = self.predictions = self.spans = self.ones = 0
        self.shown: Counter[str] = Counter()
        self.lengths: Counter[int] = Counter()
        self.targets = np.zeros(vocabulary_size, np.int64)
        """[V] how often each id is to be predicted; where nothing is, how often it stands in the text."""
        self._special, self._specials, self._sentinels = special, specials, list(sentinels)

    def add(self, columns: Columns) -> None:
        tokens: Any = columns["tokens"]
        rows, sizes = len(tokens.lengths), tokens.lengths
        self.rows += rows
        self.tokens += int(sizes.sum())
        self.text_tokens += int(sizes.sum()) - self._specials * rows
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
        now = tokens.values[starts + positions.values]
        same = now == labels.values
        self.shown["kept"] += int(same.sum())
        self.shown["mask"] += int((now == self._special["mask"]).sum())
        self.predictions += len(labels.values)
        self._count(labels.values)

    def _add_targets(self, targets: Any) -> None:
        marks = int(np.isin(targets.values, self._sentinels).sum())
        self.spans += marks
        self.predictions += len(targets.values)
        # A row has a sentinel for each span that it lacks, and its target a [SEP] at the end.
        self.text_tokens += len(targets.values) - 2 * marks - len(targets.lengths)
        self._count(targets.values)

    def _count(self, ids: np.ndarray) -> None:
        np.add.at(self.targets, ids, 1)

    @property
    def hidden(self) -> int:
        """Tokens of the hidden spans."""
        return self.predictions - self.spans - self.rows


def observed(train: Recount, validation: Recount, columns: Iterable[str]) -> dict[str, Any]:
    """The fields of a manifest that are observed, by name."""
    return {
        "lengths": {f"{first * BIN}-{first * BIN + BIN - 1}": n for first, n in sorted(train.lengths.items())},
        "masking": shares(train) if {"mask_labels", "target_tokens"} & {*columns} else {},
        "pair_share": train.ones / max(1, train.rows) if "pair_labels" in columns else None,
        "unigram_entropy": _cross_entropy(train, train),
        "unigram_cross_entropy_validation": _cross_entropy(validation, train),
    }


def shares(counted: Recount) -> dict[str, float]:
    """What is masked: shares of the text and of the predictions, by the manifest's names."""
    text, predictions = max(1, counted.text_tokens), max(1, counted.predictions)
    if counted.spans:
        return {"hidden_of_text": counted.hidden / text, "mean_span_length": counted.hidden / counted.spans}
    mask, kept = (counted.shown[name] / predictions for name in ("mask", "kept"))
    return {
        "predicted_of_text": counted.predictions / text,
        "mask_of_predicted": mask,
        "kept_of_predicted": kept,
        "random_of_predicted": (counted.predictions - counted.shown["mask"] - counted.shown["kept"]) / predictions,
    }


def agrees(stated: Any, found: Any) -> bool:
    """Whether a stated value is the one found, but for the sixth decimal place."""
    if isinstance(found, dict):
        return stated.keys() == found.keys() and all(agrees(stated[key], found[key]) for key in found)
    if stated is None or found is None:
        return stated is found
    return stated == found if isinstance(found, int) else abs(stated - found) < 2e-6


def _cross_entropy(of: Recount, by: Recount) -> float | None:
    """Nats of the targets of one split under the frequencies of another, one added to each count."""
    total, seen = of.targets.sum(), by.targets.sum()
    if not total or not seen:
        return None
    nats = np.log(float(seen + len(by.targets))) - np.log1p(by.targets)
    return float(np.average(nats, weights=of.targets))
