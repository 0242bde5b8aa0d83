"""What a task is: a row of data. The code that reads, trains and scores knows no task by name."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Column = str | int
"""A column's name in the header, or its index (from 0) where the file has no header."""


@dataclass(frozen=True)
class Table:
    """One tab-separated file of a task and the columns that are read from it."""

    file: str
    """Below the data directory."""
    texts: tuple[Column, ...]
    """One column for single sentences, two for pairs."""
    label: Column | None = None
    """None where labels are not published."""
    index: Column | None = None
    """The row's number in a submission file; None counts rows from 0."""
    cells: int | None = None
    """Cells of each row of a file without header; None: the first line is a header and says how many."""


@dataclass(frozen=True)
class Task:
    """One line of a benchmark."""

    name: str
    kind: Literal["classification", "regression"]
    metrics: tuple[str, ...]
    """Rows of the table in ``scores.py``; the task's score is their mean."""
    train: Table
    dev: Mapping[str, Table]
    """By suffix of the metric's name: "" for the only one, "m" and "mm" for MNLI."""
    test: Mapping[str, Table] = field(default_factory=dict)
    """By name of the submission file, without ".tsv"."""
    labels: tuple[str, ...] = ()
    """As written in the files; class 1 is the positive one of F1. Empty for a regression."""
    span: tuple[float, float] = (0.0, 1.0)
    """Smallest and largest score of a regression; predictions are clipped to it."""
    broken_rows: bool = False
    """The release itself has rows with missing cells: they are left out and counted instead of refused."""

    @property
    def outputs(self) -> int:
        """Width of the head: a class each, or one number."""
        return len(self.labels) or 1

    @property
    def score_names(self) -> tuple[str, ...]:
        """Every metric of every dev set: "accuracy", or "m accuracy" and "mm accuracy"."""
        return tuple(f"{suffix} {metric}".strip() for suffix in self.dev for metric in self.metrics)
