"""What is counted over the finished rows, for the manifest and for ``sesame verify``."""

from typing import NamedTuple

import numpy as np

from data_pipeline.shards import Ragged, Split

LENGTH_BIN = 16
BLOCK_ROWS = 65536
"""Rows that are looked at together."""


class Statistics(NamedTuple):
    """Fields of the manifest that are observed, not promised."""

    lengths: dict[str, int]
    masking: dict[str, float]
    pair_share: float | None
    unigram_entropy: float | None
    unigram_cross_entropy_validation: float | None

    @classmethod
    def of(cls, train: Split, validation: Split, vocabulary_size: int, mask: int) -> "Statistics":
        """Count the train split, and the validation labels for the unigram level."""
        bins = np.bincount(train.lengths("tokens") // LENGTH_BIN)
        histogram = {f"{i * LENGTH_BIN}-{(i + 1) * LENGTH_BIN - 1}": int(count) for i, count in enumerate(bins) if count}
        pairs = label_share(train) if "pair_labels" in train.columns else None
        if "mask_labels" not in train.columns:
            return cls(histogram, {}, pairs, None, None)
        labels, shares = masking(train, vocabulary_size, mask)
        held_out, _ = masking(validation, vocabulary_size, mask)
        return cls(histogram, shares, pairs, _entropy(labels, labels), _entropy(held_out, labels))


def masking(split: Split, vocabulary_size: int, mask: int) -> tuple[np.ndarray, dict[str, float]]:
    """([V] counts of the labels, observed shares: masked of all tokens; [MASK], kept, random of the masked)."""
    counts = np.zeros(vocabulary_size, np.int64)
    tokens = masked = kept = 0
    for start in range(0, split.rows, BLOCK_ROWS):
        columns = split.take(np.arange(start, min(split.rows, start + BLOCK_ROWS)))
        ids, positions, labels = (columns[name] for name in ("tokens", "mask_positions", "mask_labels"))
        assert isinstance(ids, Ragged) and isinstance(positions, Ragged) and isinstance(labels, Ragged)
        shown = ids.values[positions.values + np.repeat(ids.offsets[:-1], positions.lengths)]
        counts += np.bincount(labels.values, minlength=vocabulary_size)
        tokens += len(ids.values)
        masked += int((shown == mask).sum())
        kept += int((shown == labels.values).sum())
    predictions = int(counts.sum())
    shares = {
        "predicted_of_tokens": predictions / max(1, tokens),
        "mask_of_predicted": masked / max(1, predictions),
        "kept_of_predicted": kept / max(1, predictions),
        "random_of_predicted": (predictions - masked - kept) / max(1, predictions),
    }
    return counts, {name: round(share, 6) for name, share in shares.items()}


def label_share(split: Split) -> float:
    """Share of rows with pair label 1."""
    ones = 0
    for start in range(0, split.rows, BLOCK_ROWS):
        labels = split.take(np.arange(start, min(split.rows, start + BLOCK_ROWS)))["pair_labels"]
        assert isinstance(labels, np.ndarray)
        ones += int(labels.sum())
    return round(ones / max(1, split.rows), 6)


def _entropy(observed: np.ndarray, counts: np.ndarray) -> float | None:
    """Nats: cross-entropy of ``observed`` counts under the distribution of ``counts``, one added to each count."""
    if not observed.sum() or not counts.sum():
        return None
    probabilities = (counts + 1) / (counts.sum() + len(counts))
    return round(float(-(observed * np.log(probabilities)).sum() / observed.sum()), 6)
