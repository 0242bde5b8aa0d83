"""What is counted over the finished rows, for the manifest and for ``sesame verify``."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from data_pipeline.examples.spans import sentinel_ids
from data_pipeline.ragged import Columns, Ragged

MEAN_SPAN_LENGTH = "mean_span_length"
"""The one figure of the masking that is no share: tokens of a hidden span."""

LENGTH_BIN = 16
"""Tokens of one bin of the length histogram."""


class Counted(NamedTuple):
    """Sums over the rows of one split."""

    lengths: np.ndarray
    """Sequences by number of tokens // LENGTH_BIN."""
    text_tokens: int
    """Tokens that a mask may hide: all but the special ones."""
    labels: np.ndarray
    """[V] how often each id is to be predicted; of hidden spans that is the whole target."""
    text: np.ndarray
    """[V] how often each id stands in the text, where no token is hidden in the shards."""
    masked: int
    """Predicted tokens that show as [MASK]."""
    kept: int
    """Predicted tokens that show as themselves."""
    rows: int
    ones: int
    """Pairs with label 1."""
    spans: int
    """Hidden ones, each behind a sentinel."""

    @property
    def predictions(self) -> int:
        return int(self.labels.sum())


class Statistics(NamedTuple):
    """Fields of the manifest that are observed, not promised."""

    lengths: dict[str, int]
    masking: dict[str, float]
    pair_share: float | None
    unigram_entropy: float | None
    unigram_cross_entropy_validation: float | None


def count(blocks: Iterable[Columns], vocabulary_size: int, special: dict[str, int]) -> Counted:
    """Count over blocks of rows, so that memory does not grow with the split."""
    lengths, labels = np.zeros(0, np.int64), np.zeros(vocabulary_size, np.int64)
    text = labels.copy()
    text_tokens = masked = kept = rows = ones = spans = 0
    sentinels = sentinel_ids(special)
    for columns in blocks:
        tokens = columns["tokens"]
        assert isinstance(tokens, Ragged)
        rows += len(tokens.lengths)
        lengths = _added(lengths, np.bincount(tokens.lengths // LENGTH_BIN))
        text_tokens += len(tokens.values) - int(np.isin(tokens.values, (special["cls"], special["sep"])).sum())
        if "pair_labels" in columns:
            ones += int(np.sum(columns["pair_labels"]))
        if "mask_labels" in columns:
            positions, original = columns["mask_positions"], columns["mask_labels"]
            assert isinstance(positions, Ragged) and isinstance(original, Ragged)
            shown = tokens.values[positions.values + np.repeat(tokens.offsets[:-1], positions.lengths)]
            labels += np.bincount(original.values, minlength=vocabulary_size)
            masked += int((shown == special["mask"]).sum())
            kept += int((shown == original.values).sum())
        elif "target_tokens" in columns:
            targets = columns["target_tokens"]
            assert isinstance(targets, Ragged)
            labels += np.bincount(targets.values, minlength=vocabulary_size)
            here = int(np.isin(targets.values, sentinels).sum())
            spans += here
            # The targets hold the hidden tokens and their sentinels, which the rows hold too, and each a [SEP].
            text_tokens += len(targets.values) - 2 * here - len(targets.lengths)
        else:
            text += np.bincount(tokens.values, minlength=vocabulary_size)
            text[[special["cls"], special["sep"]]] = 0
    return Counted(lengths, text_tokens, labels, text, masked, kept, rows, ones, spans)


def total(counts: Iterable[Counted], vocabulary_size: int) -> Counted:
    """The sum of the counts of several shards."""
    sums = count((), vocabulary_size, {})
    for each in counts:
        sums = Counted(
            _added(sums.lengths, each.lengths),
            sums.text_tokens + each.text_tokens,
            sums.labels + each.labels,
            sums.text + each.text,
            sums.masked + each.masked,
            sums.kept + each.kept,
            sums.rows + each.rows,
            sums.ones + each.ones,
            sums.spans + each.spans,
        )
    return sums


def summarise(train: Counted, validation: Counted, columns: Iterable[str]) -> Statistics:
    """The manifest's figures from the counts of both splits."""
    columns = set(columns)
    bins = {f"{i * LENGTH_BIN}-{(i + 1) * LENGTH_BIN - 1}": int(n) for i, n in enumerate(train.lengths) if n}
    pair_share = round(train.ones / max(1, train.rows), 6) if "pair_labels" in columns else None
    if not columns & {"mask_labels", "target_tokens"}:
        # Whatever is hidden later is drawn evenly from the text.
        return Statistics(bins, {}, pair_share, _nats(train.text, train.text), _nats(validation.text, train.text))
    return Statistics(
        bins, shares(train), pair_share, _nats(train.labels, train.labels), _nats(validation.labels, train.labels)
    )


def shares(counted: Counted) -> dict[str, float]:
    """Predicted of the text tokens (a random replacement by a special token does not occur); fates of the predicted.
    Of hidden spans their share of the text and their mean length."""
    predictions = counted.predictions
    if counted.spans:
        hidden = predictions - counted.spans - counted.rows
        found = {"hidden_of_text": hidden / max(1, counted.text_tokens), MEAN_SPAN_LENGTH: hidden / counted.spans}
        return {name: round(value, 6) for name, value in found.items()}
    found = {
        "predicted_of_text": predictions / max(1, counted.text_tokens),
        "mask_of_predicted": counted.masked / max(1, predictions),
        "kept_of_predicted": counted.kept / max(1, predictions),
        "random_of_predicted": (predictions - counted.masked - counted.kept) / max(1, predictions),
    }
    return {name: round(share, 6) for name, share in found.items()}


def _added(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    longer, shorter = (first, second) if len(first) > len(second) else (second, first)
    total = longer.copy()
    total[: len(shorter)] += shorter
    return total


def _nats(observed: np.ndarray, counts: np.ndarray) -> float | None:
    """Cross-entropy of ``observed`` under ``counts`` with one added to each, so that no id is impossible."""
    if not observed.sum() or not counts.sum():
        return None
    probabilities = (counts + 1) / (counts.sum() + len(counts))
    return round(float(-(observed * np.log(probabilities)).sum() / observed.sum()), 6)
