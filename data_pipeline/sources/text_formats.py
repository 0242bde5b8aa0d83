"""Text by lines: plain text, one document a line, JSON lines; in byte ranges, damaged lines named or counted."""

import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial as bound
from typing import Any

from data_pipeline.sources.document import Document
from data_pipeline.sources.files import Line, begins_after_blank, line_number, lines
from data_pipeline.sources.streams import BROKEN, SUFFIXES, compression
from data_pipeline.sources.unit import SourceConfig, Unit

JSON = json.JSONDecoder(parse_int=float)
"""No number is used, and Python makes no integers of more than 4,300 digits."""
JSON_NAMES: dict[type, str] = {
    dict: "an object",
    list: "an array",
    str: "a string",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


def read_lines(unit: Unit, config: SourceConfig, dropped: Counter[str]) -> Iterator[Document]:
    """Each line that is not blank."""
    for line in _own_lines(unit, config, dropped):
        text = _decoded(line, unit, config, dropped)
        if text is not None and text.strip():
            yield Document(text, _place(unit, line))


def read_json_lines(unit: Unit, config: SourceConfig, dropped: Counter[str]) -> Iterator[Document]:
    """The text field of each line that is not blank."""
    for line in _own_lines(unit, config, dropped):
        text = _decoded(line, unit, config, dropped)
        if text is None or not text.strip():
            continue
        try:
            row: Any = JSON.decode(text)
        except (ValueError, RecursionError) as error:
            _report(unit, line, config, dropped, "not JSON", bound(_not_json, error))
            continue
        found = row.get(config.text_field) if isinstance(row, dict) else None
        if isinstance(found, str):
            whole = found.isascii() or "\\u" not in text
            yield Document(found if whole else _without_half_pairs(found), _place(unit, line))
            continue
        _report(unit, line, config, dropped, "no text", bound(_without_text, row, config.text_field))


def _not_json(error: Exception) -> str:
    why = "nested too deeply" if isinstance(error, RecursionError) else error
    return f"is not JSON ({why}); correct or remove the line"


def _without_text(row: Any, field: str) -> str:
    """What is wrong with a JSON value that has no text."""
    if not isinstance(row, dict):
        return f"is {JSON_NAMES[type(row)]}, not an object with a key '{field}'; correct or remove the line"
    if field in row:
        return f"has {JSON_NAMES[type(row[field])]} under '{field}', not a string; set source.text_field"
    return f"has no key '{field}' (keys: {', '.join(row)}); set source.text_field"


def read_text(unit: Unit, config: SourceConfig, dropped: Counter[str]) -> Iterator[Document]:
    """What stands between blank lines, or the whole file."""
    held: list[str] = []
    first: Line | None = None
    size = 0
    # A range starts within a document unless a blank line is before it; that document belongs to an earlier range.
    ours = begins_after_blank(unit.paths[0], unit.part.start)
    for line in _guarded_lines(unit, config, dropped):
        blank = config.blank_line_separates and not line.too_large and not line.content.strip()
        if blank or (first is None and _beyond(unit, line)):
            yield from _finished(unit, config, dropped, first, held, size)
            held, first, size, ours = [], None, 0, True
            if _beyond(unit, line):
                break
        elif ours:
            text = _decoded(line, unit, config, dropped)
            first = first or line
            size += config.maximum_bytes if line.too_large else len(line.content)
            size += 1
            if text is not None and size <= config.maximum_bytes:
                held.append(text)
    else:
        yield from _finished(unit, config, dropped, first, held, size)


def _finished(
    unit: Unit, config: SourceConfig, dropped: Counter[str], first: Line | None, held: list[str], size: int
) -> Iterator[Document]:
    if first is None:
        return
    if size > config.maximum_bytes:
        dropped["too large"] += 1
    else:
        yield Document("\n".join(held), _place(unit, first))


def _without_half_pairs(text: str) -> str:
    """JSON can escape half of a surrogate pair, which no encoding can write."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _own_lines(unit: Unit, config: SourceConfig, dropped: Counter[str]) -> Iterator[Line]:
    """The lines that begin in the unit's range; those that are too large are counted."""
    for line in _guarded_lines(unit, config, dropped, math.inf if unit.part.stop is None else unit.part.stop):
        if line.too_large:
            dropped["too large"] += 1
        else:
            yield line


def _guarded_lines(unit: Unit, config: SourceConfig, dropped: Counter[str], stop: float = math.inf) -> Iterator[Line]:
    """The lines that begin before ``stop``, up to where the file breaks off."""
    last = 0
    try:
        for line in lines(unit.paths[0], unit.part, config.maximum_bytes):
            last = line.offset
            if last >= stop:
                return
            yield line
    except BROKEN as error:
        message = (
            f"{unit.file}: breaks off after byte {last} of its text ({error}); copy or compress the file again, or set "
            "source.damaged = 'count' to do without the rest"
        )
        config.leave_out("file breaks off", lambda: message, dropped)


def _decoded(line: Line, unit: Unit, config: SourceConfig, dropped: Counter[str]) -> str | None:
    try:
        return line.content.decode("utf-8")
    except UnicodeDecodeError as error:
        _report(unit, line, config, dropped, "not UTF-8", bound(_not_utf8, unit, error.start))
        return None


def _not_utf8(unit: Unit, start: int) -> str:
    suffix = os.path.splitext(unit.paths[0])[1]
    renamed = suffix in SUFFIXES and compression(unit.paths[0]) is None
    way_out = f"the file does not begin as a {suffix} file; copy it again" if renamed else "convert the file to UTF-8"
    return f"is not UTF-8 (byte {start} of the line); {way_out}"


def _report(
    unit: Unit, line: Line, config: SourceConfig, dropped: Counter[str], reason: str, message: Callable[[], str]
) -> None:
    """Count a damaged line, or stop with its number."""

    def sentence() -> str:
        number = line_number(unit.paths[0], line.offset)
        return f"{unit.file}:{number}: {message()}, or set source.damaged = 'count'"

    config.leave_out(reason, sentence, dropped)


def _beyond(unit: Unit, line: Line) -> bool:
    return unit.part.stop is not None and line.offset >= unit.part.stop


def _place(unit: Unit, line: Line) -> str:
    return f"{unit.file}@{line.offset}"
