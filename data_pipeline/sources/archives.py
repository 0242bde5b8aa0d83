"""Crawls: the text of pages in WARC archives. The parsers are optional: ``pip install 'sesame[web]'``."""

import importlib
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from configs.errors import CorpusError
from data_pipeline.sources.document import Document
from data_pipeline.sources.http_body import Answer, TooLong, Undecodable
from data_pipeline.sources.streams import BROKEN, ZSTD_DICTIONARY, open_binary, open_stored
from data_pipeline.sources.unit import SourceConfig, Unit

HTML = ("text/html", "application/xhtml+xml")
BEGIN = b"WARC/"
PADDING_BYTES = 64
"""Where the first record may begin, after blank lines."""
LZ4 = b"\x04\x22\x4d\x18"


class Record(NamedTuple):
    """A record of an archive."""

    kind: Any
    headers: Any
    place: int
    """Where it begins: in the stored file if a compressed stream begins with it, else in the decompressed one."""
    content: bytes | None
    """None where it is too large."""


def read_warc(unit: Unit, config: SourceConfig, dropped: Counter[str]) -> Iterator[Document]:
    """The main text of each HTML page (WARC), or each extracted text (WET)."""
    kinds = needed("fastwarc.warc", "web").WarcRecordType
    parsers = Parsers(needed("resiliparse.parse.encoding", "web"), needed("resiliparse.extract.html2text", "web"))
    for record in until_broken(unit, config, dropped, _records(unit, config.maximum_bytes)):
        place = f"{unit.file}@{record.place} {record.headers.get('WARC-Target-URI', '')}".rstrip()
        if record.kind not in (kinds.response, kinds.conversion):
            continue
        if record.content is None:
            dropped["too large"] += 1
            continue
        if record.kind == kinds.conversion:
            text = record.content.decode("utf-8", "replace")
        else:
            text = _page_text(record, place, config, dropped, parsers)
        if text:
            yield Document(text, place)


class Parsers(NamedTuple):
    """Modules of resiliparse."""

    encoding: Any
    html: Any


def _page_text(record: Record, place: str, config: SourceConfig, dropped: Counter[str], parsers: Parsers) -> str | None:
    answer = Answer.of(record.content or b"")
    if answer.content_type not in HTML:
        dropped["not HTML"] += 1
        return None
    if answer.is_error:
        dropped["HTTP error"] += 1
        return None
    try:
        content = answer.decoded(config.maximum_bytes, cut="WARC-Truncated" in record.headers)
    except TooLong:
        dropped["too large"] += 1
        return None
    except Undecodable as error:
        message = f"{place}: cannot be decoded ({error}); remove the record, or set source.damaged = 'count'"
        config.leave_out("undecodable page", lambda: message, dropped)
        return None
    return parsers.html.extract_plain_text(answer.text(content, parsers.encoding), main_content=True)


def _records(unit: Unit, limit: int) -> Iterator[Record]:
    """All records of an archive.

    Raises:
        CorpusError: it is no WARC archive.
        EOFError: it ends within a record.
    """
    warc = needed("fastwarc.warc", "web")
    with _opened(unit) as stream:
        begins = getattr(stream.raw, "begins", {})
        for record in warc.ArchiveIterator(OneRead(stream), parse_http=False):
            if not record.headers.get("Content-Length"):
                raise EOFError("it ends within the headers of a record")
            content = record.reader.read() if record.content_length <= limit else None
            size = record.reader.consume() if content is None else len(content)
            if size < record.content_length:
                raise EOFError("it ends within a record")
            place = begins.get(record.stream_pos, record.stream_pos)
            yield Record(record.record_type, record.headers, place, content)


class OneRead:
    """A stream that gives what it has before it fails, so that no record is lost that was read before."""

    def __init__(self, stream: Any):
        self.tell, self.read = stream.tell, stream.read1


def _opened(unit: Unit) -> Any:
    """The archive, decompressed, but for two compressions that FastWARC knows."""
    stored = open_stored(unit.paths[0])
    if stored.peek(4).startswith((LZ4, ZSTD_DICTIONARY)):
        return stored
    stored.close()
    stream = open_binary(unit.paths[0])
    first = stream.peek(PADDING_BYTES).lstrip()[: len(BEGIN)]
    if not BEGIN.startswith(first):
        raise CorpusError(f"{unit.file}: is no WARC archive (it begins with {first!r}); check source.kind")
    return stream


def until_broken(unit: Unit, config: SourceConfig, dropped: Counter[str], records: Iterable[Any]) -> Iterator[Any]:
    """The records of a file up to where it is damaged, which is reported or counted."""
    count = 0
    try:
        for record in records:
            yield record
            count += 1
    except (*BROKEN, ElementTree.ParseError) as error:
        message = (
            f"{unit.name}: breaks off after record {count} ({error}); copy it again, or set source.damaged = 'count'"
        )
        config.leave_out("file breaks off", lambda: message, dropped)


def needed(module: str, extra: str) -> Any:
    """A module of an optional package.

    Raises:
        CorpusError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise CorpusError(f"source.kind needs {module}; pip install 'sesame[{extra}]'") from None
