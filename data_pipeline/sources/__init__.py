"""Sources of text: files in several formats, and the documentation that Python installs, as documents.

A source is a list of units. Any worker reads any unit, in any order.

| kind                 | a unit                      | a document                                       |
|----------------------|-----------------------------|--------------------------------------------------|
| python_documentation | a package                   | the docstrings of a module, or a text file       |
| text                 | a file, or a byte range     | text between blank lines, or the file            |
| lines                | a file, or a byte range     | one line                                         |
| json_lines           | a file, or a byte range     | one line's text field                            |
| parquet              | some row groups             | one row's text column                            |
| arrow                | some record batches         | one row's text column                            |
| warc                 | a file                      | a page's main text, or an extracted text         |
| mediawiki            | a file, bytes, bz2 streams  | an article's newest revision, without markup     |

All but tables may be compressed (gz, bz2, xz, zst). A compressed file is one unit, except MediaWiki dumps of many bz2
streams.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from sesame.configs.errors import CorpusError
from sesame.data_pipeline.sources.config import SourceConfig
from sesame.data_pipeline.sources.document import Document
from sesame.data_pipeline.sources.files import File, Range, byte_ranges
from sesame.data_pipeline.sources.mediawiki import mediawiki_ranges, read_mediawiki
from sesame.data_pipeline.sources.paths import matching
from sesame.data_pipeline.sources.python_documentation import documentation_units, read_documentation
from sesame.data_pipeline.sources.tables import arrow_batches, parquet_groups, read_arrow, read_parquet
from sesame.data_pipeline.sources.text_formats import read_json_lines, read_lines, read_text
from sesame.data_pipeline.sources.unit import Unit
from sesame.data_pipeline.sources.warc import read_warc

__all__ = ["SourceConfig", "Unit", "read", "units"]


def units(config: SourceConfig) -> list[Unit]:
    """Return the units of a source, in their fixed order.

    Raises:
        CorpusError: a path or a glob matches no file, a file is not of that kind, or no table has a row.
    """
    return SOURCES[config.kind].units(config)


def read(unit: Unit, config: SourceConfig, dropped: Counter[str]) -> Iterator[Document]:
    """Yield the documents of a unit, in order; ``dropped`` counts what is left out by reason.

    Raises:
        CorpusError: the content is not of the kind of the source; with file and line.
    """
    yield from SOURCES[unit.kind].read(unit, config, dropped)


def file_units(config: SourceConfig, ranges: Callable[[File], list[Range]]) -> list[Unit]:
    """Return the units of the files that ``config.paths`` names.

    Args:
        ranges: the parts that one file is read in.

    Raises:
        CorpusError: a path or a glob matches no file, a file is not of that kind, or no table has a row.
    """
    if not config.paths:
        raise CorpusError("source.paths is empty; name the files, for instance --set source.paths='[\"corpus.jsonl\"]'")
    result = []
    for file in (file for pattern in config.paths for file in matching(pattern)):
        parts = ranges(file) if file.size else [Range()]
        for part in parts:
            name = file.name if len(parts) == 1 else f"{file.name}[{part.start}:{part.stop}]"
            result.append(Unit(config.kind, name, (file.path,), file.size, part, file.name))
    if all(unit.bytes and unit.part.start == unit.part.stop for unit in result):
        more = f", and neither have the other {len(result) - 1} files of its source" if len(result) > 1 else ""
        raise CorpusError(f"{result[0].name}: has no rows{more}; correct source.paths")
    return result


def text_units(config: SourceConfig) -> list[Unit]:
    """Units of plain text: byte ranges where blank lines separate documents, else whole files."""
    return file_units(config, byte_ranges if config.blank_line_separates else whole_file)


def whole_file(file: File) -> list[Range]:
    return [Range()]


class Source(NamedTuple):
    """A kind of source."""

    units: Callable[[SourceConfig], list[Unit]]
    """Lists what the tasks read, in a fixed order."""
    read: Callable[[Unit, SourceConfig, Counter[str]], Iterator[Document]]
    """Yields the documents of a unit, and counts by reason what it leaves out."""


def files_in(ranges: Callable[[File], list[Range]]) -> Callable[[SourceConfig], list[Unit]]:
    """``Source.units`` of files that are read in ``ranges``."""
    return partial(file_units, ranges=ranges)


SOURCES: dict[str, Source] = {
    "python_documentation": Source(documentation_units, read_documentation),
    "text": Source(text_units, read_text),
    "lines": Source(files_in(byte_ranges), read_lines),
    "json_lines": Source(files_in(byte_ranges), read_json_lines),
    "parquet": Source(files_in(parquet_groups), read_parquet),
    "arrow": Source(files_in(arrow_batches), read_arrow),
    "warc": Source(files_in(whole_file), read_warc),
    "mediawiki": Source(files_in(mediawiki_ranges), read_mediawiki),
}
"""``SourceConfig.kind`` -> how its units are listed and read. A new kind is two functions, a row and its name there."""
