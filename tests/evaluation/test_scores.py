"""Metrics compared with values computed by hand."""

import math

import numpy as np
import pytest

from sesame.evaluation.scores import METRICS, score
from sesame.evaluation.tasks import TASKS

LABELS = np.array([1, 1, 1, 0, 0])
PREDICTIONS = np.array([1, 1, 0, 0, 1])  # 2 true positives, 1 false negative, 1 true negative, 1 false positive


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("accuracy", 3 / 5),
        ("f1", 2 * 2 / (2 * 2 + 1 + 1)),
        ("matthews", (2 * 1 - 1 * 1) / math.sqrt(3 * 3 * 2 * 2)),
    ],
)
def test_classification(name: str, value: float) -> None:
    assert score(name, LABELS, PREDICTIONS) == pytest.approx(value, abs=1e-12)


def test_correlations() -> None:
    labels, predictions = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 3.0, 2.0, 10.0])
    # Deviations -1.5 -0.5 0.5 1.5 and -3 -1 -2 6: products 13, squares 5 and 50.
    assert score("pearson", labels, predictions) == pytest.approx(13 / math.sqrt(5 * 50), abs=1e-12)
    # Rank differences 0 1 1 0: 1 - 6 * 2 / (4 * 15).
    assert score("spearman", labels, predictions) == pytest.approx(1 - 12 / 60, abs=1e-12)


def test_a_correlation_with_a_constant_is_undefined() -> None:
    assert math.isnan(score("pearson", np.arange(3.0), np.ones(3)))
    assert math.isnan(score("spearman", np.arange(3.0), np.ones(3)))


def test_the_metrics_of_every_task_fit_its_labels() -> None:
    correlations = {"pearson", "spearman"}
    for task in TASKS.values():
        metrics = {metric for prefix in task.dev for metric in task.metrics_of(prefix)}
        assert metrics <= (correlations if task.has_scores else set(METRICS) - correlations)
        assert task.outputs == (len(task.labels) if task.kind in ("classify", "spans") else 1)
