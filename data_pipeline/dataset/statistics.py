"""Statistics of the finished rows, for the manifest and ``sesame verify``."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from sesame.data_pipeline.examples.spans import sentinel_ids
from sesame.data_pipeline.ragged import Columns, Ragged

MEAN_SPAN_LENGTH = "mean_span_length"
"""The only masking statistic that is not a share: tokens of a masked span."""

LENGTH_BIN = 16
"""Width of a bin of the length histogram, in tokens."""


class RowCounts(NamedTuple):
    """Sums over the rows of one split."""

    lengths: np.ndarray
    """Sequences by number of tokens // LENGTH_BIN."""
    text_tokens: int
    """Tokens that may be masked: all except the special ones."""
    labels: np.ndarray
    """[V] how often each id is a label; for masked spans in the whole target."""
    text: np.ndarray
    """[V] how often each id occurs in the text, if the shards contain no masks."""
    masked: int
    """Predicted tokens that are [MASK] in the input."""
    kept: int
    """Predicted tokens that are unchanged in the input."""
    rows: int
    ones: int
    """Pairs with label 1."""
    spans: int
    """Masked spans, each after a sentinel in the target."""

    @property
    def predictions(self) -> int:
        return int(self.labels.sum())


class Statistics(NamedTuple):
    """Fields of the manifest that are measured on the rows."""

    lengths: dict[str, int]
    masking: dict[str, float]
    pair_share: float | None
    unigram_entropy: float | None
    unigram_cross_entropy_validation: float | None


def count(blocks: Iterable[Columns], vocabulary_size: int, special: dict[str, int]) -> RowCounts:
    """Count over blocks of rows, so that memory use does not depend on the size of the split."""
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
            new_spans = int(np.isin(targets.values, sentinels).sum())
            spans += new_spans
            # Targets contain the masked tokens, one [SEP] each, and the sentinels, which the rows contain too.
            text_tokens += len(targets.values) - 2 * new_spans - len(targets.lengths)
        else:
            text += np.bincount(tokens.values, minlength=vocabulary_size)
            text[[special["cls"], special["sep"]]] = 0
    return RowCounts(lengths, text_tokens, labels, text, masked, kept, rows, ones, spans)


def total(counts: Iterable[RowCounts], vocabulary_size: int) -> RowCounts:
    """Return the sum of the counts of several shards."""
    sums = count((), vocabulary_size, {})
    for each in counts:
        sums = RowCounts(
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


def summarize(train: RowCounts, validation: RowCounts, columns: Iterable[str]) -> Statistics:
    """Return the statistics of the manifest from the counts of both splits."""
    columns = set(columns)
    bins = {f"{i * LENGTH_BIN}-{(i + 1) * LENGTH_BIN - 1}": int(n) for i, n in enumerate(train.lengths) if n}
    pair_share = round(train.ones / max(1, train.rows), 6) if "pair_labels" in columns else None
    if not columns & {"mask_labels", "target_tokens"}:
        # Masks are sampled uniformly from the text at training time, so its unigrams are those of the labels.
        return Statistics(bins, {}, pair_share, _nats(train.text, train.text), _nats(validation.text, train.text))
    return Statistics(
        bins, shares(train), pair_share, _nats(train.labels, train.labels), _nats(validation.labels, train.labels)
    )


def shares(counts: RowCounts) -> dict[str, float]:
    """Return the predicted share of the text tokens, and the shares of [MASK], unchanged and random tokens among them.

    For masked spans: their share of the text and their mean length. Random tokens are never special tokens.
    """
    predictions = counts.predictions
    if counts.spans:
        masked = predictions - counts.spans - counts.rows
        values = {"hidden_of_text": masked / max(1, counts.text_tokens), MEAN_SPAN_LENGTH: masked / counts.spans}
        return {name: round(value, 6) for name, value in values.items()}
    values = {
        "predicted_of_text": predictions / max(1, counts.text_tokens),
        "mask_of_predicted": counts.masked / max(1, predictions),
        "kept_of_predicted": counts.kept / max(1, predictions),
        "random_of_predicted": (predictions - counts.masked - counts.kept) / max(1, predictions),
    }
    return {name: round(value, 6) for name, value in values.items()}


def _added(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    longer, shorter = (first, second) if len(first) > len(second) else (second, first)
    total = longer.copy()
    total[: len(shorter)] += shorter
    return total


def _nats(observed: np.ndarray, counts: np.ndarray) -> float | None:
    """Return the cross-entropy of ``observed`` under ``counts`` with add-one smoothing."""
    if not observed.sum() or not counts.sum():
        return None
    probabilities = (counts + 1) / (counts.sum() + len(counts))
    return round(float(-(observed * np.log(probabilities)).sum() / observed.sum()), 6)
