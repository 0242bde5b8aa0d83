"""Metrics compared with values computed by hand."""

import math

import numpy as np
import pytest

from sesame.evaluation.scores import ANSWER_SCORES, METRICS, score
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
        of_texts, of_classes = set(ANSWER_SCORES), set(METRICS) - correlations - set(ANSWER_SCORES)
        assert metrics <= (correlations if task.has_scores else of_texts if task.has_texts else of_classes)
        outputs = {"classify": len(task.labels), "spans": len(task.labels), "extract": 2}
        assert task.outputs == outputs.get(task.kind, 1)


@pytest.mark.parametrize("classes", [2, 3])
def test_classification_equals_scikit_learn_on_random_and_degenerate_input(classes: int) -> None:
    """Computed from the confusion matrix, with constant labels and predictions among the draws."""
    generator = np.random.default_rng(classes)
    for draw in range(60):
        rows = int(generator.integers(1, 40))
        labels, predictions = generator.integers(classes, size=(2, rows))
        labels, predictions = (labels * (draw % 5 > 0)), (predictions * (draw % 7 > 0))
        matrix = np.zeros((classes, classes))
        np.add.at(matrix, (labels, predictions), 1)
        predicted, actual, right = matrix.sum(0), matrix.sum(1), np.diag(matrix)
        present = predicted + actual > 0
        f1 = 2 * right[present] / (predicted + actual)[present]
        square = (rows**2 - predicted @ predicted) * (rows**2 - actual @ actual)
        expected = {
            "accuracy": right.sum() / rows,
            "macro_f1": f1.mean(),
            "matthews": (right.sum() * rows - predicted @ actual) / math.sqrt(square) if square else 0.0,
        }
        if classes == 2:
            expected["f1"] = 2 * matrix[1, 1] / (predicted[1] + actual[1]) if predicted[1] + actual[1] else 0.0
        for name, value in expected.items():
            assert score(name, labels, predictions) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("rows", [1, 2, 40])
@pytest.mark.parametrize("classes", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 5, 40])
def test_groups_are_scored_as_in_plain_python(rows: int, classes: int, count: int) -> None:
    """With one class, one group, groups of one row, and in any order of the rows."""
    generator = np.random.default_rng(rows + 10 * classes + 100 * count)
    for _ in range(20):
        labels, predictions = generator.integers(classes, size=(2, rows))
        groups = generator.integers(count, size=rows)
        members: dict[int, list[int]] = {}
        for row, group in enumerate(groups.tolist()):
            members.setdefault(group, []).append(row)
        right = [all(labels[row] == predictions[row] for row in some) for some in members.values()]
        equal = [len({int(predictions[row]) for row in some}) == 1 for some in members.values()]
        assert score("exact_match", labels, predictions, groups) == pytest.approx(sum(right) / len(right))
        assert score("parity", labels, predictions, groups) == pytest.approx(sum(equal) / len(equal))


def test_exact_match_and_parity_are_shares_of_groups() -> None:
    """Exact match needs every row of a group to be right, parity only equal predictions."""
    labels, predictions = np.array([1, 0, 1, 1, 0, 0]), np.array([1, 0, 0, 0, 0, 1])
    groups = np.array([4, 4, 7, 7, 9, 9])
    assert score("exact_match", labels, predictions, groups) == pytest.approx(1 / 3)
    assert score("parity", labels, predictions, groups) == pytest.approx(1 / 3)
    assert score("exact_match", labels, predictions) == pytest.approx(3 / 6)


def test_a_tie_of_a_minimal_pair_is_half_right() -> None:
    assert score("pair_accuracy", np.zeros(4), np.array([1, 0, 0.5, 1])) == pytest.approx(2.5 / 4)
