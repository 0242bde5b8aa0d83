"""The lines of a text file, or of a byte range of it.

A line ends with \\n, \\r\\n or \\r, as in cleaning. It belongs to the byte range in which it begins, so that the ranges
of a file together give every line once.
"""

from collections.abc import Iterator
from typing import IO, NamedTuple

from sesame.data_pipeline.sources.files import Range
from sesame.data_pipeline.sources.streams import UTF8_BOM, open_text

BLOCK_BYTES = 1 << 17
"""Text that is split into lines at once, small enough that the lines stay in a core's cache until they are used."""
LOOK_BACK_BYTES = 1 << 20
"""How far back to look for a blank line. A longer line of white space only is not recognized as blank."""


class Line(NamedTuple):
    """One line without its end."""

    offset: int
    """Of its first byte in the decompressed file."""
    content: bytes
    too_large: bool = False
    """Longer than the limit, so its content is empty."""


def iterate_lines(path: str, part: Range, limit: int) -> Iterator[Line]:
    """Yield the lines from ``part.start`` on, past the end of ``part``: a document may need more lines.

    A byte order mark at the start of any line is removed, because files with one may have been concatenated.

    Args:
        limit: bytes of a line; the content of longer ones is skipped without holding it in memory.
    """
    with open_text(path) as file:
        offset = part.start
        in_earlier_line = part.start > 0
        if in_earlier_line:
            offset -= 1
            file.seek(offset)
        for skipped, lines, end_bytes in _blocks(file, limit):
            if skipped:
                if not in_earlier_line:
                    yield Line(offset, b"", True)
                offset, in_earlier_line = offset + skipped, False
            if in_earlier_line and lines:
                # The line that the range starts in, or the end of the line before it.
                offset, in_earlier_line = offset + len(lines.pop(0)) + end_bytes, False
            for line in lines:
                content = line if end_bytes else line.rstrip(b"\r\n")
                too_large = len(content) > limit
                yield Line(offset, b"" if too_large else content.removeprefix(UTF8_BOM), too_large)
                offset += len(line) + end_bytes


def line_number(path: str, offset: int) -> int:
    """Return the number (from 1) of the line that begins at ``offset``; reads the file up to it."""
    number, position = 1, 0
    with open_text(path) as file:
        for block in _blocks(file, BLOCK_BYTES):
            sizes = [len(line) + block.end_bytes for line in block.lines]
            for size in [block.skipped, *sizes] if block.skipped else sizes:
                if position >= offset:
                    return number
                number, position = number + 1, position + size
    return number


def begins_after_blank(path: str, start: int) -> bool:
    """Whether the line before the first one that begins at or after ``start`` is blank. True at the start of a file."""
    if start == 0:
        return True
    with open_text(path) as file:
        position = max(0, start - LOOK_BACK_BYTES)
        file.seek(position)
        last = b""
        for last in file.read(start - position + LOOK_BACK_BYTES).splitlines(keepends=True):
            position += len(last)
            if position >= start:
                break
    return not last.removeprefix(UTF8_BOM).strip()


class _Block(NamedTuple):
    """Consecutive lines."""

    skipped: int
    """Bytes of a line over the limit that precedes ``lines``; 0 for none."""
    lines: list[bytes]
    end_bytes: int
    """Bytes that were cut off the end of each line: 1, or 0 if ``lines`` still have their ends."""


def _blocks(file: IO[bytes], limit: int) -> Iterator[_Block]:
    """All lines of a file, in blocks. A line is skipped once ``limit`` bytes of it were read without an end."""
    unfinished: list[bytes] = []
    skipped = 0
    # read1 calls the raw reader once, so that what was read before an error is not lost.
    while content := file.read1(BLOCK_BYTES):  # type: ignore[attr-defined]
        has_returns = b"\r" in content or (unfinished and unfinished[-1].endswith(b"\r"))
        unfinished.append(content)
        if not has_returns and b"\n" not in content:
            size = sum(map(len, unfinished))
            if skipped or size > limit:
                skipped, unfinished = skipped + size, []
            continue
        if has_returns:
            lines = b"".join(unfinished).splitlines(keepends=True)
            # A carriage return at the end may be the first half of a line end.
            unfinished = [] if lines[-1].endswith(b"\n") else [lines.pop()]
        else:
            first, *lines = content.split(b"\n")
            lines.insert(0, b"".join([*unfinished[:-1], first]))
            unfinished = [last] if (last := lines.pop()) else []
        if lines:
            yield _Block(skipped and skipped + len(lines.pop(0)) + (not has_returns), lines, int(not has_returns))
            skipped = 0
    rest = b"".join(unfinished)
    if rest or skipped:
        yield _Block(skipped and skipped + len(rest), [] if skipped else [rest], 0)
