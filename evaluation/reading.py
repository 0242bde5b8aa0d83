"""Tab-separated files -> texts and labels, and predictions -> submission files.

The files are not CSV: quotes are text, and the only line end is "\\n" (some sentences hold other separators).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from configs.errors import TaskError
from evaluation.tasks.task import Column, Table, Task


class MissingFileError(TaskError):
    """A file of a task is not there; the suite goes on without the task and says so."""


class Examples(NamedTuple):
    """The rows of one file."""

    texts: list[tuple[str, ...]]
    """One or two texts each."""
    labels: np.ndarray
    """int64 classes or float32 scores, [rows]; empty where the file has none."""
    indices: list[str]
    """As the submission file wants them."""
    left_out: int
    """Rows that the release itself broke, for tasks that are known for it."""


def read_table(data_dir: Path, table: Table, task: Task) -> Examples:
    """Read one file of ``task``.

    Raises:
        TaskError: the file is missing, empty or not UTF-8, lacks a column, or has a row with another number of
            cells or with an unknown label; with file and line.
    """
    path = data_dir / table.file
    lines = _lines(path)
    columns, cells = _columns(path, table, lines)
    texts, labels, indices, left_out = [], [], [], 0
    for number, line in lines:
        row = line.split("\t")
        if len(row) != cells:
            if task.broken_rows:
                left_out += 1
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
    return Examples(texts, np.array(labels, np.int64 if task.labels else np.float32), indices, left_out)


def write_predictions(path: Path, task: Task, indices: Sequence[str], predictions: np.ndarray) -> None:
    """Write the file that gluebenchmark.com takes: "index<TAB>prediction", labels as in the training file.

    Args:
        predictions: classes int64 [rows], or scores float [rows], which are clipped to the task's span.
    """
    values = [task.labels[label] for label in predictions] if task.labels else _scores(predictions, task.span)
    rows = [f"{index}\t{value}" for index, value in zip(indices, values, strict=True)]
    write_whole(path, "\n".join(["index\tprediction", *rows, ""]))


def write_whole(path: Path, text: str) -> None:
    """Write aside and rename, so that a reader sees the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.partial")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number from 1, line without its end)."""
    number = 0
    try:
        # utf-8-sig: MRPC's official files start with a byte order mark.
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            for number, line in enumerate(file, 1):
                yield number, line.removesuffix("\n").removesuffix("\r")
    except FileNotFoundError:
        raise MissingFileError(f"{path}: no such file; the data directory must hold the official GLUE layout") from None
    except UnicodeDecodeError:
        raise TaskError(f"{path}, after line {number}: not valid UTF-8; fetch the file again") from None


def _columns(path: Path, table: Table, lines: Iterator[tuple[int, str]]) -> tuple[dict[Column, int], int]:
    """(place of each column that is read, cells of a row); takes the header off ``lines`` if there is one."""
    wanted = [name for name in (*table.texts, table.label, table.index) if name is not None]
    if table.cells is not None:
        return {name: int(name) for name in wanted}, table.cells
    _, first = next(lines, (1, ""))
    header = first.split("\t")
    missing = [str(name) for name in wanted if name not in header]
    if missing:
        raise TaskError(
            f"{path}, line 1: the header has no column '{missing[0]}'; it reads {', '.join(header)!r}; "
            "compare the file with the official release"
        )
    return {name: header.index(str(name)) for name in wanted}, len(header)


def _label(text: str, task: Task, place: str) -> int | float:
    if task.labels:
        if text not in task.labels:
            raise TaskError(f"{place}: unknown label '{text}'; {task.name} has {', '.join(task.labels)}")
        return task.labels.index(text)
    lowest, highest = task.span
    try:
        score = float(text)
    except ValueError:
        raise TaskError(f"{place}: the score '{text}' is not a number") from None
    if not lowest <= score <= highest:
        raise TaskError(f"{place}: the score {text} is outside {lowest:g} to {highest:g}")
    return score


def _scores(predictions: np.ndarray, span: tuple[float, float]) -> list[str]:
    return [f"{score:.3f}" for score in np.clip(predictions, *span)]
