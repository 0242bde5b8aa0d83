"""Where a task's spans are in its texts.

The published numbers do not always fit the text: of WSC's 554 training rows, 88 have a span whose words are not at its
number. The rule: if the words are not at their number, the occurrence nearest to it is taken; if they do not occur, the
text at the number.
"""

import re

from sesame.configs.errors import TaskError
from sesame.evaluation.reading.rows import CORRECT, Row
from sesame.evaluation.tasks.task import Column, Span, Table

Range = tuple[int, int, int]
"""(index of the text, its first character, the one after its last)."""


def read_spans(row: Row, table: Table, texts: tuple[str, ...]) -> tuple[tuple[Range, ...], int]:
    """Return the spans of a row, and how many of them are not at their published number.

    Raises:
        TaskError: a span is outside its text.
    """
    ranges = [_range(row, span, table, texts[span.text]) for span in table.spans]
    return tuple((span.text, *where[:2]) for span, where in zip(table.spans, ranges, strict=True)), sum(
        where[2] for where in ranges
    )


def _range(row: Row, span: Span, table: Table, text: str) -> tuple[int, int, bool]:
    start = _number(row, span.start)
    if span.unit == "word":
        starts = [match.start() for match in re.finditer(r"\S+", text)]
        if not 0 <= start < len(starts):
            raise TaskError(f"{row.place}: the span at word {start} is outside a text of {len(starts)}; {CORRECT}")
        count = len(str(row.read(span.words)).split()) if span.words is not None else 1
        last = starts[min(start + count, len(starts)) - 1]
        start, end = starts[start], last + len(text[last:].split()[0])
    else:
        # The published numbers count the white space before a text.
        whole = row.text(table.texts[span.text], table)
        removed = len(whole) - len(whole.lstrip())
        start -= removed
        if span.end is not None:
            end = _number(row, span.end) - removed
        else:
            end = start + len(row.text(span.words if span.words is not None else span.start, table))
    words = row.text(span.words, table).strip() if span.words is not None else ""
    if words and start >= 0 and text.startswith(words, start):
        return start, start + len(words), False
    found = nearest(words, text, start)
    if found is None and not 0 <= start < end <= len(text):
        raise TaskError(f"{row.place}: the span {start} to {end} is outside a text of {len(text)}; {CORRECT}")
    if found is None:
        return start, end, bool(words)
    return found, found + len(words), True


def nearest(words: str, text: str, start: int) -> int | None:
    """Return where the occurrence of ``words`` nearest to ``start`` begins; None: they do not occur."""
    found = [match.start() for match in re.finditer(re.escape(words), text, re.IGNORECASE)] if words else []
    return min(found, key=lambda first: abs(first - start), default=None)


def _number(row: Row, column: Column) -> int:
    value = row.read(column)
    if isinstance(value, bool) or not str(value).isascii() or not str(value).isdigit():
        raise TaskError(f"{row.place}: '{column}' is not a number; {CORRECT}")
    return int(value)
