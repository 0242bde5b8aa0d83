"""Metrics of weighted rows, for many weightings at once: the replicates of a bootstrap over dev rows.

R rows, S seeds, B replicates. Each function returns what its metric (``scores.py``) is for rows that are repeated as
often as the weights say.
"""

from collections.abc import Callable

import numpy as np
from scipy.stats import rankdata

from sesame.evaluation.scores import ANSWER_SCORES, answer_scores

Resampled = Callable[[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray], np.ndarray]
"""(labels [R], predictions [S, R], groups [R] or None, weights int64 [B, R]) -> [B, S]"""


def weights_of(rows: int, groups: np.ndarray | None, replicates: int, generator: np.random.Generator) -> np.ndarray:
    """Draw how often each row is in each replicate, [B, R]; the rows of a group are drawn together."""
    numbers = np.arange(rows) if groups is None else np.unique(groups, return_inverse=True)[1]
    units = int(numbers.max()) + 1
    return generator.multinomial(units, np.full(units, 1 / units), replicates)[:, numbers]


def _accuracy(
    labels: np.ndarray, predictions: np.ndarray, groups: np.ndarray | None, weights: np.ndarray
) -> np.ndarray:
    return _share(predictions == labels, weights)


def _share(holds: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return weights @ holds.T.astype(float) / weights.sum(1, keepdims=True)


def _counts(labels: np.ndarray, predictions: np.ndarray, weights: np.ndarray, label: int) -> tuple[np.ndarray, ...]:
    """(true positives [B, S], predicted positives [B, S], positives [B, 1]) of one class."""
    actual, predicted = labels == label, predictions == label
    totals = [weights @ part.T.astype(float) for part in (predicted & actual, predicted, actual[None])]
    return totals[0], totals[1], totals[2]


def _f1(labels: np.ndarray, predictions: np.ndarray, groups: np.ndarray | None, weights: np.ndarray) -> np.ndarray:
    hits, predicted, actual = _counts(labels, predictions, weights, 1)
    return _ratio(2 * hits, predicted + actual, 0.0)


def _macro_f1(
    labels: np.ndarray, predictions: np.ndarray, groups: np.ndarray | None, weights: np.ndarray
) -> np.ndarray:
    total = present = 0.0
    for label in np.union1d(labels, predictions):
        hits, predicted, actual = _counts(labels, predictions, weights, label)
        total = total + _ratio(2 * hits, predicted + actual, 0.0)
        present = present + (predicted + actual > 0)
    return np.asarray(total / present)


def _matthews(
    labels: np.ndarray, predictions: np.ndarray, groups: np.ndarray | None, weights: np.ndarray
) -> np.ndarray:
    """Gorodkin 2004, equation 8."""
    rows = weights.sum(1, keepdims=True).astype(float)
    hits = products = predicted_squares = actual_squares = 0.0
    for label in np.union1d(labels, predictions):
        true, predicted, actual = _counts(labels, predictions, weights, label)
        hits, products = hits + true, products + predicted * actual
        predicted_squares, actual_squares = predicted_squares + predicted**2, actual_squares + actual**2
    scale = np.sqrt((rows**2 - predicted_squares) * (rows**2 - actual_squares))
    return _ratio(hits * rows - products, scale, 0.0)


def _pearson(labels: np.ndarray, predictions: np.ndarray, groups: np.ndarray | None, weights: np.ndarray) -> np.ndarray:
    rows = weights.sum(1, keepdims=True).astype(float)
    x, y = labels.astype(float) - labels.mean(), predictions.astype(float) - predictions.mean(1, keepdims=True)
    mean_x, mean_y = weights @ x[:, None] / rows, weights @ y.T / rows
    products = weights @ (x * y).T / rows - mean_x * mean_y
    spread_x = weights @ (x**2)[:, None] / rows - mean_x**2
    return _ratio(products, np.sqrt(np.maximum(spread_x * (weights @ (y**2).T / rows - mean_y**2), 0)), np.nan)


def _spearman(
    labels: np.ndarray, predictions: np.ndarray, groups: np.ndarray | None, weights: np.ndarray
) -> np.ndarray:
    rows = np.arange(len(labels))
    replicates = []
    for each in weights:
        drawn = np.repeat(rows, each)
        x = rankdata(labels[drawn])
        y = rankdata(predictions[:, drawn], axis=1)
        replicates.append(_pearson(x, y, None, np.ones((1, len(drawn)), np.int64))[0])
    return np.array(replicates)


def _groups_without_error(holds: np.ndarray, groups: np.ndarray | None, weights: np.ndarray) -> np.ndarray:
    if groups is None:
        return _share(holds, weights)
    _, first, numbers = np.unique(groups, return_index=True, return_inverse=True)
    whole = np.array([np.bincount(numbers, ~each) == 0 for each in holds])
    return _share(whole, weights[:, first])


def _exact_match(
    labels: np.ndarray, predictions: np.ndarray, groups: np.ndarray | None, weights: np.ndarray
) -> np.ndarray:
    return _groups_without_error(predictions == labels, groups, weights)


def _parity(labels: np.ndarray, predictions: np.ndarray, groups: np.ndarray | None, weights: np.ndarray) -> np.ndarray:
    if groups is None:
        return np.ones((len(weights), len(predictions)))
    _, first, numbers = np.unique(groups, return_index=True, return_inverse=True)
    return _groups_without_error(predictions == predictions[:, first][:, numbers], groups, weights)


def _pair_accuracy(
    labels: np.ndarray, predictions: np.ndarray, groups: np.ndarray | None, weights: np.ndarray
) -> np.ndarray:
    return _share(predictions, weights)


def _ratio(numerator: np.ndarray, denominator: np.ndarray, otherwise: float) -> np.ndarray:
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    return np.divide(numerator, denominator, out=np.full(numerator.shape, otherwise), where=denominator > 0)


def _of_answers(metric: str) -> Resampled:
    def resampled(
        labels: np.ndarray, predictions: np.ndarray, groups: np.ndarray | None, weights: np.ndarray
    ) -> np.ndarray:
        return _share(np.array([answer_scores(metric, labels, each) for each in predictions]), weights)

    return resampled


RESAMPLED: dict[str, Resampled] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "macro_f1": _macro_f1,
    "matthews": _matthews,
    "pearson": _pearson,
    "spearman": _spearman,
    "exact_match": _exact_match,
    "parity": _parity,
    "pair_accuracy": _pair_accuracy,
    **{metric: _of_answers(metric) for metric in ANSWER_SCORES},
}
"""By the names of ``scores.METRICS``."""
