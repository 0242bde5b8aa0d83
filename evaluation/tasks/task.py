"""Definition of an evaluation task as one row of data; reading, training and scoring have no code for single tasks."""

from collections.abc import Mapping
from dataclasses import dataclass, field

Column = str | int
"""A column's name in the header, or its index (from 0) where the file has no header."""


@dataclass(frozen=True)
class Table:
    """One tab-separated file of a task and the columns that are read from it."""

    file: str
    """Path below the data directory."""
    texts: tuple[Column, ...]
    """One column for single sentences, two for pairs."""
    label: Column | None = None
    """None where labels are not published."""
    index: Column | None = None
    """Column with the row number for the submission file; None counts rows from 0."""
    cells: int | None = None
    """Cells of each row of a file without a header; None: the first line is a header, and rows have as many cells."""
    hub_file: str | None = None
    """Path of the Parquet file in ``Task.hub.repository`` from which ``sesame fetch-glue`` makes this file."""


@dataclass(frozen=True)
class HubDataset:
    """Where a task is published on the Hugging Face hub, and its column and label names there."""

    repository: str
    texts: tuple[str, ...]
    """The hub's names of the columns ``Table.texts``, in the same order."""
    labels: tuple[str, ...] = ()
    """The label as written in the task's files, by the hub's class number; empty: the number itself."""


@dataclass(frozen=True)
class Task:
    """One task of a benchmark."""

    name: str
    metrics: tuple[str, ...]
    """Rows of the table in ``scores.py``; the task's score is their mean."""
    train: Table
    dev: Mapping[str, Table]
    """By prefix of the metric's name: "" for a single dev set, "m" and "mm" for MNLI."""
    test: Mapping[str, Table] = field(default_factory=dict)
    """By name of the submission file, without ".tsv"."""
    labels: tuple[str, ...] = ()
    """Classes as written in the files; class 1 is the positive class of F1. Empty: a regression."""
    span: tuple[float, float] = (0.0, 1.0)
    """Smallest and largest score of a regression; predictions are clipped to it."""
    broken_rows: bool = False
    """The official release has rows with missing cells: they are skipped and counted instead of being an error."""
    hub: HubDataset | None = None
    """None: ``sesame fetch-glue`` does not download this task."""

    @property
    def is_regression(self) -> bool:
        return not self.labels

    @property
    def outputs(self) -> int:
        """Number of outputs of the head: one for each class, or one for a regression."""
        return len(self.labels) or 1

    @property
    def tables(self) -> tuple[Table, ...]:
        """All files of the task: train, dev, test."""
        return (self.train, *self.dev.values(), *self.test.values())

    @property
    def score_names(self) -> tuple[str, ...]:
        """Every metric of every dev set: "accuracy", or "m accuracy" and "mm accuracy"."""
        return tuple(f"{prefix} {metric}".strip() for prefix in self.dev for metric in self.metrics)
