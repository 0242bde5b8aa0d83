"""Reader of a task's tab-separated files, and writer of submission files.

The files are not CSV: quotes are text, and the only line end is "\\n" (some sentences contain other separators).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sesame.configs.errors import TaskError
from sesame.configs.storage import write_text
from sesame.evaluation.tasks.task import Column, Table, Task


class MissingFileError(TaskError):
    """A file of a task does not exist; a suite skips the task unless ``suite.required`` is set."""


class Examples(NamedTuple):
    """The rows of one file."""

    texts: list[tuple[str, ...]]
    """One or two texts each."""
    labels: np.ndarray
    """int64 classes or float32 scores, [rows]; empty where the file has none."""
    indices: list[str]
    """Row numbers for the submission file."""
    skipped: int
    """Number of skipped rows, for tasks with ``broken_rows``."""


def read_table(data_dir: Path, table: Table, task: Task) -> Examples:
    """Read one file of ``task``.

    Raises:
        MissingFileError: the file does not exist.
        TaskError: the file is empty or not UTF-8, lacks a column, or has a row with a wrong number of cells or an
            unknown label; the message names file and line.
    """
    path = data_dir / table.file
    lines = _lines(path)
    columns, cells = _columns(path, table, lines)
    texts, labels, indices, skipped = [], [], [], 0
    for number, line in lines:
        row = line.split("\t")
        if len(row) != cells:
            if task.broken_rows:
                skipped += 1
                continue
            raise TaskError(
                f"{path}, line {number}: has {len(row)} tab-separated cells where {cells} are expected; "
                "compare the file with the official release"
            )
        texts.append(tuple(row[columns[name]].strip() for name in table.texts))
        if table.label is not None:
            labels.append(_label(row[columns[table.label]].strip(), task, f"{path}, line {number}"))
        indices.append(row[columns[table.index]] if table.index is not None else str(len(indices)))
    if not texts:
        raise TaskError(f"{path}: has no rows; fetch it again from the official release")
    return Examples(texts, np.array(labels, np.float32 if task.is_regression else np.int64), indices, skipped)


def write_predictions(path: Path, task: Task, indices: Sequence[str], predictions: np.ndarray) -> None:
    """Write a submission file for gluebenchmark.com: "index<TAB>prediction", labels as in the training file.

    Args:
        predictions: classes int64 [rows], or scores float [rows], which are clipped to the task's span.
    """
    if task.is_regression:
        values = [f"{score:.3f}" for score in np.clip(predictions, *task.span)]
    else:
        values = [task.labels[label] for label in predictions]
    rows = [f"{index}\t{value}" for index, value in zip(indices, values, strict=True)]
    write_text(path, "\n".join(["index\tprediction", *rows, ""]))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number from 1, line without its end)."""
    number = 0
    try:
        # utf-8-sig: MRPC's official files start with a byte order mark.
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            for number, line in enumerate(file, 1):
                yield number, line.removesuffix("\n").removesuffix("\r")
    except FileNotFoundError:
        raise MissingFileError(
            f"{path}: no such file; the data directory must have the layout of the official GLUE files"
        ) from None
    except UnicodeDecodeError:
        raise TaskError(f"{path}, after line {number}: not valid UTF-8; fetch the file again") from None


def _columns(path: Path, table: Table, lines: Iterator[tuple[int, str]]) -> tuple[dict[Column, int], int]:
    """(position of each column that is read, cells of a row); consumes the header of ``lines`` if there is one."""
    columns = [name for name in (*table.texts, table.label, table.index) if name is not None]
    if table.cells is not None:
        return {name: int(name) for name in columns}, table.cells
    _, first = next(lines, (1, ""))
    header = first.split("\t")
    missing = [str(name) for name in columns if name not in header]
    if missing:
        raise TaskError(
            f"{path}, line 1: the header has no column '{missing[0]}'; it reads {', '.join(header)!r}; "
            "compare the file with the official release"
        )
    return {name: header.index(str(name)) for name in columns}, len(header)


def _label(text: str, task: Task, location: str) -> int | float:
    if not task.is_regression:
        if text not in task.labels:
            raise TaskError(f"{location}: unknown label '{text}'; {task.name} has {', '.join(task.labels)}")
        return task.labels.index(text)
    lowest, highest = task.span
    try:
        score = float(text)
    except ValueError:
        raise TaskError(f"{location}: the score '{text}' is not a number") from None
    if not lowest <= score <= highest:
        raise TaskError(f"{location}: the score {text} is outside {lowest:g} to {highest:g}")
    return score
