"""The table of metrics: functions of (labels, predictions, groups) that return a fraction; 1 is perfect.

A metric that is undefined for the predictions (a correlation with a constant) is NaN, and is reported as "undefined".
"""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats
from sklearn import metrics

from sesame.evaluation.answer_scores import cmrc_em, cmrc_f1, squad_em, squad_f1

SEPARATOR = "\x1f"
"""Between several right answers of a row, in one label."""

Metric = Callable[[np.ndarray, np.ndarray, np.ndarray | None], float]
"""(labels [rows], predictions [rows], groups int64 [rows] or None if each row is one)."""


def score(metric: str, labels: np.ndarray, predictions: np.ndarray, groups: np.ndarray | None = None) -> float:
    """Return a metric of ``METRICS``; NaN where it is undefined."""
    return METRICS[metric](labels, predictions, groups)


def _correlation(measure: Callable) -> Metric:
    def correlation(labels: np.ndarray, predictions: np.ndarray, groups: np.ndarray | None) -> float:
        if len(labels) < 2:
            return float("nan")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", stats.ConstantInputWarning)
            warnings.simplefilter("ignore", stats.NearConstantInputWarning)
            return float(measure(labels, predictions).statistic)

    return correlation


def _f1(average: str) -> Metric:
    def f1(labels: np.ndarray, predictions: np.ndarray, groups: np.ndarray | None) -> float:
        # Without a predicted positive F1 is 0 by its definition 2 TP / (2 TP + FP + FN); sklearn would also warn.
        return float(metrics.f1_score(labels, predictions, average=average, zero_division=0.0))  # pyright: ignore[reportArgumentType]

    return f1


def _matthews(labels: np.ndarray, predictions: np.ndarray, groups: np.ndarray | None) -> float:
    with warnings.catch_warnings():
        # sklearn warns of a single label; the coefficient is 0 then.
        warnings.simplefilter("ignore", UserWarning)
        return float(metrics.matthews_corrcoef(labels, predictions))


def _exact_match(labels: np.ndarray, predictions: np.ndarray, groups: np.ndarray | None) -> float:
    return _share_of_groups(labels == predictions, groups)


def _parity(labels: np.ndarray, predictions: np.ndarray, groups: np.ndarray | None) -> float:
    if groups is None:
        return 1.0
    first = predictions[np.unique(groups, return_index=True)[1]]
    return _share_of_groups(predictions == first[np.unique(groups, return_inverse=True)[1]], groups)


def _share_of_groups(holds: np.ndarray, groups: np.ndarray | None) -> float:
    """Share of the groups in which it holds for every row."""
    if groups is None:
        return float(np.mean(holds))
    numbers = np.unique(groups, return_inverse=True)[1]
    return float(1 - np.mean(np.bincount(numbers, ~holds) > 0))


ANSWER_SCORES: dict[str, Callable[[Sequence[str], str], float]] = {
    "squad_em": squad_em,
    "squad_f1": squad_f1,
    "cmrc_em": cmrc_em,
    "cmrc_f1": cmrc_f1,
}
"""(right answers, prediction) -> score of a row whose answer is a text."""


def answer_scores(metric: str, labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Return a metric of ``ANSWER_SCORES`` of every row, float64 [rows].

    Args:
        labels: right answers with ``SEPARATOR`` between them, [rows].
        predictions: texts, [rows].
    """
    measure = ANSWER_SCORES[metric]
    pairs = zip(labels.tolist(), predictions.tolist(), strict=True)
    return np.array([measure(label.split(SEPARATOR), prediction) for label, prediction in pairs])


def _mean_of_answers(name: str) -> Metric:
    return lambda labels, predictions, groups: float(answer_scores(name, labels, predictions).mean())


METRICS: dict[str, Metric] = {
    "accuracy": lambda labels, predictions, groups: float(metrics.accuracy_score(labels, predictions)),
    "f1": _f1("binary"),
    "macro_f1": _f1("macro"),
    "matthews": _matthews,
    "pearson": _correlation(stats.pearsonr),
    "spearman": _correlation(stats.spearmanr),
    "exact_match": _exact_match,
    "parity": _parity,
    "pair_accuracy": lambda labels, predictions, groups: float(np.mean(predictions)),
    **{name: _mean_of_answers(name) for name in ANSWER_SCORES},
}
"""f1: of class 1. macro_f1: mean over the classes. exact_match: share of the groups (MultiRC: a question's answers)
without an error. parity: share of the groups (AX-g: two sentences that differ in a gender) with equal predictions.
pair_accuracy: of minimal pairs, whose predictions are 1, 0, or 1/2 for a tie. squad_*, cmrc_*: exact match and F1 of
answers that are texts."""
