"""Articles of MediaWiki's XML dumps, read in ranges.

An uncompressed dump is split by bytes. A dump of many bz2 streams is split by streams: Wikipedia's "multistream" dumps
have one for every hundred pages. A page belongs to the range in which its ``<page>`` begins; text cannot contain that
tag, because it is written ``&lt;page&gt;`` there. The markup parser is optional: ``pip install 'sesame[wiki]'``.
"""

import bz2
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator
from functools import partial
from html import unescape
from typing import Any, NamedTuple

from sesame.data_pipeline.sources.config import SourceConfig
from sesame.data_pipeline.sources.damage import until_damaged
from sesame.data_pipeline.sources.document import Document
from sesame.data_pipeline.sources.files import RANGE_BYTES, File, Range, byte_ranges, split_evenly
from sesame.data_pipeline.sources.optional import import_optional
from sesame.data_pipeline.sources.streams import BLOCK_BYTES, DAMAGED, compression, open_stored, open_text
from sesame.data_pipeline.sources.unit import Unit
from sesame.data_pipeline.sources.wiki_text import Names, is_redirect, visible_text

PAGE, PAGE_END, DUMP_END = b"<page>", b"</page>", b"</mediawiki>"
STREAM = re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)")
"""First bytes of a bz2 stream, with content or without."""
STREAM_BYTES = 10
WIKITEXT = "wikitext"
TITLE = re.compile(rb"<title>([^<]*)")
NAMESPACE = re.compile(r"<namespace key=\"(-?\d+)\"[^>]*>([^<]+)</namespace>")
HEAD_BYTES = 1 << 16
"""The start of a dump, which names its namespaces."""
COMPRESSED_RANGE_BYTES = RANGE_BYTES // 4
"""bz2 compresses such text to about a quarter."""


class Chunk(NamedTuple):
    """A block of decompressed text."""

    content: bytes
    in_range: bool
    """False for what follows the range, which is read to finish its last page."""


def mediawiki_ranges(file: File) -> list[Range]:
    """The ranges of stored bytes to read a dump in; of compressed dumps, only bz2 has streams to start at."""
    if file.size > COMPRESSED_RANGE_BYTES and compression(file.path) == ".bz2":
        return split_evenly(file, COMPRESSED_RANGE_BYTES)
    return byte_ranges(file)


def read_mediawiki(unit: Unit, config: SourceConfig, dropped: Counter[str]) -> Iterator[Document]:
    """Yield the visible text of each article's newest revision; pages outside the article namespace and redirects are
    counted in ``dropped``."""
    parse = import_optional("mwparserfromhell", "wiki").parse
    names = _names(unit.paths[0])
    for content in until_damaged(_pages(unit, config.maximum_bytes), unit, config, dropped):
        if content is None:
            dropped["too large"] += 1
            continue
        try:
            page = ElementTree.fromstring(content)
        except ElementTree.ParseError as error:
            config.handle_damaged("not XML", partial(_not_xml, unit, content, error), dropped)
            continue
        markup = _article(page, names)
        if markup is None:
            dropped["not an article"] += 1
        else:
            yield Document(visible_text(markup, names, parse), f"{unit.file}#{page.findtext('title')}")


def _article(page: ElementTree.Element, names: Names) -> str | None:
    """The markup of a page's newest revision; None if it is not an article."""
    space, title = page.findtext("ns"), page.findtext("title") or ""
    if space is None:  # dumps from before 2012 have no <ns>
        prefix, colon, _ = title.partition(":")
        space = "1" if colon and prefix.strip().lower() in names.all else "0"
    if space != "0" or page.find("redirect") is not None:
        return None
    revisions = [each for each in page.iter("revision") if not _is_deleted(each)]
    if not revisions:
        return None
    newest = max(enumerate(revisions), key=lambda each: (each[1].findtext("timestamp") or "", each[0]))[1]
    markup = newest.findtext("text") or ""
    if (newest.findtext("model") or WIKITEXT) != WIKITEXT or is_redirect(markup):
        return None
    return markup


def _is_deleted(revision: ElementTree.Element) -> bool:
    text = revision.find("text")
    return text is not None and "deleted" in text.attrib


def _names(path: str) -> Names:
    """Read the names of the namespaces from the start of a dump."""
    try:
        with open_text(path) as file:
            head = file.read(HEAD_BYTES).decode("utf-8", "replace")
    except DAMAGED:
        head = ""  # reported when the pages are read
    names: dict[str, set[str]] = {}
    for key, name in NAMESPACE.findall(head):
        names.setdefault(key, set()).add(unescape(name).strip().lower())
    return Names.of(names)


def _not_xml(unit: Unit, content: bytes, error: Exception) -> str:
    title = TITLE.search(content)
    name = title[1].decode("utf-8", "replace") if title else "without a title"
    return f"{unit.file}: the page {name!r} is not XML ({error}); correct or remove it, or set source.damaged = 'count'"


def _pages(unit: Unit, limit: int) -> Iterator[bytes | None]:
    """Yield each page that begins in the range, with its tags; None for one of more than ``limit`` bytes.

    The range with the last page is read to the closing tag of the dump, so that one range reports a truncated dump.

    Raises:
        EOFError: the dump ends within a page, or without that tag.
    """
    buffer, in_page, too_large, ended = bytearray(), False, False, False
    range_end: int | None = None
    consumed = searched = 0
    may_have_last_page = unit.part.start == 0
    for content, in_range in _chunks(unit):
        if not in_range and range_end is None:
            range_end = consumed + len(buffer)
        buffer += content
        while (at := buffer.find(PAGE_END if in_page else PAGE, searched)) >= 0:
            if not in_page and range_end is not None and consumed + at >= range_end:
                return
            stop = at + len(PAGE_END) if in_page else at
            if in_page:
                yield None if too_large or stop > limit else bytes(buffer[:stop])
            del buffer[:stop]
            consumed, searched, in_page, too_large = consumed + stop, 0, not in_page, False
            may_have_last_page, ended = True, False
        if in_page and len(buffer) <= limit:
            searched = max(0, len(buffer) - len(PAGE_END))
            continue
        ended = ended or (not in_page and DUMP_END in buffer)
        range_searched = range_end is not None and consumed + len(buffer) >= range_end + len(PAGE)
        if not in_page and range_searched and (ended or not may_have_last_page):
            return
        # Keep the last bytes, which may be the beginning of a tag.
        too_large, surplus = too_large or in_page, max(0, len(buffer) - len(DUMP_END))
        del buffer[:surplus]
        consumed, searched = consumed + surplus, 0
    if in_page or (may_have_last_page and not ended):
        raise EOFError("it ends within a page" if in_page else f"it ends without {DUMP_END.decode()}")


def _chunks(unit: Unit) -> Iterator[Chunk]:
    """Yield the text from the start of the range to the end of the dump."""
    path, (start, stop) = unit.paths[0], unit.part
    if compression(path) == ".bz2":
        yield from _bz2_chunks(path, start, stop if stop is not None else unit.bytes)
        return
    with open_text(path) as stream:
        if start:
            stream.seek(start)
        left = stop - start if stop is not None else None
        while block := stream.read(BLOCK_BYTES if not left else min(left, BLOCK_BYTES)):
            yield Chunk(block, left is None or left > 0)
            left = None if left is None else max(0, left - len(block))


def _bz2_chunks(path: str, start: int, stop: int) -> Iterator[Chunk]:
    """Yield the text of the bz2 streams from the first that begins in [start, stop) to the end of the file.

    Raises:
        OSError, EOFError: a stream is damaged or truncated.
    """
    with open_stored(path) as file:
        stream_start = _first_stream(file, start, stop)
        if stream_start is None:
            return
        file.seek(stream_start)
        position, stream, block = stream_start, bz2.BZ2Decompressor(), b""
        while True:
            if stream.needs_input and not block:
                block = file.read(BLOCK_BYTES)
                position += len(block)
                if not block:
                    raise EOFError("its last bz2 stream is truncated")
            if content := stream.decompress(block, BLOCK_BYTES):
                yield Chunk(content, stream_start < stop)
            block = b""
            if stream.eof:
                block = stream.unused_data
                if len(block) < STREAM_BYTES:
                    more = file.read(BLOCK_BYTES + STREAM_BYTES)
                    block, position = block + more, position + len(more)
                if not STREAM.match(block):
                    return
                stream_start, stream = position - len(block), bz2.BZ2Decompressor()


def _first_stream(file: Any, start: int, stop: int) -> int | None:
    """Offset of the first bz2 stream that begins in [start, stop)."""
    if start == 0:
        return 0
    file.seek(start)
    position, buffer = start, b""
    while position - len(buffer) < stop and (block := file.read(BLOCK_BYTES)):
        buffer, position = buffer + block, position + len(block)
        if match := STREAM.search(buffer):
            offset = position - len(buffer) + match.start()
            return offset if offset < stop else None
        buffer = buffer[-STREAM_BYTES:]
    return None
