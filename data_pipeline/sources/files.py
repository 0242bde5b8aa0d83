"""The lines of files, whole or in byte ranges that are read apart.

A line ends with \\n, \\r\\n or \\r, as in cleaning. It belongs to the byte range in which it begins, so ranges can be
read apart and together give every line once.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from data_pipeline.sources.streams import SUFFIXES, UTF8_MARK, is_plain, open_text

RANGE_BYTES = 64 << 20
"""A larger file is read in ranges of this size, by several workers, where it can be entered in the middle."""


BLOCK_BYTES = 1 << 17
"""Text that is parted into lines at once: its lines stay in the cache of a core until they are used."""
LOOK_BACK_BYTES = 1 << 20
"""How far back a blank line is looked for; a longer line is not blank, if it is not all white space."""


class File(NamedTuple):
    name: str
    """As written in the configuration, or as a folder or a glob gave it, in Unicode."""
    path: str
    """For workers that may run elsewhere: absolute, or a URL."""
    size: int
    """Bytes, compressed ones where it is compressed."""

    @property
    def kind(self) -> str:
        """Suffix of what it holds, without that of a compression."""
        path = Path(self.name)
        return Path(path.stem).suffix if path.suffix in SUFFIXES else path.suffix


class Range(NamedTuple):
    """Bytes [start, stop) of a file; ``stop`` None is the end."""

    start: int = 0
    stop: int | None = None


class Line(NamedTuple):
    """One line without its end."""

    offset: int
    """Of its first byte, in the decompressed file."""
    content: bytes
    too_large: bool = False
    """More than the limit: passed over without being held."""


def ranges(file: File) -> list[Range]:
    """The ranges that a file is read in: one, unless it is large and can be entered in the middle."""
    if file.size <= RANGE_BYTES or not is_plain(file.path):
        return [Range()]
    return parted(file, RANGE_BYTES)


def parted(file: File, size: int) -> list[Range]:
    """Ranges of ``size`` stored bytes, the last one shorter; one of an empty file."""
    return [Range(start, min(start + size, file.size)) for start in range(0, max(1, file.size), size)]


def lines(path: str, part: Range, limit: int) -> Iterator[Line]:
    """The lines that begin in ``part`` and all that follow it, for a document may need more; the reader stops.

    A line of more than ``limit`` bytes has no content. A byte order mark at the beginning of a line is left out: files
    that begin with one are put together, too.
    """
    with open_text(path) as file:
        offset = part.start
        earlier = part.start > 0
        if earlier:
            offset -= 1
            file.seek(offset)
        for passed, whole, end in _whole_lines(file, limit):
            if passed:
                if not earlier:
                    yield Line(offset, b"", True)
                offset, earlier = offset + passed, False
            if earlier and whole:
                # The line that the range begins in, or the end of the one before it.
                offset, earlier = offset + len(whole.pop(0)) + end, False
            for line in whole:
                content = line if end else line.rstrip(b"\r\n")
                large = len(content) > limit
                yield Line(offset, b"" if large else content.removeprefix(UTF8_MARK), large)
                offset += len(line) + end


def line_number(path: str, offset: int) -> int:
    """Number (from 1) of the line that begins at ``offset``; reads the file up to there."""
    number, place = 1, 0
    with open_text(path) as file:
        for block in _whole_lines(file, BLOCK_BYTES):
            sizes = [len(line) + block.end for line in block.lines]
            for size in [block.passed, *sizes] if block.passed else sizes:
                if place >= offset:
                    return number
                number, place = number + 1, place + size
    return number


def begins_after_blank(path: str, start: int) -> bool:
    """Is the line before the first one that begins at or after ``start`` blank? True at the start of a file."""
    if start == 0:
        return True
    with open_text(path) as file:
        place = max(0, start - LOOK_BACK_BYTES)
        file.seek(place)
        last = b""
        for last in file.read(start - place + LOOK_BACK_BYTES).splitlines(keepends=True):
            place += len(last)
            if place >= start:
                break
    return not last.removeprefix(UTF8_MARK).strip()


class Block(NamedTuple):
    """Some lines in a row."""

    passed: int
    """Bytes of a longer line before them that was passed over; 0 for none."""
    lines: list[bytes]
    end: int
    """1 if the ends of the lines, of one byte each, were cut off; 0 if they are there."""


def _whole_lines(file: IO[bytes], limit: int) -> Iterator[Block]:
    """All lines of a file; one is passed over when more than ``limit`` bytes of it have been read without its end."""
    held: list[bytes] = []
    passed = 0
    # One call of the raw reader at a time: what it gave before it fails is not lost.
    while content := file.read1(BLOCK_BYTES):  # type: ignore[attr-defined]
        returns = b"\r" in content or (held and held[-1].endswith(b"\r"))
        held.append(content)
        if not returns and b"\n" not in content:
            size = sum(map(len, held))
            if passed or size > limit:
                passed, held = passed + size, []
            continue
        if returns:
            whole = b"".join(held).splitlines(keepends=True)
            # A carriage return at the end may be half of a line's end.
            held = [] if whole[-1].endswith(b"\n") else [whole.pop()]
        else:
            first, *whole = content.split(b"\n")
            whole.insert(0, b"".join([*held[:-1], first]))
            held = [last] if (last := whole.pop()) else []
        if whole:
            yield Block(passed and passed + len(whole.pop(0)) + (not returns), whole, int(not returns))
            passed = 0
    rest = b"".join(held)
    if rest or passed:
        yield Block(passed and passed + len(rest), [] if passed else [rest], 0)
