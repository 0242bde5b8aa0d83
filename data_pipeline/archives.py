"""Crawls: the text of pages in WARC archives. The parsers are optional: ``pip install 'sesame[web]'``."""

import importlib
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from configs.errors import CorpusError
from data_pipeline.document import Document
from data_pipeline.streams import BROKEN, open_stored
from data_pipeline.unit import SourceConfig, Unit

HTML = ("text/html", "application/xhtml+xml")


def read_warc(unit: Unit, config: SourceConfig, dropped: Counter[str]) -> Iterator[Document]:
    """The main text of each HTML page (WARC), or each extracted text (WET)."""
    warc = needed("fastwarc.warc", "web")
    types = warc.WarcRecordType.response | warc.WarcRecordType.conversion
    with open_stored(unit.paths[0]) as stream:
        for record in until_broken(unit, config, dropped, warc.ArchiveIterator(stream, record_types=types)):
            text = _page_text(record, warc, config, dropped)
            if text:
                address = record.headers.get("WARC-Target-URI", "")
                yield Document(text, f"{unit.file}@{record.stream_pos} {address}".rstrip())


def _page_text(record: Any, warc: Any, config: SourceConfig, dropped: Counter[str]) -> str | None:
    if record.content_length > config.maximum_bytes:
        dropped["too large"] += 1
        return None
    if record.record_type == warc.WarcRecordType.conversion:
        return record.reader.read().decode("utf-8", "replace")
    if (record.http_content_type or "").split(";")[0].strip().lower() not in HTML:
        dropped["not HTML"] += 1
        return None
    encoding = needed("resiliparse.parse.encoding", "web")
    content = record.reader.read()
    page = encoding.bytes_to_str(content, record.http_charset or encoding.detect_encoding(content))
    return needed("resiliparse.extract.html2text", "web").extract_plain_text(page, main_content=True)


def until_broken(unit: Unit, config: SourceConfig, dropped: Counter[str], records: Iterable[Any]) -> Iterator[Any]:
    """The records of a file up to where it is damaged, which is said or counted."""
    count = 0
    try:
        for record in records:
            yield record
            count += 1
    except (*BROKEN, ElementTree.ParseError) as error:
        said = f"{unit.name}: breaks off after record {count} ({error}); copy it anew, or set source.damaged = 'count'"
        config.leave_out("file breaks off", lambda: said, dropped)


def needed(module: str, extra: str) -> Any:
    """A module of an optional package.

    Raises:
        CorpusError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise CorpusError(f"source.kind needs {module}; pip install 'sesame[{extra}]'") from None
