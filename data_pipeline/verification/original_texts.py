"""Documents read again from the files that they are from, one by one, where those are still there.

For ``sesame verify``, which looks for the text of rows there. A place is what the readers of sources wrote down:
``FILE@BYTE`` in text by lines, ``FILE#ROW`` in tables, ``FOLDER/PACKAGE/FILE`` in the documentation. Others are left
alone: what a crawl or a dump becomes is up to its reader.
"""

import bz2
import codecs
import gzip
import json
import lzma
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet

from data_pipeline.sources.python_documentation import documents

PIECE = re.compile(r", character \d+$")
"""What places of datasets had at their end when long documents were counted in pieces."""
OPENERS: dict[bytes, Callable[[Path], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
"""By the first bytes of a file."""
ZSTD = b"\x28\xb5\x2f\xfd"
MOST_BYTES = 1 << 28
"""A document farther inside of a compressed file is not looked up."""
INVISIBLE = ("Cc", "Cf")
"""Categories of characters: controls and formats."""


def document_of(place: str) -> str:
    """The place of the whole document."""
    return PIECE.sub("", place)


def original(place: str, sources: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The text at a place; None where it cannot be read.

    Args:
        sources: configuration of the source of each file or package, by its name; of a package with its ``files``.
    """
    package = "/".join(place.split("/")[:2])
    if "files" in sources.get(package, {}):
        return _documentation(place, package, sources[package]["files"])
    for mark in "@#":
        name, found, number = place.rpartition(mark)
        if found and number.isdecimal() and name in sources:
            reader = READERS.get(sources[name]["kind"])
            try:
                return reader(Path(name), int(number), sources[name]) if reader else None
            except (OSError, EOFError, ValueError, KeyError, TypeError, IndexError, pa.ArrowException):
                return None
    return None


def cleaned(text: str, rules: Mapping[str, Any]) -> tuple[str, bool]:
    """A text in the Unicode form of a recipe, and whether its white space is beyond doubt: characters that are not seen
    may be taken for white space or for nothing."""
    # JSON can escape half of a surrogate pair.
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if rules.get("repair_unicode"):
        import ftfy

        text = ftfy.fix_encoding(text)
    text = unicodedata.normalize(rules["unicode_form"], text)
    return text, not any(is_invisible(each) for each in set(text))


def is_invisible(character: str) -> bool:
    """Whether cleaning may remove a character, or take it for white space, or keep it."""
    return unicodedata.category(character) in INVISIBLE and not character.isspace()


def names_of(place: str) -> set[str]:
    """What the file or package of a place may be called."""
    return {place.rpartition("@")[0], place.rpartition("#")[0], "/".join(place.split("/")[:2])}


def _documentation(place: str, package: str, files: Sequence[str]) -> str | None:
    alike = [file for file in files if Path(file).name == Path(place).name]
    found = (document for file in alike for document in documents(package, (file,)))
    return next((document.text for document in found if document.source == place), None)


def _opened(path: Path, offset: int) -> IO[bytes]:
    with path.open("rb") as file:
        start = file.read(8)
    opener = next((found for magic, found in OPENERS.items() if start.startswith(magic)), None)
    if start.startswith(ZSTD) or (opener is not None and offset > MOST_BYTES):
        raise ValueError("not looked up")
    opened = opener(path) if opener is not None else path.open("rb")
    if opened.read(4).startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)):
        # Its places are those of its text in UTF-8.
        raise ValueError("not looked up")
    opened.seek(offset)
    return opened


def _line(path: Path, offset: int, source: Mapping[str, Any]) -> str:
    with _opened(path, offset) as file:
        return file.readline().decode("utf-8-sig")


def _json(path: Path, offset: int, source: Mapping[str, Any]) -> str | None:
    found = json.loads(_line(path, offset, source))[source["text_field"]]
    return found if isinstance(found, str) else None


def _paragraphs(path: Path, offset: int, source: Mapping[str, Any]) -> str:
    held: list[bytes] = []
    with _opened(path, offset) as file:
        for line in file:
            if source["blank_line_separates"] and not line.strip():
                break
            held.append(line)
    return b"".join(held).decode("utf-8-sig")


def _parquet(path: Path, row: int, source: Mapping[str, Any]) -> Any:
    file = pyarrow.parquet.ParquetFile(path)
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if row < rows:
            return _cell(file.read_row_group(group, [source["text_field"]]).column(0)[row])
        row -= rows
    return None


def _arrow(path: Path, row: int, source: Mapping[str, Any]) -> Any:
    with pa.memory_map(str(path)) as mapped:
        return _cell(pa.ipc.open_file(mapped).read_all().column(source["text_field"])[row])


def _cell(scalar: Any) -> Any:
    value = scalar.as_py()
    return value.decode() if isinstance(value, bytes) else value


READERS: dict[str, Callable[[Path, int, Mapping[str, Any]], str | None]] = {
    "json_lines": _json,
    "lines": _line,
    "text": _paragraphs,
    "parquet": _parquet,
    "arrow": _arrow,
}
