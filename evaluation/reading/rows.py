"""Rows of a task's file, by line: tab-separated cells, or JSON lines with nested fields.

The tab-separated files are not CSV: quotes are text, and the only line end is "\\n" (some sentences contain other
separators).
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sesame.configs.errors import TaskError
from sesame.evaluation.tasks.task import FIELD, Column, Table

COMPARE = "compare the file with the official release"


class MissingFileError(TaskError):
    """A file of a task does not exist; a suite skips the task unless ``suite.required`` is set."""


class BrokenRowError(TaskError):
    """A row has too few or too many cells."""


class Row(NamedTuple):
    """One row of a file."""

    place: str
    """File and line, for messages."""
    read: Callable[[Column], Any]
    """A column's value: a string, or in JSON any value."""

    def text(self, column: Column, table: Table, choice: str = "") -> str:
        """Return a column's value as text, or a template with its columns filled in.

        Raises:
            TaskError: the value is not text or a number.
        """
        if not isinstance(column, str) or "{" not in column:
            return self._text(column)
        values = {"choice": choice}

        def value(match: Any) -> str:
            name = match[1]
            found = values[name] if name in values else self._text(name)
            return table.words.get(found, found)

        return FIELD.sub(value, column)

    def _text(self, column: Column) -> str:
        value = self.read(column)
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
            return " ".join(value)
        if not isinstance(value, str | int | float):
            raise TaskError(f"{self.place}: '{column}' is neither text nor a number; {COMPARE}")
        return str(value)


def read_rows(path: Path, table: Table) -> Iterator[Row | BrokenRowError]:
    """Yield the rows of a file; a row with a wrong number of cells is yielded as its error.

    Raises:
        MissingFileError: the file does not exist.
        TaskError: it is a folder or not UTF-8, its header lacks a column, or a line is not a JSON object.
    """
    return _json_rows(path, table) if table.is_json else _tsv_rows(path, table)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number from 1, line without its end)."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise MissingFileError(
            f"{path}: no such file; the data directory must have the layout of the official files"
        ) from None
    except IsADirectoryError:
        raise TaskError(f"{path}: is a folder where a file is needed; {COMPARE}") from None
    with file:
        for number, line in enumerate(file, 1):
            try:
                # MRPC's official files start with a byte order mark.
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                raise TaskError(f"{path}, line {number}: not valid UTF-8; fetch the file again") from None
            yield number, text.removesuffix("\n").removesuffix("\r")


def _tsv_rows(path: Path, table: Table) -> Iterator[Row | BrokenRowError]:
    lines = _lines(path)
    columns, cells = _header(path, table, lines)
    for number, line in lines:
        row, place = line.split("\t"), f"{path}, line {number}"
        if len(row) == cells:
            yield Row(place, lambda column, row=row: row[columns[column]].strip())
        else:
            yield BrokenRowError(f"{place}: has {len(row)} tab-separated cells where {cells} are expected; {COMPARE}")


def _header(path: Path, table: Table, lines: Iterator[tuple[int, str]]) -> tuple[dict[Column, int], int]:
    """(position of each column that is read, cells of a row); consumes the header of ``lines`` if there is one."""
    if table.cells is not None:
        return {name: int(name) for name in table.columns}, table.cells
    _, first = next(lines, (1, ""))
    header = first.split("\t")
    for name in table.columns:
        count = header.count(str(name))
        if count != 1:
            wrong = f"has no column '{name}'" if not count else f"has the column '{name}' {count} times"
            raise TaskError(f"{path}, line 1: the header {wrong}; it reads {', '.join(header)!r}; {COMPARE}")
    positions = {name: header.index(str(name)) for name in table.columns}
    texts = [positions[text] for text in table.texts if text in positions]
    if texts != sorted(texts):
        names = " and ".join(f"'{text}'" for text in table.texts)
        raise TaskError(f"{path}, line 1: the columns {names} are in the wrong order in the header; {COMPARE}")
    return positions, len(header)


def _json_rows(path: Path, table: Table) -> Iterator[Row]:
    for number, line in _lines(path):
        place = f"{path}, line {number}"
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            raise TaskError(f"{place}: not JSON; {COMPARE}") from None
        if not isinstance(record, dict):
            raise TaskError(f"{place}: not a JSON object; {COMPARE}")
        for entries in _entries(record, table.each, place):
            yield Row(place, lambda column, record=record, entries=entries, place=place: _walk(
                record, str(column), entries, place
            ))  # fmt: skip


def _entries(record: Any, each: str | None, place: str) -> Iterator[tuple[int, ...]]:
    """The numbers of each row's entries in the lists of ``each``, from the outermost list on."""
    if each is None:
        yield ()
        return
    outer, star, _ = each.rpartition(".*.")
    for entries in _entries(record, outer or None, place) if star else [()]:
        values = _walk(record, each, entries, place)
        if not isinstance(values, list):
            raise TaskError(f"{place}: '{each}' is not a list; {COMPARE}")
        yield from ((*entries, number) for number in range(len(values)))


def _walk(value: Any, path: str, entries: tuple[int, ...], place: str) -> Any:
    remaining = iter(entries)
    for name in path.split("."):
        try:
            value = value[next(remaining)] if name == "*" else value[name]
        except (KeyError, IndexError, TypeError):
            raise TaskError(f"{place}: has no '{path}'; {COMPARE}") from None
    return value
