"""Examples of a task's file: texts, labels, indices, and what else the task's row names."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sesame.configs.errors import TaskError
from sesame.evaluation.reading.rows import COMPARE, MissingFileError, Row, read_rows
from sesame.evaluation.reading.spans import Range, read_spans
from sesame.evaluation.tasks.task import Table, Task

__all__ = ["Examples", "MissingFileError", "read_table"]
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(nan|inf)", re.ASCII | re.IGNORECASE)


class Examples(NamedTuple):
    """The rows of one file."""

    texts: list[tuple[str, ...]]
    """One or two texts for each sequence; a row has one sequence, or one for each candidate."""
    labels: np.ndarray
    """int64 classes or candidates, or float32 scores, [rows]; empty where the file has none."""
    indices: list[str]
    """The rows' names in the file of predictions."""
    skipped: int = 0
    """Number of skipped rows, for tasks with ``broken_rows``."""
    counts: list[int] | None = None
    """Sequences of each row; None: one."""
    spans: list[tuple[Range, ...]] | None = None
    """Of each sequence; None: the task has none."""
    groups: list[str] | None = None
    """Of each row: rows with the same value are scored together; None: the file has no groups."""
    categories: list[tuple[str, ...]] | None = None
    """Of each row, for scores by category; None: the file has none."""
    notes: tuple[str, ...] = ()
    """Remarks for the report."""


def read_table(data_dir: Path, table: Table, task: Task) -> Examples:
    """Read one file of ``task``.

    Raises:
        MissingFileError: the file does not exist.
        TaskError: the file is empty or not UTF-8, lacks a column, or has a row with a wrong number of cells or an
            unknown label; the message names file and line.
    """
    path = data_dir / table.file
    reader = _Reader(table, task)
    skips = task.broken_rows and table not in task.test.values()
    for row in read_rows(path, table):
        if isinstance(row, Row):
            reader.add(row)
        elif skips:
            reader.skipped += 1
        else:
            raise row
    if not reader.indices:
        raise TaskError(f"{path}: has no rows; fetch it again from the official release")
    return reader.examples()


class _Reader:
    """Collects the rows of a file."""

    def __init__(self, table: Table, task: Task):
        self.table, self.task = table, task
        self.texts: list[tuple[str, ...]] = []
        self.labels: list[int | float] = []
        self.indices: list[str] = []
        self.counts: list[int] = []
        self.spans: list[tuple[Range, ...]] = []
        self.groups: list[str] = []
        self.categories: list[tuple[str, ...]] = []
        self.skipped = self.ignored = self.moved = self.empty = 0

    def add(self, row: Row) -> None:
        table = self.table
        label = row.text(table.label, table) if table.label is not None else None
        if label in table.ignored_labels:
            self.ignored += 1
            return
        choices = list(_choices(row, table)) if table.choices else [""]
        texts = [tuple(row.text(text, table, choice).strip() for text in table.texts) for choice in choices]
        if self.task.kind == "similarity":
            texts = [(text,) for text in texts[0]]
        if self.task.kind == "minimal_pairs":
            self.labels.append(0)
        elif label is not None:
            self.labels.append(_label(label, self.task, choices, row.place))
        if table.spans:
            spans, moved = read_spans(row, table, texts[0])
            self.spans.append(spans)
            self.moved += moved > 0
        if table.group is not None:
            self.groups.append(row.text(table.group, table))
        elif table.group_size is not None:
            self.groups.append(str(len(self.indices) // table.group_size))
        if table.categories:
            self.categories.append(_categories(row, table))
        self.indices.append(row.text(table.index, table) if table.index is not None else str(len(self.indices)))
        self.empty += any(not text for each in texts for text in each)
        self.texts += texts
        self.counts.append(len(texts))

    def examples(self) -> Examples:
        notes = {
            "skipped {} rows with missing cells, which the official release has": self.skipped,
            "left out {} rows whose label is " + ", ".join(map(repr, self.table.ignored_labels)): self.ignored,
            "{} rows have a span that is not at its published place; the nearest occurrence is used": self.moved,
            "{} rows have an empty text": self.empty,
        }
        return Examples(
            self.texts,
            np.array(self.labels, np.float32 if self.task.has_scores else np.int64),
            self.indices,
            self.skipped,
            self.counts if max(self.counts) > 1 or self.table.choices else None,
            self.spans if self.table.spans else None,
            self.groups or None,
            self.categories or None,
            tuple(f"{self.table.file}: {text.format(count)}" for text, count in notes.items() if count),
        )


def _choices(row: Row, table: Table) -> Iterator[str]:
    values = [row.read(column) for column in table.choices]
    entries: list[Any] = values[0] if len(values) == 1 and isinstance(values[0], list) else values
    if not entries or not all(isinstance(entry, str) for entry in entries):
        raise TaskError(f"{row.place}: '{table.choices[0]}' is not a list of texts; {COMPARE}")
    yield from (entry.strip() for entry in entries)


def _categories(row: Row, table: Table) -> tuple[str, ...]:
    if len(table.categories) == 1:
        return (row.text(table.categories[0], table),)
    return tuple(str(column) for column in table.categories if row.has(column))


def _label(text: str, task: Task, choices: list[str], place: str) -> int | float:
    if task.has_scores:
        return _score(text, task, place)
    # A candidate is named by its number, by a name in the table, or by its own text (C3).
    labels = task.labels or tuple(choices if text in choices else map(str, range(len(choices))))
    if text not in labels:
        raise TaskError(f"{place}: unknown label '{text}'; {task.name} has {', '.join(labels)}")
    label = labels.index(text)
    if task.kind in ("choose", "minimal_pairs") and label >= len(choices):
        raise TaskError(f"{place}: label '{text}' is not one of {len(choices)} candidates; {COMPARE}")
    return label


def _score(text: str, task: Task, place: str) -> float:
    lowest, highest = task.score_range
    if not NUMBER.fullmatch(text):
        raise TaskError(f"{place}: the score '{text}' is not a number")
    score = float(text)
    if not lowest <= score <= highest:
        raise TaskError(f"{place}: the score {text} is outside {lowest:g} to {highest:g}")
    return score
