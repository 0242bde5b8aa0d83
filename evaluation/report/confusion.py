"""Confusion matrices: how often rows of each class were given each class."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sesame.evaluation.finetuning.answers import answers
from sesame.evaluation.finetuning.encoding import TaskData
from sesame.evaluation.results.result import Result

MOST_CLASSES = 20
"""Of a matrix that is shown whole; of a larger one, the pairs that are confused most often."""


class Confusion(NamedTuple):
    """Rows of one dev set by class and prediction."""

    prefix: str
    """Of the dev set."""
    model: str
    labels: tuple[str, ...]
    counts: np.ndarray
    """float64 [classes, classes]: rows of a class (first axis) with a prediction, the mean over seeds."""

    @property
    def shares(self) -> np.ndarray:
        """The same as shares of the rows of a class; 0 for a class without rows."""
        totals = self.counts.sum(1, keepdims=True)
        return np.divide(self.counts, totals, out=np.zeros_like(self.counts), where=totals > 0)

    def most_confused(self, number: int = 10) -> list[tuple[str, str, float]]:
        """Return (class, prediction, rows) of the wrong pairs, the most frequent first."""
        wrong = self.counts * (1 - np.eye(len(self.counts)))
        order = np.argsort(-wrong, axis=None, kind="stable")[:number]
        pairs = [tuple(map(int, np.unravel_index(place, wrong.shape))) for place in order]
        return [(self.labels[a], self.labels[b], float(wrong[a, b])) for a, b in pairs if wrong[a, b] > 0]


def confusions(data: TaskData, results: Sequence[Result]) -> list[Confusion]:
    """Return a matrix for each dev set and model of a task with classes."""
    labels, found = data.task.labels, []
    if data.task.kind not in ("classify", "spans"):
        return []
    for prefix, dev in data.dev.items():
        by_model: dict[str, list[np.ndarray]] = {}
        for result in results:
            if result.task == data.task.name and result.outputs:
                flat = dev.labels * len(labels) + answers(data.task, dev, result.outputs[prefix])
                counts = np.bincount(flat.astype(np.int64), minlength=len(labels) ** 2)
                by_model.setdefault(result.model, []).append(counts.reshape(len(labels), -1))
        found += [Confusion(prefix, model, labels, np.mean(each, axis=0)) for model, each in by_model.items()]
    return found
