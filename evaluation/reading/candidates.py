"""Candidates of a row, and labels that are in a file of their own."""

from pathlib import Path
from typing import Any

from sesame.configs.errors import TaskError
from sesame.configs.strict_json import read_json_object
from sesame.evaluation.reading.rows import CORRECT, MissingFileError, Row
from sesame.evaluation.tasks.task import Table


def read_choices(row: Row, table: Table) -> list[str]:
    """Read the candidates of a row: texts, or ranges of a text, of which equal ones are one candidate.

    Raises:
        TaskError: they are neither.
    """
    values = [row.read(column) for column in table.choices]
    entries: list[Any] = values[0] if len(values) == 1 and isinstance(values[0], list) else values
    if table.choices_in is not None:
        entries = _cut(row, table, entries)
    if not entries or not all(isinstance(entry, str) for entry in entries):
        raise TaskError(f"{row.place}: '{table.choices[0]}' is not a list of texts; {CORRECT}")
    return [entry.strip() for entry in entries]


def read_labels(data_dir: Path, table: Table) -> dict[str, str] | None:
    """Read the labels by index of ``Table.labels_file``; None: the table has none.

    Raises:
        MissingFileError: the file does not exist.
        TaskError: it is not a JSON object of numbers or texts.
    """
    if table.labels_file is None:
        return None
    path = data_dir / table.labels_file
    if not path.exists():
        raise MissingFileError(f"{path}: no such file; it has the labels of {table.file}")
    values = read_json_object(path, TaskError, CORRECT)
    if not all(_is_label(value) for value in values.values()):
        raise TaskError(f"{path}: is not a JSON object from index to label; {CORRECT}")
    return {index: str(value) for index, value in values.items()}


def _is_label(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _cut(row: Row, table: Table, ranges: list[Any]) -> list[str]:
    """The distinct texts in ranges of ``choices_in``, whose "end" is the last character, in alphabetical order."""
    assert table.choices_in is not None
    text, found = row.text(table.choices_in, table), set()
    for each in ranges:
        start, end = (each.get("start"), each.get("end")) if isinstance(each, dict) else (None, None)
        if not isinstance(start, int) or not isinstance(end, int) or not 0 <= start <= end < len(text):
            raise TaskError(f"{row.place}: the range {each!r} is outside a text of {len(text)} characters; {CORRECT}")
        found.add(text[start : end + 1].strip())
    return sorted(found)
