"""HTTP answers: the page as it was before it was sent, transfer and content encodings undone (RFC 9112, 9110).

Crawlers often store a body decoded under the headers of the encoded one. So an encoding is undone only if the body
begins as it makes them.
"""

import importlib
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from data_pipeline.sources.streams import GZIP_MARK, MARKS, UTF8_MARK, ZSTD_MARK, zstd

END_OF_HEADERS = re.compile(rb"\r?\n\r?\n")
META = re.compile(rb"(?:<meta[^>]*?charset|<\?xml[^>]*?encoding)\s*=\s*[\"']?\s*([\w:.-]+)", re.IGNORECASE)
META_BYTES = 4096
"""Where a page says what its encoding is, if it does."""
HEADER = re.compile(
    rb"^(Content-Type|Content-Encoding|Transfer-Encoding)[ \t]*:((?:[^\r\n]|\r?\n[ \t])*)", re.IGNORECASE | re.MULTILINE
)
"""A line that begins with white space goes on with the one before it."""
CHARSET = re.compile(r"charset\s*=\s*[\"']?\s*([^\s\"';,]+)")
STATUS = re.compile(rb"HTTP\S*\s+(\d{3})")
CHUNK_SIZE = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,16})[ \t]*(;[^\r\n]*)?\r?\n")
IDENTITY = frozenset({"", "identity", "none", "binary", "7bit", "8bit", "utf-8"})


class Undecodable(Exception):
    """The body is damaged, or made by an encoding that is not known here."""


class TooLong(Exception):
    """The body is longer than the limit when it is decoded."""


class Answer(NamedTuple):
    """An HTTP answer."""

    status: bytes
    """Its first line."""
    headers: dict[str, list[str]]
    """Name -> values of the headers that say how the body was sent, in lower case."""
    body: bytes

    @classmethod
    def of(cls, content: bytes) -> "Answer":
        """Part what was received; what does not begin as an answer does has no headers."""
        if not content.startswith(b"HTTP"):
            return cls(b"", {}, content)
        end = END_OF_HEADERS.search(content)
        head, body = (content[: end.start()], content[end.end() :]) if end else (content, b"")
        headers: dict[str, list[str]] = {}
        for found in HEADER.finditer(head):
            headers.setdefault(found[1].decode().lower(), []).append(found[2].decode("latin-1").lower())
        return cls(head.partition(b"\n")[0], headers, body)

    @property
    def is_error(self) -> bool:
        """Is it something else than the page, such as a redirection?"""
        found = STATUS.match(self.status)
        return found is not None and not found[1].startswith(b"2")

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", [""])[0].partition(";")[0].strip()

    def text(self, page: bytes, library: Any) -> str:
        """The page decoded as its byte order mark, the headers or the page itself say, if most of it can be; else as
        UTF-8, or as the bytes look.

        Args:
            page: the body without its encodings.
            library: ``resiliparse.parse.encoding``.
        """
        for name in self._encodings(page, library):
            text = _read_as(page, name)
            if text is not None:
                return text
        return page.decode("utf-8", "replace")

    def _encodings(self, page: bytes, library: Any) -> Iterator[str]:
        """Names of encodings that the page may have, the likeliest first."""
        yield from (name for mark, name in (*MARKS.items(), (UTF8_MARK, "utf-8")) if page.startswith(mark))
        for name in self._names(page):
            # Pages that say Latin-1 are Windows-1252, and browsers read them so.
            known = library.map_encoding_to_html5(name, fallback_utf8=False)
            yield from [known] if known else []
        yield "utf-8"
        yield library.detect_encoding(page)

    def _names(self, page: bytes) -> Iterator[str]:
        """What the headers and the page call the encoding."""
        yield from (found[1] for value in self.headers.get("content-type", []) if (found := CHARSET.search(value)))
        within = META.search(page[:META_BYTES])
        # A page whose tags can be read is not in UTF-16, whatever they say.
        if within and not within[1].lower().startswith(b"utf-16"):
            yield within[1].decode()

    def decoded(self, limit: int, cut: bool) -> bytes:
        """The body without its encodings.

        Args:
            limit: most bytes of the result.
            cut: whether the crawler stopped within the body; then what there is of it is enough.

        Raises:
            Undecodable: the body is not what one of the encodings makes.
            TooLong: it has more than ``limit`` bytes.
        """
        values = [*self.headers.get("content-encoding", []), *self.headers.get("transfer-encoding", [])]
        return _undone(self.body, [name.strip() for value in values for name in value.split(",")], limit, cut)


def _undone(body: bytes, encodings: list[str], limit: int, cut: bool) -> bytes:
    """``encodings`` undone, which are in the order in which they were applied."""
    for name in reversed(encodings):
        if name in IDENTITY:
            continue
        if name not in DECODERS:
            raise Undecodable(f"encoding {name!r} is not known")
        try:
            body, whole = DECODERS[name](body, limit)
        except (zlib.error, zstd.ZstdError, ValueError) as error:
            raise Undecodable(f"encoding {name!r}: {error}") from None
        if not whole and not cut:
            raise Undecodable(f"encoding {name!r}: the body is cut short")
        if len(body) > limit:
            raise TooLong
    return body


def _read_as(page: bytes, codec: str) -> str | None:
    """The text of ``page``; None if more of it cannot be decoded than is beyond ASCII and can."""
    try:
        text = page.decode(codec, "replace")
    except LookupError:
        return None
    lost = text.count("\ufffd")
    if lost and 2 * lost > len(text) - len(text.encode("ascii", "ignore")):
        return None
    return text.removeprefix("\ufeff")


def _without_chunks(body: bytes, _: int) -> tuple[bytes, bool]:
    pieces, place = [], 0
    while head := CHUNK_SIZE.match(body, place):
        size = int(head[1], 16)
        if size == 0:
            return b"".join(pieces), True
        place = head.end() + size
        pieces.append(body[head.end() : place])
        if place > len(body):
            return b"".join(pieces), False
        place += 2 if body[place : place + 2] == b"\r\n" else body[place : place + 1] == b"\n"
    if not pieces:
        return body, True
    if place < len(body):
        raise ValueError("a chunk has no size")
    return b"".join(pieces), False


def _inflated(body: bytes, limit: int) -> tuple[bytes, bool]:
    if not body.startswith(GZIP_MARK):
        return body, True
    return _all_streams(body, limit, lambda: zlib.decompressobj(wbits=31))


def _deflated(body: bytes, limit: int) -> tuple[bytes, bool]:
    """Servers send deflate with the header of zlib, as the standard says, or without."""
    errors = []
    for bits in (zlib.MAX_WBITS, -zlib.MAX_WBITS):
        stream = zlib.decompressobj(wbits=bits)
        try:
            return stream.decompress(body, limit + 1), stream.eof
        except zlib.error as error:
            errors.append(error)
    if _is_markup(body):
        return body, True
    raise errors[0]


def _unbrotlied(body: bytes, limit: int) -> tuple[bytes, bool]:
    try:
        brotli: Any = importlib.import_module("brotli")
    except ImportError:
        raise ValueError("needs brotli; pip install 'sesame[web]'") from None
    stream = brotli.Decompressor()
    try:
        content = stream.process(body)
    except brotli.error as error:
        if _is_markup(body):
            return body, True
        raise ValueError(error) from None
    return content[: limit + 1], stream.is_finished()


def _unzstd(body: bytes, limit: int) -> tuple[bytes, bool]:
    return _all_streams(body, limit, zstd.ZstdDecompressor) if body.startswith(ZSTD_MARK) else (body, True)


def _all_streams(body: bytes, limit: int, make: Callable[[], Any]) -> tuple[bytes, bool]:
    """What all streams of ``body`` hold, and whether the last one is whole; what follows them is left out."""
    found, mark = b"", body[:3]
    while body.startswith(mark) and len(found) <= limit:
        stream = make()
        found += stream.decompress(body, limit + 1 - len(found))
        if not stream.eof:
            return found, len(found) > limit
        body = stream.unused_data
    return found, True


def _is_markup(body: bytes) -> bool:
    """Does the body look like the page itself?"""
    return body.lstrip()[:1] == b"<"


DECODERS: dict[str, Callable[[bytes, int], tuple[bytes, bool]]] = {
    "chunked": _without_chunks,
    "gzip": _inflated,
    "x-gzip": _inflated,
    "deflate": _deflated,
    "br": _unbrotlied,
    "zstd": _unzstd,
}
"""Encoding -> (body, most bytes) -> (decoded body, whether it is whole)."""
