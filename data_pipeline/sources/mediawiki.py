"""Articles of MediaWiki's XML dumps, in parts that are read apart.

A dump that is not compressed is parted by bytes, and one of many bz2 streams by streams: Wikipedia's "multistream"
dumps have one for every hundred pages. A page belongs to the part in which its ``<page>`` begins; text cannot hold that
tag, for there it is written ``&lt;page&gt;``. The parser of the markup is optional: ``pip install 'sesame[wiki]'``.
"""

import bz2
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator
from functools import partial as bound
from html import unescape
from typing import Any, NamedTuple

from data_pipeline.sources.archives import needed, until_broken
from data_pipeline.sources.document import Document
from data_pipeline.sources.files import RANGE_BYTES, File, Range, parted, ranges
from data_pipeline.sources.streams import BLOCK_BYTES, BROKEN, compression, open_stored, open_text
from data_pipeline.sources.unit import SourceConfig, Unit
from data_pipeline.sources.wiki_text import Names, is_redirect, visible_text

PAGE, PAGE_END, DUMP_END = b"<page>", b"</page>", b"</mediawiki>"
STREAM = re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)")
"""How a bz2 stream begins, with content or without."""
STREAM_BYTES = 10
WIKITEXT = "wikitext"
TITLE = re.compile(rb"<title>([^<]*)")
NAMESPACE = re.compile(r"<namespace key=\"(-?\d+)\"[^>]*>([^<]+)</namespace>")
HEAD_BYTES = 1 << 16
"""Where a dump names its namespaces."""
COMPRESSED_RANGE_BYTES = RANGE_BYTES // 4
"""bz2 makes about a quarter of such text."""


class Chunk(NamedTuple):
    """Some text of a dump, in order."""

    content: bytes
    ours: bool
    """Whether it lies in the part that is read; what follows it is there to end the last page."""


def mediawiki_ranges(file: File) -> list[Range]:
    """The ranges of stored bytes that a dump is read in; of a compressed one only bz2 can be entered in the middle."""
    if file.size > COMPRESSED_RANGE_BYTES and compression(file.path) == ".bz2":
        return parted(file, COMPRESSED_RANGE_BYTES)
    return ranges(file)


def read_mediawiki(unit: Unit, config: SourceConfig, dropped: Counter[str]) -> Iterator[Document]:
    """The text of each article in its newest revision, as a reader sees it; redirects, talk and other pages about pages
    are passed over."""
    parse = needed("mwparserfromhell", "wiki").parse
    names = _names(unit.paths[0])
    for content in until_broken(unit, config, dropped, _pages(unit, config.maximum_bytes)):
        if content is None:
            dropped["too large"] += 1
            continue
        try:
            page = ElementTree.fromstring(content)
        except ElementTree.ParseError as error:
            config.leave_out("not XML", bound(_not_xml, unit, content, error), dropped)
            continue
        markup = _article(page, names)
        if markup is None:
            dropped["not an article"] += 1
        else:
            yield Document(visible_text(markup, names, parse), f"{unit.file}#{page.findtext('title')}")


def _article(page: ElementTree.Element, names: Names) -> str | None:
    """The markup of a page's newest revision; None where it is no article."""
    space, title = page.findtext("ns"), page.findtext("title") or ""
    if space is None:  # as in dumps of before 2012
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
    """What the head of a dump says of the names of its namespaces."""
    try:
        with open_text(path) as file:
            head = file.read(HEAD_BYTES).decode("utf-8", "replace")
    except BROKEN:
        head = ""  # which is said when the pages are read
    found: dict[str, set[str]] = {}
    for key, name in NAMESPACE.findall(head):
        found.setdefault(key, set()).add(unescape(name).strip().lower())
    return Names.of(found)


def _not_xml(unit: Unit, content: bytes, error: Exception) -> str:
    title = TITLE.search(content)
    name = title[1].decode("utf-8", "replace") if title else "without a title"
    return f"{unit.file}: the page {name!r} is not XML ({error}); correct or remove it, or set source.damaged = 'count'"


def _pages(unit: Unit, limit: int) -> Iterator[bytes | None]:
    """Each page that begins in the part, from its first tag to its last; None for one of more than ``limit`` bytes.

    The part with the last page reads on to the tag that ends the dump, so that a dump cut short is noticed once.

    Raises:
        EOFError: the dump ends within a page, or without that tag.
    """
    held, begun, large, ended = bytearray(), False, False, False
    ours_until: int | None = None
    passed = searched = 0
    responsible = unit.part.start == 0
    for content, ours in _chunks(unit):
        if not ours and ours_until is None:
            ours_until = passed + len(held)
        held += content
        while (at := held.find(PAGE_END if begun else PAGE, searched)) >= 0:
            if not begun and ours_until is not None and passed + at >= ours_until:
                return
            stop = at + len(PAGE_END) if begun else at
            if begun:
                yield None if large or stop > limit else bytes(held[:stop])
            del held[:stop]
            passed, searched, begun, large = passed + stop, 0, not begun, False
            responsible, ended = True, False
        if begun and len(held) <= limit:
            searched = max(0, len(held) - len(PAGE_END))
            continue
        ended = ended or (not begun and DUMP_END in held)
        looked_at = ours_until is not None and passed + len(held) >= ours_until + len(PAGE)
        if not begun and looked_at and (ended or not responsible):
            return
        # What may be the beginning of a tag is kept.
        large, gone = large or begun, max(0, len(held) - len(DUMP_END))
        del held[:gone]
        passed, searched = passed + gone, 0
    if begun or (responsible and not ended):
        raise EOFError("it ends within a page" if begun else f"it ends without {DUMP_END.decode()}")


def _chunks(unit: Unit) -> Iterator[Chunk]:
    """The text of a part from its beginning, and on to the end of the dump."""
    path, (start, stop) = unit.paths[0], unit.part
    if compression(path) == ".bz2":
        yield from _of_streams(path, start, stop if stop is not None else unit.bytes)
        return
    with open_text(path) as stream:
        if start:
            stream.seek(start)
        left = stop - start if stop is not None else None
        while block := stream.read(BLOCK_BYTES if not left else min(left, BLOCK_BYTES)):
            yield Chunk(block, left is None or left > 0)
            left = None if left is None else max(0, left - len(block))


def _of_streams(path: str, start: int, stop: int) -> Iterator[Chunk]:
    """The text of the bz2 streams that begin in [start, stop), and of those behind them.

    Raises:
        OSError, EOFError: a stream is damaged or cut short.
    """
    with open_stored(path) as file:
        begin = _first_stream(file, start, stop)
        if begin is None:
            return
        file.seek(begin)
        place, stream, block = begin, bz2.BZ2Decompressor(), b""
        while True:
            if stream.needs_input and not block:
                block = file.read(BLOCK_BYTES)
                place += len(block)
                if not block:
                    raise EOFError("its last bz2 stream is cut short")
            if content := stream.decompress(block, BLOCK_BYTES):
                yield Chunk(content, begin < stop)
            block = b""
            if stream.eof:
                block = stream.unused_data
                if len(block) < STREAM_BYTES:
                    more = file.read(BLOCK_BYTES + STREAM_BYTES)
                    block, place = block + more, place + len(more)
                if not STREAM.match(block):
                    return
                begin, stream = place - len(block), bz2.BZ2Decompressor()


def _first_stream(file: Any, start: int, stop: int) -> int | None:
    """Where the first bz2 stream in [start, stop) begins."""
    if start == 0:
        return 0
    file.seek(start)
    place, held = start, b""
    while place - len(held) < stop and (block := file.read(BLOCK_BYTES)):
        held, place = held + block, place + len(block)
        if found := STREAM.search(held):
            at = place - len(held) + found.start()
            return at if at < stop else None
        held = held[-STREAM_BYTES:]
    return None
