"""Where text comes from -> documents. A source is a list of units; units are read apart, in any order, by any worker.

| kind                 | a unit                      | a document                                       |
|----------------------|-----------------------------|--------------------------------------------------|
| python_documentation | a few packages              | the docstrings of a module, or a text file       |
| text                 | a file, or a byte range     | what stands between blank lines, or the file     |
| lines                | a file, or a byte range     | one line                                         |
| json_lines           | a file, or a byte range     | one line's text field                            |
| parquet              | some row groups             | one row's text column                            |
| arrow                | some record batches         | one row's text column                            |
| warc                 | a file                      | a page's main text, or an extracted text         |
| mediawiki            | a file, bytes, bz2 streams  | an article in its newest revision, no markup     |

All but tables may be compressed (gz, bz2, xz, zst); a compressed file is one unit, but for MediaWiki dumps of many bz2
streams.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from configs.errors import CorpusError
from data_pipeline.sources import python_documentation
from data_pipeline.sources.archives import read_warc
from data_pipeline.sources.document import Document
from data_pipeline.sources.files import File, Range, ranges
from data_pipeline.sources.mediawiki import mediawiki_ranges, read_mediawiki
from data_pipeline.sources.paths import matching
from data_pipeline.sources.tables import arrow_ranges, parquet_ranges, read_arrow, read_parquet
from data_pipeline.sources.text_formats import read_json_lines, read_lines, read_text
from data_pipeline.sources.unit import SourceConfig, Unit

__all__ = ["SourceConfig", "Unit", "read", "units"]


def units(config: SourceConfig) -> list[Unit]:
    """The units of a source, in their fixed order.

    Raises:
        CorpusError: a path or a glob matches no file, a file is not of that kind, or no table has a row.
    """
    if config.kind == "python_documentation":
        packages = python_documentation.packages()
        return [Unit(config.kind, name, files, sum(map(os.path.getsize, files))) for name, files in packages]
    if not config.paths:
        raise CorpusError("source.paths is empty; name the files, for instance --set source.paths='[\"corpus.jsonl\"]'")
    found = [unit for pattern in config.paths for file in matching(pattern) for unit in _of_file(file, config)]
    if all(unit.bytes and unit.part.start == unit.part.stop for unit in found):
        more = f", nor have the other {len(found) - 1} files of its source" if len(found) > 1 else ""
        raise CorpusError(f"{found[0].name}: has no rows{more}; correct source.paths")
    return found


def read(unit: Unit, config: SourceConfig, dropped: Counter[str]) -> Iterator[Document]:
    """The documents of a unit, in order; what was left out is counted by its reason in ``dropped``.

    Raises:
        CorpusError: with file and line, where the content is not what the kind promises.
    """
    yield from READERS[unit.kind].read(unit, config, dropped)


def _of_file(file: File, config: SourceConfig) -> list[Unit]:
    whole = file.size == 0 or (config.kind == "text" and not config.blank_line_separates)
    parts = [Range()] if whole else READERS[config.kind].ranges(file)
    return [
        Unit(config.kind, _named(file, part, len(parts)), (file.path,), file.size, part, file.name) for part in parts
    ]


def _named(file: File, part: Range, of: int) -> str:
    return file.name if of == 1 else f"{file.name}[{part.start}:{part.stop}]"


def _read_documentation(unit: Unit, config: SourceConfig, dropped: Counter[str]) -> Iterator[Document]:
    yield from python_documentation.documents(unit.name, unit.paths)


def _whole(file: File) -> list[Range]:
    return [Range()]


class Kind(NamedTuple):
    ranges: Callable[[File], list[Range]]
    """Parts of a file that are read apart."""
    read: Callable[[Unit, SourceConfig, Counter[str]], Iterator[Document]]


READERS: dict[str, Kind] = {
    "python_documentation": Kind(_whole, _read_documentation),
    "text": Kind(ranges, read_text),
    "lines": Kind(ranges, read_lines),
    "json_lines": Kind(ranges, read_json_lines),
    "parquet": Kind(parquet_ranges, read_parquet),
    "arrow": Kind(arrow_ranges, read_arrow),
    "warc": Kind(_whole, read_warc),
    "mediawiki": Kind(mediawiki_ranges, read_mediawiki),
}
