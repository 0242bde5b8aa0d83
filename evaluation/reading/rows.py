"""Rows of a task's file, by line: tab-separated cells, or JSON lines with nested fields.

The tab-separated files are not CSV: quotes are text, and the only line end is "\\n" (some sentences contain other
separators).
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple

from sesame.configs.errors import TaskError
from sesame.configs.storage import digest
from sesame.configs.strict_json import unique_keys
from sesame.data_pipeline.sources.streams import DAMAGED, open_binary
from sesame.evaluation.tasks.task import FIELD, Column, Table, Task

OTHER_GAP = "____"
"""What stands in a text for the gaps that another row asks for."""
CORRECT = "correct the file, or fetch it again"


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
    gap: int = 0
    """Which gap of the text of ``Table.blank`` the row asks for."""

    def text(self, column: Column, table: Table, choice: str = "", choices: Sequence[str] = ()) -> str:
        """Return a column's value as text, or a template with its columns filled in.

        Args:
            choice: the candidate, which also fills the row's gap.
            choices: all candidates.

        Raises:
            TaskError: the value is not text or a number.
        """
        if not isinstance(column, str) or "{" not in column:
            return self._filled(column, table, choice)
        values = {"choice": lambda: choice, "choices": lambda: ", ".join(choices), "blank": lambda: self._mark(table)}

        def value(match: Any) -> str:
            name = match[1]
            found = values[name]() if name in values else self._filled(name, table, choice)
            return table.words.get(found, found)

        return FIELD.sub(value, column)

    def gap_of(self, table: Table, choice: str) -> tuple[int, int]:
        """Return (first character, the one after the last) of the candidate in the text whose gap it fills."""
        first = len(self._parts(table)[0].lstrip())
        return first, first + len(choice)

    def has(self, column: Column) -> bool:
        """Return whether the row has a column, and something in it."""
        try:
            return bool(self.read(column))
        except TaskError:
            return False

    def _filled(self, column: Column, table: Table, choice: str) -> str:
        if table.blank is None or column != table.blank.column or not choice:
            return self._text(column)
        before, _, after = self._parts(table)
        return before + choice + after

    def _mark(self, table: Table) -> str:
        return self._parts(table)[1]

    def _parts(self, table: Table) -> tuple[str, str, str]:
        """The text before the row's gap, the gap's mark, and the text after it."""
        assert table.blank is not None
        text = self._text(table.blank.column)
        gap = list(re.finditer(table.blank.pattern, text))[self.gap]
        others = [re.sub(table.blank.pattern, OTHER_GAP, part) for part in (text[: gap.start()], text[gap.end() :])]
        return others[0], gap[0], others[1]

    def _text(self, column: Column) -> str:
        value = self.read(column)
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
            return " ".join(value)
        if not isinstance(value, str | int | float):
            raise TaskError(f"{self.place}: '{column}' is neither text nor a number; {CORRECT}")
        return str(value)


def read_rows(path: Path, table: Table) -> Iterator[Row | BrokenRowError]:
    """Yield the rows of a file; a row with a wrong number of cells is yielded as its error.

    Raises:
        MissingFileError: the file does not exist.
        TaskError: it is a folder, damaged or not UTF-8, its header lacks a column, or a line is not a JSON object.
    """
    for row in _json_rows(path, table) if table.is_json else _tsv_rows(path, table):
        if table.blank is None or not isinstance(row, Row):
            yield row
        else:
            gaps = len(re.findall(table.blank.pattern, row.text(table.blank.column, table)))
            yield from (row._replace(gap=gap) for gap in range(gaps))


def stored(path: Path) -> Path:
    """Return ``path``, or that of the compressed file if only that is there."""
    compressed = path.with_name(f"{path.name}.zst")
    return compressed if compressed.exists() and not path.exists() else path


def checksums(tasks: Iterable[Task], data_dir: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of the tasks that is there, by its path below the data directory."""
    names = dict.fromkeys(name for task in tasks for table in task.tables for name in table.files)
    paths = {name: stored(data_dir / name) for name in names}
    return {name: digest(path) for name, path in paths.items() if path.is_file()}


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number from 1, line without its end); of ``path`` with the ending .zst if there is no such file."""
    found = stored(path)
    if found.exists() and not found.is_file() and not found.is_dir():
        raise TaskError(f"{path}: is a pipe or a device where a file is needed; {CORRECT}")
    try:
        file = path.open("rb") if found == path else open_binary(str(found))
    except FileNotFoundError:
        raise MissingFileError(
            f"{path}: no such file; the data directory must have the layout of the official files"
        ) from None
    except IsADirectoryError:
        raise TaskError(f"{path}: is a folder where a file is needed; {CORRECT}") from None
    with file:
        for number, line in enumerate(_readable(file, found), 1):
            try:
                # MRPC's official files start with a byte order mark.
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                raise TaskError(f"{path}, line {number}: not valid UTF-8; fetch the file again") from None
            yield number, text.removesuffix("\n").removesuffix("\r")


def _readable(file: IO[bytes], path: Path) -> Iterator[bytes]:
    """Yield the lines of an open file.

    Raises:
        TaskError: it is damaged.
    """
    try:
        yield from file
    except DAMAGED as error:
        raise TaskError(f"{path}: cannot be read ({error}); {CORRECT}") from None


def _tsv_rows(path: Path, table: Table) -> Iterator[Row | BrokenRowError]:
    lines = _lines(path)
    columns, cells = _header(path, table, lines)
    for number, line in lines:
        row, place = line.split("\t"), f"{path}, line {number}"
        if len(row) == cells:
            yield Row(place, lambda column, row=row: row[columns[column]].strip())
        else:
            yield BrokenRowError(f"{place}: has {len(row)} tab-separated cells where {cells} are expected; {CORRECT}")


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
            raise TaskError(f"{path}, line 1: the header {wrong}; it reads {', '.join(header)!r}; {CORRECT}")
    positions = {name: header.index(str(name)) for name in table.columns}
    texts = [positions[text] for text in table.texts if text in positions]
    if not table.any_order and texts != sorted(texts):
        names = " and ".join(f"'{text}'" for text in table.texts)
        raise TaskError(f"{path}, line 1: the columns {names} are in the wrong order in the header; {CORRECT}")
    return positions, len(header)


def _json_rows(path: Path, table: Table) -> Iterator[Row]:
    for place, record in _records(path):
        for entries in _entries(record, table.each, place):
            yield Row(place, lambda column, record=record, entries=entries, place=place: _walk(
                record, str(column), entries, place
            ))  # fmt: skip


def _records(path: Path) -> Iterator[tuple[str, Any]]:
    """(file and line, record) of JSON lines; (file and number, record) of a file that is one JSON list (C3); or (file,
    record) of one that is a single object on many lines (CMRC2018)."""
    lines = _lines(path)
    first = next(lines, (1, ""))
    if first[1].lstrip().startswith("["):
        records = _json("\n".join([first[1], *(text for _, text in lines)]), str(path))
        yield from ((f"{path}, record {number}", record) for number, record in enumerate(records, 1))
        return
    if first[1].strip() == "{":
        yield str(path), _json("\n".join([first[1], *(text for _, text in lines)]), str(path))
        return
    for number, line in chain([first], lines):
        if line.strip():
            place = f"{path}, line {number}"
            record = _json(line, place)
            if not isinstance(record, dict):
                raise TaskError(f"{place}: not a JSON object; {CORRECT}")
            yield place, record


def _json(text: str, place: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        # The line that a JSONDecodeError names is not that of the file.
        raise TaskError(f"{place}: not JSON ({getattr(error, 'msg', error)}); {CORRECT}") from None


def _entries(record: Any, each: str | None, place: str) -> Iterator[tuple[int, ...]]:
    """The numbers of each row's entries in the lists of ``each``, from the outermost list on."""
    if each is None:
        yield ()
        return
    outer, star, _ = each.rpartition(".*.")
    for entries in _entries(record, outer or None, place) if star else [()]:
        values = _walk(record, each, entries, place)
        if not isinstance(values, list):
            raise TaskError(f"{place}: '{each}' is not a list; {CORRECT}")
        yield from ((*entries, number) for number in range(len(values)))


def _walk(value: Any, path: str, entries: tuple[int, ...], place: str) -> Any:
    remaining = iter(entries)
    for name in path.split("."):
        try:
            value = value[next(remaining) if name == "*" else int(name) if isinstance(value, list) else name]
        except (KeyError, IndexError, TypeError, ValueError):
            raise TaskError(f"{place}: has no '{path}'; {CORRECT}") from None
    return value
