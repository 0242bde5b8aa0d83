"""Formats of text files: plain text, one document a line, JSON lines. Each is read in byte ranges."""

import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from sesame.data_pipeline.sources.config import SourceConfig
from sesame.data_pipeline.sources.document import Document
from sesame.data_pipeline.sources.lines import Line, begins_after_blank, iterate_lines, line_number
from sesame.data_pipeline.sources.streams import DAMAGED, SUFFIXES, compression
from sesame.data_pipeline.sources.unit import Unit

JSON = json.JSONDecoder(parse_int=float)
"""Integers are read as floats: numbers are not used, and ``int`` refuses more than 4,300 digits."""
JSON_NAMES: dict[type, str] = {
    dict: "an object",
    list: "an array",
    str: "a string",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


def read_lines(unit: Unit, config: SourceConfig, dropped: Counter[str]) -> Iterator[Document]:
    """Yield each line that is not blank."""
    for line in _own_lines(unit, config, dropped):
        text = _decode(line, unit, config, dropped)
        if text and not text.isspace():
            yield Document(text, _source(unit, line))


def read_json_lines(unit: Unit, config: SourceConfig, dropped: Counter[str]) -> Iterator[Document]:
    """Yield the text field of each line that is not blank."""
    for line in _own_lines(unit, config, dropped):
        text = _decode(line, unit, config, dropped)
        if not text or text.isspace():
            continue
        try:
            row: Any = JSON.decode(text)
        except (ValueError, RecursionError) as error:
            _report(unit, line, config, dropped, "not JSON", partial(_not_json, error))
            continue
        value = row.get(config.text_field) if isinstance(row, dict) else None
        if isinstance(value, str):
            may_have_surrogates = "\\u" in text and not value.isascii()
            yield Document(_replace_lone_surrogates(value) if may_have_surrogates else value, _source(unit, line))
            continue
        _report(unit, line, config, dropped, "no text", partial(_no_text, row, config.text_field))


def _not_json(error: Exception) -> str:
    why = "nested too deeply" if isinstance(error, RecursionError) else error
    return f"is not JSON ({why}); correct or remove the line"


def _no_text(row: Any, field: str) -> str:
    if not isinstance(row, dict):
        return f"is {JSON_NAMES[type(row)]}, not an object with a key '{field}'; correct or remove the line"
    if field in row:
        return f"has {JSON_NAMES[type(row[field])]} under '{field}', not a string; set source.text_field"
    return f"has no key '{field}' (keys: {', '.join(row)}); set source.text_field"


def read_text(unit: Unit, config: SourceConfig, dropped: Counter[str]) -> Iterator[Document]:
    """Yield the text between blank lines, or the whole file."""
    paragraph: list[str] = []
    first: Line | None = None
    size = 0
    # A range starts within a document, which belongs to an earlier range, unless a blank line precedes it.
    in_own_document = begins_after_blank(unit.paths[0], unit.part.start)
    for line in _undamaged_lines(unit, config, dropped):
        blank = config.blank_line_separates and not line.too_large and not line.content.strip()
        if blank or (first is None and _beyond(unit, line)):
            yield from _finish(unit, config, dropped, first, paragraph, size)
            paragraph, first, size, in_own_document = [], None, 0, True
            if _beyond(unit, line):
                break
        elif in_own_document:
            text = _decode(line, unit, config, dropped)
            first = first or line
            size += config.maximum_bytes if line.too_large else len(line.content)
            size += 1
            if text is not None and size <= config.maximum_bytes:
                paragraph.append(text)
    else:
        yield from _finish(unit, config, dropped, first, paragraph, size)


def _finish(
    unit: Unit, config: SourceConfig, dropped: Counter[str], first: Line | None, paragraph: list[str], size: int
) -> Iterator[Document]:
    if first is None:
        return
    if size > config.maximum_bytes:
        dropped["too large"] += 1
    else:
        yield Document("\n".join(paragraph), _source(unit, first))


def _replace_lone_surrogates(text: str) -> str:
    """Replace halves of surrogate pairs, which JSON can escape but UTF-8 cannot encode."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _own_lines(unit: Unit, config: SourceConfig, dropped: Counter[str]) -> Iterator[Line]:
    """Yield the lines that begin in the unit's range; those that are too large are counted."""
    for line in _undamaged_lines(unit, config, dropped, math.inf if unit.part.stop is None else unit.part.stop):
        if line.too_large:
            dropped["too large"] += 1
        else:
            yield line


def _undamaged_lines(unit: Unit, config: SourceConfig, dropped: Counter[str], stop: float = math.inf) -> Iterator[Line]:
    """Yield the lines that begin before ``stop``, up to where the file is damaged."""
    last = 0
    try:
        for line in iterate_lines(unit.paths[0], unit.part, config.maximum_bytes):
            last = line.offset
            if last >= stop:
                return
            yield line
    except DAMAGED as error:
        message = (
            f"{unit.file}: breaks off after byte {last} of its text ({error}); copy or compress the file again, or set "
            "source.damaged = 'count' to drop the rest"
        )
        config.handle_damaged("file breaks off", lambda: message, dropped)


def _decode(line: Line, unit: Unit, config: SourceConfig, dropped: Counter[str]) -> str | None:
    try:
        return line.content.decode("utf-8")
    except UnicodeDecodeError as error:
        _report(unit, line, config, dropped, "not UTF-8", partial(_not_utf8, unit, error.start))
        return None


def _not_utf8(unit: Unit, start: int) -> str:
    suffix = os.path.splitext(unit.paths[0])[1]
    renamed = suffix in SUFFIXES and compression(unit.paths[0]) is None
    hint = f"the file does not begin as a {suffix} file; copy it again" if renamed else "convert the file to UTF-8"
    return f"is not UTF-8 (byte {start} of the line); {hint}"


def _report(
    unit: Unit, line: Line, config: SourceConfig, dropped: Counter[str], reason: str, message: Callable[[], str]
) -> None:
    """Count a damaged line, or stop with its number."""

    def numbered() -> str:
        number = line_number(unit.paths[0], line.offset)
        return f"{unit.file}:{number}: {message()}, or set source.damaged = 'count'"

    config.handle_damaged(reason, numbered, dropped)


def _beyond(unit: Unit, line: Line) -> bool:
    return unit.part.stop is not None and line.offset >= unit.part.stop


def _source(unit: Unit, line: Line) -> str:
    return f"{unit.file}@{line.offset}"
