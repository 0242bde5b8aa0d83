"""Crawls and wikis: the text of pages in WARC archives and of articles in MediaWiki dumps.

The parsers are optional: ``pip install 'sesame[web]'`` for WARC, ``pip install 'sesame[wiki]'`` for MediaWiki.
"""

import importlib
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from configs.errors import CorpusError
from data_pipeline.document import Document
from data_pipeline.files import BROKEN, open_binary, open_stored
from data_pipeline.unit import SourceConfig, Unit

HTML = ("text/html", "application/xhtml+xml")
BLANK_LINES = re.compile(r"\n\s*\n\s*")


def read_warc(unit: Unit, config: SourceConfig, dropped: Counter[str]) -> Iterator[Document]:
    """The main text of each HTML page (WARC), or each extracted text (WET)."""
    warc = _needed("fastwarc.warc", "web")
    types = warc.WarcRecordType.response | warc.WarcRecordType.conversion
    with open_stored(unit.paths[0]) as stream:
        for record in _until_broken(unit, config, dropped, warc.ArchiveIterator(stream, record_types=types)):
            text = _page_text(record, warc, config, dropped)
            if text:
                address = record.headers.get("WARC-Target-URI", "")
                yield Document(text, f"{unit.file}@{record.stream_pos} {address}".rstrip())


def read_mediawiki(unit: Unit, config: SourceConfig, dropped: Counter[str]) -> Iterator[Document]:
    """The text of each article, without markup; redirects, talk and other pages about pages are passed over."""
    parser = _needed("mwparserfromhell", "wiki")
    with open_binary(unit.paths[0]) as stream:
        for page in _until_broken(unit, config, dropped, _pages(stream)):
            markup = page.findtext("{*}revision/{*}text") or ""
            if page.findtext("{*}ns") != "0" or page.find("{*}redirect") is not None:
                dropped["not an article"] += 1
            elif len(markup) > config.maximum_bytes:
                dropped["too large"] += 1
            else:
                text = parser.parse(markup).strip_code(keep_template_params=False)
                yield Document(BLANK_LINES.sub("\n\n", text).strip(), f"{unit.file}#{page.findtext('{*}title')}")


def _pages(stream: Any) -> Iterator[ElementTree.Element]:
    """Page elements one by one; what has been read is let go."""
    events = ElementTree.iterparse(stream, events=("start", "end"))
    _, root = next(events)
    for event, element in events:
        if event == "end" and element.tag.endswith("}page"):
            yield element
            root.clear()


def _page_text(record: Any, warc: Any, config: SourceConfig, dropped: Counter[str]) -> str | None:
    if record.content_length > config.maximum_bytes:
        dropped["too large"] += 1
        return None
    if record.record_type == warc.WarcRecordType.conversion:
        return record.reader.read().decode("utf-8", "replace")
    if (record.http_content_type or "").split(";")[0].strip().lower() not in HTML:
        dropped["not HTML"] += 1
        return None
    encoding = _needed("resiliparse.parse.encoding", "web")
    content = record.reader.read()
    page = encoding.bytes_to_str(content, record.http_charset or encoding.detect_encoding(content))
    return _needed("resiliparse.extract.html2text", "web").extract_plain_text(page, main_content=True)


def _until_broken(unit: Unit, config: SourceConfig, dropped: Counter[str], records: Iterable[Any]) -> Iterator[Any]:
    count = 0
    try:
        for record in records:
            yield record
            count += 1
    except (*BROKEN, ElementTree.ParseError) as error:
        said = f"{unit.file}: breaks off after record {count} ({error}); copy it anew, or set source.damaged = 'count'"
        config.leave_out("file breaks off", lambda: said, dropped)


def _needed(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise CorpusError(f"source.kind needs {module}; pip install 'sesame[{extra}]'") from None
