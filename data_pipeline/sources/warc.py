"""The text of web pages in WARC archives. The parsers are optional: ``pip install 'sesame[web]'``."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from sesame.configs.errors import CorpusError
from sesame.data_pipeline.sources.config import SourceConfig
from sesame.data_pipeline.sources.damage import until_damaged
from sesame.data_pipeline.sources.document import Document
from sesame.data_pipeline.sources.http_response import Response, TooLong, Undecodable
from sesame.data_pipeline.sources.optional import import_optional
from sesame.data_pipeline.sources.streams import ZSTD_DICTIONARY_MAGIC, open_binary, open_stored
from sesame.data_pipeline.sources.unit import Unit

HTML = ("text/html", "application/xhtml+xml")
BEGIN = b"WARC/"
PADDING_BYTES = 64
"""Blank lines may precede the first record, up to here."""
LZ4_MAGIC = b"\x04\x22\x4d\x18"


class Record(NamedTuple):
    """One record of an archive."""

    kind: Any
    headers: Any
    offset: int
    """Of its first byte: in the stored file if a compressed stream begins with it, else in the decompressed one."""
    content: bytes | None
    """None if it is too large."""


def read_warc(unit: Unit, config: SourceConfig, dropped: Counter[str]) -> Iterator[Document]:
    """Yield the main text of each HTML page (WARC), or each extracted text (WET)."""
    types = import_optional("fastwarc.warc", "web").WarcRecordType
    parsers = Parsers(
        import_optional("resiliparse.parse.encoding", "web"), import_optional("resiliparse.extract.html2text", "web")
    )
    for record in until_damaged(_records(unit, config.maximum_bytes), unit, config, dropped):
        source = f"{unit.file}@{record.offset} {record.headers.get('WARC-Target-URI', '')}".rstrip()
        if record.kind not in (types.response, types.conversion):
            continue
        if record.content is None:
            dropped["too large"] += 1
            continue
        if record.kind == types.conversion:
            text = record.content.decode("utf-8", "replace")
        else:
            text = _page_text(record, source, config, dropped, parsers)
        if text:
            yield Document(text, source)


class Parsers(NamedTuple):
    """Modules of resiliparse."""

    encoding: Any
    html: Any


def _page_text(
    record: Record, source: str, config: SourceConfig, dropped: Counter[str], parsers: Parsers
) -> str | None:
    response = Response.parse(record.content or b"")
    if response.content_type not in HTML:
        dropped["not HTML"] += 1
        return None
    if response.is_error:
        dropped["HTTP error"] += 1
        return None
    try:
        content = response.decoded(config.maximum_bytes, truncated="WARC-Truncated" in record.headers)
    except TooLong:
        dropped["too large"] += 1
        return None
    except Undecodable as error:
        message = f"{source}: cannot be decoded ({error}); remove the record, or set source.damaged = 'count'"
        config.handle_damaged("undecodable page", lambda: message, dropped)
        return None
    return parsers.html.extract_plain_text(response.text(content, parsers.encoding), main_content=True)


def _records(unit: Unit, limit: int) -> Iterator[Record]:
    """Yield all records of an archive.

    Raises:
        CorpusError: it is not a WARC archive.
        EOFError: it ends within a record.
    """
    warc = import_optional("fastwarc.warc", "web")
    with _opened(unit) as stream:
        stored_offsets = getattr(stream.raw, "stream_offsets", {})
        for record in warc.ArchiveIterator(SingleReads(stream), parse_http=False):
            if not record.headers.get("Content-Length"):
                raise EOFError("it ends within the headers of a record")
            content = record.reader.read() if record.content_length <= limit else None
            size = record.reader.consume() if content is None else len(content)
            if size < record.content_length:
                raise EOFError("it ends within a record")
            offset = stored_offsets.get(record.stream_pos, record.stream_pos)
            yield Record(record.record_type, record.headers, offset, content)


class SingleReads:
    """Reads a stream one raw call at a time, so that records before an error are not lost."""

    def __init__(self, stream: Any):
        self.tell, self.read = stream.tell, stream.read1


def _opened(unit: Unit) -> Any:
    """Open the archive decompressed, except from two compressions that FastWARC reads itself."""
    stored = open_stored(unit.paths[0])
    if stored.peek(4).startswith((LZ4_MAGIC, ZSTD_DICTIONARY_MAGIC)):
        return stored
    stored.close()
    stream = open_binary(unit.paths[0])
    first = stream.peek(PADDING_BYTES).lstrip()[: len(BEGIN)]
    if not BEGIN.startswith(first):
        raise CorpusError(f"{unit.file}: is not a WARC archive (it begins with {first!r}); check source.kind")
    return stream
