"""The table of metrics. Each is a function of (labels, predictions) and returns a fraction: 1 is perfect.

A metric that is undefined for the predictions (a correlation with a constant) is NaN, and is reported as "undefined".
"""

import warnings
from collections.abc import Callable

import numpy as np
from scipy import stats
from sklearn import metrics

Metric = Callable[[np.ndarray, np.ndarray], float]


def _correlation(measure: Callable) -> Metric:
    def correlation(labels: np.ndarray, predictions: np.ndarray) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", stats.ConstantInputWarning)
            return float(measure(labels, predictions).statistic)

    return correlation


def _f1(labels: np.ndarray, predictions: np.ndarray) -> float:
    # Without a predicted positive F1 is 0 by its definition 2 TP / (2 TP + FP + FN); sklearn would also warn.
    return float(metrics.f1_score(labels, predictions, zero_division=0.0))  # pyright: ignore[reportArgumentType]


METRICS: dict[str, Metric] = {
    "accuracy": lambda labels, predictions: float(metrics.accuracy_score(labels, predictions)),
    "f1": _f1,
    "matthews": lambda labels, predictions: float(metrics.matthews_corrcoef(labels, predictions)),
    "pearson": _correlation(stats.pearsonr),
    "spearman": _correlation(stats.spearmanr),
}
