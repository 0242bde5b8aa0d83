"""Examples of a task's file: texts, labels, indices, and what else the task's row names."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sesame.configs.errors import TaskError
from sesame.data_pipeline.ragged import boundaries
from sesame.evaluation.reading.answers import Answers, read_answers
from sesame.evaluation.reading.candidates import read_choices, read_labels
from sesame.evaluation.reading.rows import CORRECT, MissingFileError, Row, read_rows
from sesame.evaluation.reading.spans import Range, read_spans
from sesame.evaluation.tasks.task import Column, Table, Task

__all__ = ["Examples", "MissingFileError", "read_table"]
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(nan|inf)", re.ASCII | re.IGNORECASE)


class Examples(NamedTuple):
    """The rows of one file."""

    texts: list[tuple[str, ...]]
    """One or two texts for each sequence; a row has one sequence, or one for each candidate."""
    labels: np.ndarray
    """int64 classes or candidates, float32 scores, or the right answers as text (``scores.SEPARATOR``), [rows]; empty
    where the file has none."""
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
    choices: list[str] | None = None
    """Of each sequence: the candidate; None: the answers are no texts."""
    right: np.ndarray | None = None
    """bool [sequences]: the candidate is right, where several of a row may be; None: the label says it."""
    gaps: list[Range] | None = None
    """Of each sequence: the candidate in the gap that it fills, around which the text is cut."""
    answer_ranges: list[tuple[int, int]] | None = None
    """Of each row: the first and the last character + 1 of the answer in the second text."""
    candidates: list[list[str]] | None = None
    """Of each row, which a decoder reads at once; None: there are none, or each is a sequence."""

    @property
    def starts(self) -> np.ndarray:
        """int64 [rows + 1]: the first sequence of each row."""
        return boundaries(np.array(self.counts or [1] * len(self.indices)))

    @property
    def group_numbers(self) -> np.ndarray | None:
        """int64 [rows]: rows with the same number are scored together; None: the file has no groups."""
        return None if self.groups is None else np.unique(np.array(self.groups), return_inverse=True)[1]

    def take(self, rows: np.ndarray) -> "Examples":
        """Select ``rows``, in their order, without the notes."""
        starts = self.starts
        sequences = [each for row in rows for each in range(starts[row], starts[row + 1])]

        def some(values: list[Any] | None, numbers: Iterable[int]) -> Any:
            return None if values is None else [values[number] for number in numbers]

        return Examples(
            some(self.texts, sequences),
            self.labels[rows] if len(self.labels) else self.labels,
            some(self.indices, rows),
            counts=some(self.counts, rows),
            spans=some(self.spans, sequences),
            groups=some(self.groups, rows),
            categories=some(self.categories, rows),
            choices=some(self.choices, sequences),
            right=None if self.right is None else self.right[sequences],
            gaps=some(self.gaps, sequences),
            answer_ranges=some(self.answer_ranges, rows),
            candidates=some(self.candidates, rows),
        )


def read_table(data_dir: Path, table: Table, task: Task) -> Examples:
    """Read one file of ``task``.

    Raises:
        MissingFileError: the file does not exist.
        TaskError: the file is empty or not UTF-8, lacks a column, or has a row with a wrong number of cells or an
            unknown label; the message names file and line.
    """
    reader = _Reader(table, task, read_labels(data_dir, table))
    skips = task.broken_rows and table not in task.test.values()
    for path in (data_dir / table.file, *(data_dir / file for file in table.also)):
        before = len(reader.indices)
        for row in read_rows(path, table):
            if isinstance(row, Row):
                reader.add(row)
            elif skips:
                reader.skipped += 1
            else:
                raise row
        if len(reader.indices) == before:
            raise TaskError(f"{path}: has no rows; {CORRECT}")
    return reader.examples()


class _Reader:
    """Collects the rows of a file."""

    def __init__(self, table: Table, task: Task, labels: dict[str, str] | None):
        self.table, self.task, self.label_of = table, task, labels
        self.texts: list[tuple[str, ...]] = []
        self.labels: list[int | float | str] = []
        self.indices: list[str] = []
        self.counts: list[int] = []
        self.spans: list[tuple[Range, ...]] = []
        self.groups: list[str] = []
        self.categories: list[tuple[str, ...]] = []
        self.choices: list[str] = []
        self.candidates: list[list[str]] = []
        self.right: list[bool] = []
        self.gaps: list[Range] = []
        self.answer_ranges: list[tuple[int, int]] = []
        self.skipped = self.ignored = self.moved = self.empty = self.unanswered = 0

    def add(self, row: Row) -> None:
        table, task = self.table, self.task
        label = self._label(row)
        if label in table.ignored_labels:
            self.ignored += 1
            return
        choices = read_choices(row, table) if table.choices else [""]
        answers = read_answers(row, table) if table.answers is not None else None
        if answers is not None and table.choices and table is task.train and not any(answers.are_right(choices)):
            self.unanswered += 1
            return
        # A decoder reads all candidates at once.
        read = choices if task.text is None else [""]
        texts = [tuple(self._text(row, text, choice, choices) for text in table.texts) for choice in read]
        if task.kind == "similarity":
            texts = [(text,) for text in texts[0]]
        if task.kind == "minimal_pairs":
            self.labels.append(0)
        elif label is not None:
            self.labels.append(_label(label, task, choices, row.place))
        elif answers is not None:
            self._add_answers(answers, choices, texts, row)
        self._add_places(row, choices, texts[0])
        if table.categories:
            self.categories.append(_categories(row, table))
        self.indices.append(self._index(row))
        self.empty += any(not text for each in texts for text in each)
        self.texts += texts
        self.counts.append(len(texts))

    def _index(self, row: Row) -> str:
        return row.text(self.table.index, self.table) if self.table.index is not None else str(len(self.indices))

    def _label(self, row: Row) -> str | None:
        """The label as written; None: the file has none, or its right answers are texts."""
        if self.label_of is None:
            return row.text(self.table.label, self.table) if self.table.label is not None else None
        index = self._index(row)
        if index not in self.label_of:
            raise TaskError(f"{row.place}: {self.table.labels_file} has no label for {index}; {CORRECT}")
        return self.label_of[index]

    def _text(self, row: Row, column: Column, choice: str, choices: list[str]) -> str:
        text = row.text(column, self.table, choice, choices)
        for pattern, replacement in self.table.replacements:
            text = re.sub(pattern, replacement, text)
        return text.strip()

    def _add_answers(self, answers: Answers, choices: list[str], texts: list[tuple[str, ...]], row: Row) -> None:
        self.labels.append(answers.label)
        if self.table.choices and self.task.text is None:
            self.right += answers.are_right(choices)
        elif self.task.kind == "extract":
            context = row.text(self.table.texts[1], self.table)
            first, end, moved = answers.range_in(texts[0][1], len(context) - len(context.lstrip()), row.place)
            self.answer_ranges.append((first, end))
            self.moved += moved

    def _add_places(self, row: Row, choices: list[str], texts: tuple[str, ...]) -> None:
        """Add the row's candidates, spans, gaps and group."""
        table = self.table
        if self.task.has_texts and table.choices and self.task.text is None:
            self.choices += choices
        elif self.task.has_texts and table.choices:
            self.candidates.append(choices)
        if table.spans:
            spans, moved = read_spans(row, table, texts)
            self.spans.append(spans)
            self.moved += moved > 0
        if table.blank is not None:
            column = table.texts.index(table.blank.column)
            self.gaps += [(column, *row.gap_of(table, choice)) for choice in choices]
        if table.group is not None:
            self.groups.append(row.text(table.group, table))
        elif table.group_size is not None:
            self.groups.append(str(len(self.indices) // table.group_size))
        elif table.groups_lines:
            self.groups.append(row.place)

    def examples(self) -> Examples:
        notes = {
            "skipped {} rows with missing cells, which the official release has": self.skipped,
            "left out {} rows whose label is " + ", ".join(map(repr, self.table.ignored_labels)): self.ignored,
            "{} rows have a span that is not at its published place; the nearest occurrence is used": self.moved,
            "left out {} rows whose right answer is not a candidate": self.unanswered,
            "{} rows have an empty text": self.empty,
        }
        return Examples(
            self.texts,
            np.array(self.labels, self._dtype),
            self.indices,
            self.skipped,
            self.counts if self.task.text is None and (max(self.counts) > 1 or self.table.choices) else None,
            self.spans if self.table.spans else None,
            self.groups or None,
            self.categories or None,
            tuple(f"{self.table.file}: {text.format(count)}" for text, count in notes.items() if count),
            self.choices or None,
            np.array(self.right, bool) if self.right else None,
            self.gaps or None,
            self.answer_ranges or None,
            self.candidates or None,
        )

    @property
    def _dtype(self) -> type:
        if self.task.has_texts:
            return np.str_
        return np.float32 if self.task.has_scores else np.int64


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
        raise TaskError(f"{place}: label '{text}' is not one of {len(choices)} candidates; {CORRECT}")
    return label


def _score(text: str, task: Task, place: str) -> float:
    lowest, highest = task.score_range
    if not NUMBER.fullmatch(text):
        raise TaskError(f"{place}: the score '{text}' is not a number; {CORRECT}")
    score = float(text)
    if not lowest <= score <= highest:
        raise TaskError(f"{place}: the score {text} is outside {lowest:g} to {highest:g}; {CORRECT}")
    return score
