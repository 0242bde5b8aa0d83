"""Where text comes from -> documents. A source is a list of units; units are read apart, in any order, by any worker.

| kind                 | a unit                 | a document                                                  |
|----------------------|------------------------|-------------------------------------------------------------|
| python_documentation | a few packages         | the docstrings of a module, or a text file                  |
| text                 | a file                 | what stands between blank lines, or the whole file          |
| json_lines           | a file (.gz, .zst too) | one line's text field                                       |
| parquet              | a row group            | one row's text column                                       |
"""

import glob
import gzip
import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet
import zstandard
from pydantic import Field

from configs import Section
from configs.errors import CorpusError
from data_pipeline import python_documentation
from data_pipeline.document import Document


class SourceConfig(Section):
    """What to read."""

    kind: Literal["python_documentation", "text", "json_lines", "parquet"]
    """Row of the table of sources."""
    paths: tuple[str, ...] = ()
    """Files or globs, in the order in which they are read; a glob's files are sorted. None for the documentation."""
    text_field: str = "text"
    """Key of a JSON line, or column of a Parquet file, that holds the text."""
    blank_line_separates: bool = True
    """In plain text files a blank line parts documents; otherwise each file is one document."""
    limit_megabytes: float = Field(default=0.0, ge=0)
    """Stop after so much text, in the fixed order of reading; 0 for no limit."""


class Unit(NamedTuple):
    """What one task reads."""

    kind: str
    name: str
    """File, with the place in it where there are several units."""
    paths: tuple[str, ...]
    """Absolute, because workers may run elsewhere."""
    bytes: int
    """Size of the files; of all of the file for a row group."""
    row_group: int = 0


def units(config: SourceConfig) -> list[Unit]:
    """The units of a source, in their fixed order.

    Raises:
        CorpusError: a path or a glob matches no file.
    """
    if config.kind == "python_documentation":
        packages = python_documentation.packages()
        return [Unit(config.kind, name, files, sum(map(os.path.getsize, files))) for name, files in packages]
    found: list[Unit] = []
    for pattern in config.paths:
        files = sorted(glob.glob(pattern, recursive=True)) if glob.has_magic(pattern) else [pattern]
        for file in files:
            if not Path(file).is_file():
                raise CorpusError(f"{file}: no such file; correct source.paths")
            found += UNITS[config.kind](file)
        if not files:
            raise CorpusError(f"{pattern}: matches no file; correct source.paths")
    if not found:
        raise CorpusError("source.paths is empty; name the files, for instance --set source.paths='[\"corpus.jsonl\"]'")
    return found


def read(unit: Unit, config: SourceConfig) -> Iterator[Document]:
    """The documents of a unit, in order.

    Raises:
        CorpusError: with file and line, where the content is not what the kind promises.
    """
    yield from READERS[unit.kind](unit, config)


def _file_unit(kind: str) -> Callable[[str], list[Unit]]:
    return lambda file: [Unit(kind, file, (os.path.abspath(file),), os.path.getsize(file))]


def _row_groups(file: str) -> list[Unit]:
    try:
        count = pyarrow.parquet.ParquetFile(file).num_row_groups
    except pa.ArrowException as error:
        raise CorpusError(f"{file}: cannot be read as Parquet ({error})") from None
    path, size = os.path.abspath(file), os.path.getsize(file)
    return [Unit("parquet", f"{file} row group {group}", (path,), size, group) for group in range(count)]


def _read_text(unit: Unit, config: SourceConfig) -> Iterator[Document]:
    lines: list[str] = []
    first = 1
    for number, line in _lines(unit):
        if config.blank_line_separates and not line.strip():
            if lines:
                yield Document("\n".join(lines), f"{unit.name}:{first}")
            lines, first = [], number + 1
        else:
            lines.append(line)
    if lines:
        yield Document("\n".join(lines), f"{unit.name}:{first}")


def _read_json_lines(unit: Unit, config: SourceConfig) -> Iterator[Document]:
    for number, line in _lines(unit):
        if not line.strip():
            continue
        place = f"{unit.name}:{number}"
        try:
            row: Any = json.loads(line)
        except ValueError as error:
            raise CorpusError(f"{place}: is not JSON ({error}); mend or remove the line") from None
        text = row.get(config.text_field) if isinstance(row, dict) else None
        if not isinstance(text, str):
            keys = ", ".join(row) if isinstance(row, dict) else type(row).__name__
            raise CorpusError(f"{place}: has no text under '{config.text_field}' (keys: {keys}); set source.text_field")
        yield Document(text, place)


def _read_parquet(unit: Unit, config: SourceConfig) -> Iterator[Document]:
    file = pyarrow.parquet.ParquetFile(unit.paths[0])
    if config.text_field not in file.schema_arrow.names:
        columns = ", ".join(file.schema_arrow.names)
        raise CorpusError(
            f"{unit.name}: has no column '{config.text_field}' (columns: {columns}); set source.text_field"
        )
    column = file.read_row_group(unit.row_group, columns=[config.text_field]).column(0)
    for number, text in enumerate(column.to_pylist()):
        if isinstance(text, str):
            yield Document(text, f"{unit.name} row {number}")


def _read_documentation(unit: Unit, config: SourceConfig) -> Iterator[Document]:
    yield from python_documentation.documents(unit.name, unit.paths)


def _lines(unit: Unit) -> Iterator[tuple[int, str]]:
    """(line number, line without its end), decoded strictly."""
    number, file = 0, unit.name
    try:
        with OPENERS.get(Path(file).suffix, _open_plain)(unit.paths[0]) as binary:
            for number, line in enumerate(binary, 1):
                yield number, line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{file}:{number}: is not UTF-8 (byte {error.start} of the line); convert the file to UTF-8"
        ) from None
    except (OSError, EOFError, zstandard.ZstdError) as error:
        raise CorpusError(f"{file}: breaks off after line {number} ({error}); copy or compress the file anew") from None


def _open_plain(file: str) -> Any:
    return open(file, "rb")


def _open_gzip(file: str) -> Any:
    return gzip.open(file, "rb")


def _open_zstd(file: str) -> Any:
    stream = zstandard.ZstdDecompressor().stream_reader(open(file, "rb"), closefd=True)  # noqa: SIM115
    return io.BufferedReader(stream, 1 << 20)


OPENERS: dict[str, Callable[[str], Any]] = {".gz": _open_gzip, ".zst": _open_zstd}
UNITS: dict[str, Callable[[str], list[Unit]]] = {
    "text": _file_unit("text"),
    "json_lines": _file_unit("json_lines"),
    "parquet": _row_groups,
}
READERS: dict[str, Callable[[Unit, SourceConfig], Iterator[Document]]] = {
    "python_documentation": _read_documentation,
    "text": _read_text,
    "json_lines": _read_json_lines,
    "parquet": _read_parquet,
}
