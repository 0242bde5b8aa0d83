"""Comparison of a task's files with each other: the same file in two places, and a training set of one class."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sesame.configs.errors import TaskError
from sesame.evaluation.reading.tables import Examples
from sesame.evaluation.tasks.task import Task


def check_files(task: Task, data_dir: Path, files: Mapping[str, Examples]) -> list[str]:
    """Compare every two files of a task.

    Args:
        files: examples by file name.

    Returns:
        Notes about rows that two files share.

    Raises:
        TaskError: all rows of one file are in another.
    """
    notes = []
    rows = {name: set(_rows(examples)) for name, examples in files.items()}
    names = list(rows)
    # A test set may also be there with its labels (AX).
    labelled = {table.file for table in task.dev.values() if table.optional}
    test = {table.file for table in task.test.values()}
    for number, first in enumerate(names):
        for second in names[number + 1 :]:
            if {first, second} & labelled and {first, second} & test:
                continue
            small, large = sorted((first, second), key=lambda name: len(rows[name]))
            shared = rows[small] & rows[large]
            if len(shared) == len(rows[small]) > 1:
                raise TaskError(
                    f"{data_dir / small}: all of its rows are in {data_dir / large}, so one of the two is in the wrong "
                    "place; put both back, or fetch them again"
                )
            if shared:
                count = sum(row in shared for row in _rows(files[small]))
                notes.append(f"{count} of {len(files[small].indices)} rows of {small} are in {large}, too")
    return notes


def check_training_labels(task: Task, path: Path, labels: np.ndarray) -> None:
    """Raise TaskError if all training rows have the same label."""
    if task.kind in ("classify", "spans", "regress") and len(labels) and len(np.unique(labels)) == 1:
        label = f"{labels[0]:g}" if task.has_scores else task.labels[labels[0]]
        raise TaskError(
            f"{path}: every row to train on has the label '{label}', so there is nothing to learn; fetch the file again"
        )


def _rows(examples: Examples) -> list[tuple[str, ...]]:
    """The texts of each row's first sequence, with its spans."""
    starts = examples.starts[:-1]
    spans = examples.spans or [()] * len(starts)
    return [(*examples.texts[start], str(span)) for start, span in zip(starts, spans, strict=True)]
