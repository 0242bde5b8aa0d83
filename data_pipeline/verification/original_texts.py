"""Read single documents again from their source files.

The place of a document is ``FILE@BYTE`` in text files, ``FILE#ROW`` in tables and ``FOLDER/PACKAGE/FILE`` in the
documentation. Web pages and wiki articles are not read again, because their text depends on the reader's parser.
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

from sesame.data_pipeline.sources.python_documentation import documents

PIECE = re.compile(r", character \d+$")
"""Suffix of places in datasets of older versions, which counted pieces of long documents as documents."""
OPENERS: dict[bytes, Callable[[Path], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
"""First bytes of a file -> function to open it."""
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
MAXIMUM_OFFSET = 1 << 28
"""Documents at a larger offset in a compressed file are not read."""
INVISIBLE = ("Cc", "Cf")
"""General categories of controls and format characters."""


def document_of(place: str) -> str:
    """Return the place of the whole document."""
    return PIECE.sub("", place)


def read_original(place: str, sources: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return the text at a place, or None if it cannot be read.

    Args:
        sources: name of a file or package -> configuration of its source, with the ``files`` of a package.
    """
    package = "/".join(place.split("/")[:2])
    if "files" in sources.get(package, {}):
        return _documentation(place, package, sources[package]["files"])
    for separator in "@#":
        name, has_separator, number = place.rpartition(separator)
        if has_separator and number.isdecimal() and name in sources:
            reader = READERS.get(sources[name]["kind"])
            try:
                return reader(Path(name), int(number), sources[name]) if reader else None
            except (OSError, EOFError, ValueError, KeyError, TypeError, IndexError, pa.ArrowException):
                return None
    return None


def normalize(text: str, rules: Mapping[str, Any]) -> tuple[str, bool]:
    """Return a text in the Unicode form of the recipe, and whether its white space can be compared.

    It cannot if the text has invisible characters, which cleaning may convert to white space or remove.
    """
    # JSON can escape half of a surrogate pair.
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if rules.get("repair_unicode"):
        import ftfy

        text = ftfy.fix_encoding(text)
    text = unicodedata.normalize(rules["unicode_form"], text)
    return text, not any(is_invisible(each) for each in set(text))


def is_invisible(character: str) -> bool:
    """Whether a character is one that cleaning may remove, convert to white space or keep."""
    return unicodedata.category(character) in INVISIBLE and not character.isspace()


def possible_names(place: str) -> set[str]:
    """Return the names that the file or package of a place may have."""
    return {place.rpartition("@")[0], place.rpartition("#")[0], "/".join(place.split("/")[:2])}


def _documentation(place: str, package: str, files: Sequence[str]) -> str | None:
    candidates = [file for file in files if Path(file).name == Path(place).name]
    read = (document for file in candidates for document in documents(package, (file,)))
    return next((document.text for document in read if document.source == place), None)


def _open(path: Path, offset: int) -> IO[bytes]:
    with path.open("rb") as file:
        start = file.read(8)
    opener = next((opener for magic, opener in OPENERS.items() if start.startswith(magic)), None)
    if start.startswith(ZSTD_MAGIC) or (opener is not None and offset > MAXIMUM_OFFSET):
        raise ValueError("not supported")
    opened = opener(path) if opener is not None else path.open("rb")
    if opened.read(4).startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)):
        # Offsets in places are those of the text in UTF-8.
        raise ValueError("not supported")
    opened.seek(offset)
    return opened


def _line(path: Path, offset: int, source: Mapping[str, Any]) -> str:
    with _open(path, offset) as file:
        return file.readline().decode("utf-8-sig")


def _json(path: Path, offset: int, source: Mapping[str, Any]) -> str | None:
    text = json.loads(_line(path, offset, source))[source["text_field"]]
    return text if isinstance(text, str) else None


def _paragraphs(path: Path, offset: int, source: Mapping[str, Any]) -> str:
    lines: list[bytes] = []
    with _open(path, offset) as file:
        for line in file:
            if source["blank_line_separates"] and not line.strip():
                break
            lines.append(line)
    return b"".join(lines).decode("utf-8-sig")


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
