"""HTTP responses, with transfer and content encodings of the body decoded (RFC 9112, 9110).

Crawlers often store a decoded body under the headers of the encoded one. So a body is decoded only if it begins like
the output of the encoding.
"""

import importlib
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from sesame.data_pipeline.sources.streams import BOMS, GZIP_MAGIC, UTF8_BOM, ZSTD_MAGIC, zstd

END_OF_HEADERS = re.compile(rb"\r?\n\r?\n")
META = re.compile(rb"(?:<meta[^>]*?charset|<\?xml[^>]*?encoding)\s*=\s*[\"']?\s*([\w:.-]+)", re.IGNORECASE)
META_BYTES = 4096
"""Start of a page, which may declare its encoding."""
HEADER = re.compile(
    rb"^(Content-Type|Content-Encoding|Transfer-Encoding)[ \t]*:((?:[^\r\n]|\r?\n[ \t])*)", re.IGNORECASE | re.MULTILINE
)
"""A line that begins with white space continues the one before it."""
CHARSET = re.compile(r"charset\s*=\s*[\"']?\s*([^\s\"';,]+)")
STATUS = re.compile(rb"HTTP\S*\s+(\d{3})")
CHUNK_SIZE = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,16})[ \t]*(;[^\r\n]*)?\r?\n")
IDENTITY = frozenset({"", "identity", "none", "binary", "7bit", "8bit", "utf-8"})


class Undecodable(Exception):
    """The body is damaged, or its encoding is not supported."""


class TooLong(Exception):
    """The decoded body is longer than the limit."""


class Response(NamedTuple):
    """An HTTP response."""

    status: bytes
    """First line."""
    headers: dict[str, list[str]]
    """Name -> values of the headers about the encoding of the body, in lower case."""
    body: bytes

    @classmethod
    def parse(cls, content: bytes) -> "Response":
        """Split into status, headers and body; content without an HTTP status line is all body."""
        if not content.startswith(b"HTTP"):
            return cls(b"", {}, content)
        end = END_OF_HEADERS.search(content)
        head, body = (content[: end.start()], content[end.end() :]) if end else (content, b"")
        headers: dict[str, list[str]] = {}
        for match in HEADER.finditer(head):
            headers.setdefault(match[1].decode().lower(), []).append(match[2].decode("latin-1").lower())
        return cls(head.partition(b"\n")[0], headers, body)

    @property
    def is_error(self) -> bool:
        """Whether the status is not one of success, such as a redirection."""
        match = STATUS.match(self.status)
        return match is not None and not match[1].startswith(b"2")

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", [""])[0].partition(";")[0].strip()

    def text(self, page: bytes, library: Any) -> str:
        """Decode the page by its byte order mark, the headers or its own declaration, if most of it can be decoded so;
        else as UTF-8, or by the detected encoding.

        Args:
            page: the decoded body.
            library: ``resiliparse.parse.encoding``.
        """
        for name in self._encodings(page, library):
            text = _decode(page, name)
            if text is not None:
                return text
        return page.decode("utf-8", "replace")

    def _encodings(self, page: bytes, library: Any) -> Iterator[str]:
        """Names of possible character encodings, the likeliest first."""
        yield from (name for bom, name in (*BOMS.items(), (UTF8_BOM, "utf-8")) if page.startswith(bom))
        for name in self._names(page):
            # Browsers read pages that declare Latin-1 as Windows-1252, which most of them are.
            known = library.map_encoding_to_html5(name, fallback_utf8=False)
            yield from [known] if known else []
        yield "utf-8"
        yield library.detect_encoding(page)

    def _names(self, page: bytes) -> Iterator[str]:
        """Character encodings that the headers and the page declare."""
        matches = (CHARSET.search(value) for value in self.headers.get("content-type", []))
        yield from (match[1] for match in matches if match)
        declared = META.search(page[:META_BYTES])
        # A page whose tags can be read as ASCII is not in UTF-16.
        if declared and not declared[1].lower().startswith(b"utf-16"):
            yield declared[1].decode()

    def decoded(self, limit: int, truncated: bool) -> bytes:
        """Decode the transfer and content encodings of the body.

        Args:
            limit: most bytes of the result.
            truncated: the crawler stopped within the body, so that a partial result is accepted.

        Raises:
            Undecodable: the body is not valid in one of the encodings.
            TooLong: the result has more than ``limit`` bytes.
        """
        values = [*self.headers.get("content-encoding", []), *self.headers.get("transfer-encoding", [])]
        return _decode_all(self.body, [name.strip() for value in values for name in value.split(",")], limit, truncated)


def _decode_all(body: bytes, encodings: list[str], limit: int, truncated: bool) -> bytes:
    """Decode ``encodings``, which are in the order in which they were applied."""
    for name in reversed(encodings):
        if name in IDENTITY:
            continue
        if name not in DECODERS:
            raise Undecodable(f"encoding {name!r} is not supported")
        try:
            body, complete = DECODERS[name](body, limit)
        except (zlib.error, zstd.ZstdError, ValueError) as error:
            raise Undecodable(f"encoding {name!r}: {error}") from None
        if not complete and not truncated:
            raise Undecodable(f"encoding {name!r}: the body is truncated")
        if len(body) > limit:
            raise TooLong
    return body


def _decode(page: bytes, codec: str) -> str | None:
    """The text of ``page``; None if more characters cannot be decoded than are decoded to non-ASCII ones."""
    try:
        text = page.decode(codec, "replace")
    except LookupError:
        return None
    lost = text.count("\ufffd")
    if lost and 2 * lost > len(text) - len(text.encode("ascii", "ignore")):
        return None
    return text.removeprefix("\ufeff")


def _decode_chunked(body: bytes, _: int) -> tuple[bytes, bool]:
    chunks, position = [], 0
    while head := CHUNK_SIZE.match(body, position):
        size = int(head[1], 16)
        if size == 0:
            return b"".join(chunks), True
        position = head.end() + size
        chunks.append(body[head.end() : position])
        if position > len(body):
            return b"".join(chunks), False
        position += 2 if body[position : position + 2] == b"\r\n" else body[position : position + 1] == b"\n"
    if not chunks:
        return body, True
    if position < len(body):
        raise ValueError("a chunk has no size")
    return b"".join(chunks), False


def _decode_gzip(body: bytes, limit: int) -> tuple[bytes, bool]:
    if not body.startswith(GZIP_MAGIC):
        return body, True
    return _all_streams(body, limit, lambda: zlib.decompressobj(wbits=31))


def _decode_deflate(body: bytes, limit: int) -> tuple[bytes, bool]:
    """Servers send deflate with a zlib header, as the standard requires, or without."""
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


def _decode_brotli(body: bytes, limit: int) -> tuple[bytes, bool]:
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


def _decode_zstd(body: bytes, limit: int) -> tuple[bytes, bool]:
    return _all_streams(body, limit, zstd.ZstdDecompressor) if body.startswith(ZSTD_MAGIC) else (body, True)


def _all_streams(body: bytes, limit: int, make: Callable[[], Any]) -> tuple[bytes, bool]:
    """Decompress all streams of ``body`` and return whether the last one is complete; what follows them is ignored."""
    content, magic = b"", body[:3]
    while body.startswith(magic) and len(content) <= limit:
        stream = make()
        content += stream.decompress(body, limit + 1 - len(content))
        if not stream.eof:
            return content, len(content) > limit
        body = stream.unused_data
    return content, True


def _is_markup(body: bytes) -> bool:
    """Whether the body looks like the page itself."""
    return body.lstrip()[:1] == b"<"


DECODERS: dict[str, Callable[[bytes, int], tuple[bytes, bool]]] = {
    "chunked": _decode_chunked,
    "gzip": _decode_gzip,
    "x-gzip": _decode_gzip,
    "deflate": _decode_deflate,
    "br": _decode_brotli,
    "zstd": _decode_zstd,
}
"""Encoding -> function (body, limit of bytes) -> (decoded body, whether it is complete)."""
