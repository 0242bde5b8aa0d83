"""WARC archives: pages in all encodings, and truncated archives."""

import bz2
import gzip
import lzma
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from sesame.configs.errors import CorpusError
from sesame.data_pipeline.sources.streams import zstd
from tests.data_pipeline.sources.test_sources import config, documents, warc_record

TEXT = "Die Stra\u00dfe f\u00fchrt am Flu\u00df entlang. "
PAGE = f"<html><body><main><p>{TEXT * 20}</p></main></body></html>".encode()
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "none": bytes,
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstd.compress,
}


def response(body: bytes, *headers: str, kind: str = "text/html; charset=utf-8", status: str = "200 OK") -> bytes:
    lines = "".join(f"{line}\r\n" for line in (f"Content-Type: {kind}", *headers))
    return warc_record("response", f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + body)


def chunked(body: bytes, size: int = 100, end: bytes = b"0\r\n\r\n") -> bytes:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%X;name=value\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + end


def raw_deflate(body: bytes) -> bytes:
    return zlib.compress(body, wbits=-15)


def read(path: Path, content: bytes, damaged: str = "stop") -> tuple[list[str], Counter[str]]:
    path.write_bytes(content)
    dropped: Counter[str] = Counter()
    found = documents(config("warc", path, damaged=damaged), dropped)
    return [text.strip() for text, _ in found], dropped


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (["Transfer-Encoding: chunked"], chunked(PAGE)),
        (["Transfer-Encoding: Chunked"], chunked(PAGE, 7, b"0\r\nTrailer: x\r\n\r\n")),
        (["Content-Encoding: gzip"], gzip.compress(PAGE)),
        (["Content-Encoding: x-gzip"], gzip.compress(PAGE[:99]) + gzip.compress(PAGE[99:])),
        (["Content-Encoding: deflate"], zlib.compress(PAGE)),
        (["Content-Encoding: deflate"], raw_deflate(PAGE)),
        (["Content-Encoding: zstd"], zstd.compress(PAGE)),
        (["Content-Encoding: identity"], PAGE),
        (["Content-Encoding: deflate, gzip"], gzip.compress(zlib.compress(PAGE))),
        (["Content-Encoding: deflate", "Content-Encoding: gzip"], gzip.compress(zlib.compress(PAGE))),
        (["Content-Encoding: gzip", "Transfer-Encoding: chunked"], chunked(gzip.compress(PAGE))),
        (["Transfer-Encoding: gzip, chunked"], chunked(gzip.compress(PAGE))),
        # Crawlers keep the headers of the encoded body when they store the decoded one.
        *(([f"Content-Encoding: {name}"], PAGE) for name in ("gzip", "deflate", "br", "zstd")),
        (["Transfer-Encoding: chunked"], PAGE),
    ],
)
def test_encodings_are_decoded(tmp_path: Path, headers: list[str], body: bytes) -> None:
    texts, dropped = read(tmp_path / "a.warc", response(body, *headers))
    assert [text.count(TEXT.strip()) for text in texts] == [20]
    assert not dropped


def test_brotli_is_decoded(tmp_path: Path) -> None:
    brotli = pytest.importorskip("brotli")
    texts, _ = read(tmp_path / "a.warc", response(brotli.compress(PAGE), "Content-Encoding: br"))
    assert [text.count(TEXT.strip()) for text in texts] == [20]


@pytest.mark.parametrize(
    ("kind", "page", "encoding"),
    [
        ("text/html; charset=koi8-r", "<p>\u041f\u0440\u0438\u0432\u0435\u0442", "koi8-r"),
        ("text/html", '<meta charset="windows-1251"><p>\u041f\u0440\u0438\u0432\u0435\u0442', "cp1251"),
        ("text/html; charset=nonsense", '<meta charset="koi8-u"><p>\u041f\u0440\u0438\u0432\u0435\u0442', "koi8-u"),
        ('TEXT/HTML;Charset="Shift_JIS"', "<p>\u65e5\u672c\u8a9e", "shift_jis"),
        ("text/html; charset=iso-8859-1", "<p>\u201cquoted\u201d", "cp1252"),
        ("text/html; charset=utf-8", "\ufeff<p>\u65e5\u672c\u8a9e", "utf-16-le"),
        ("text/html; charset=utf-8", "<p>caf\u00e9 cr\u00e8me", "latin-1"),
        ("text/html", '<?xml version="1.0" encoding="ISO-8859-2"?><p>\u0142\u00f3d\u017a', "iso-8859-2"),
        ("text/html; charset=hex", "<p>caf\u00e9", "utf-8"),
    ],
)
def test_character_encoding_is_from_bom_headers_or_page(tmp_path: Path, kind: str, page: str, encoding: str) -> None:
    texts, _ = read(tmp_path / "a.warc", response(page.encode(encoding), kind=kind))
    assert texts == [page.rpartition("<p>")[2]]


def test_one_invalid_byte_does_not_change_the_encoding_of_a_page(tmp_path: Path) -> None:
    texts, _ = read(tmp_path / "a.warc", response("<p>Gr\u00fc\u00dfe aus K\u00f6ln".encode() + b"\xc3"))
    assert texts == ["Gr\u00fc\u00dfe aus K\u00f6ln\ufffd"]


def test_records_other_than_pages_are_dropped_and_counted(tmp_path: Path) -> None:
    revisit = warc_record("revisit", b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n")
    records = [
        response(PAGE, status="404 Not Found"),
        response(b"", status="301 Moved"),
        response(b"x", kind="image/png"),
    ]
    whole = b"".join([*records, revisit, warc_record("response", b"not HTTP"), response(PAGE)])
    texts, dropped = read(tmp_path / "a.warc", whole)
    assert len(texts) == 1
    assert dropped == {"HTTP error": 2, "not HTML": 2}
    with pytest.raises(CorpusError, match=r"a.warc: is not a WARC archive .*source.kind"):
        read(tmp_path / "a.warc", b'{"text": "x"}')


@pytest.mark.parametrize(
    ("header", "body"),
    [
        ("Content-Encoding: gzip", gzip.compress(PAGE)[:-20]),
        ("Content-Encoding: zstd", zstd.compress(PAGE)[:-9]),
        ("Content-Encoding: deflate", zlib.compress(PAGE)[:-9]),
        ("Transfer-Encoding: chunked", chunked(PAGE)[:-30]),
        ("Transfer-Encoding: chunked", chunked(PAGE, end=b"no size\r\n")),
        ("Content-Encoding: compress", PAGE),
    ],
)
def test_one_damaged_page_drops_one_page(tmp_path: Path, header: str, body: bytes) -> None:
    whole = response(body, header) + response(PAGE)
    texts, dropped = read(tmp_path / "a.warc", whole, "count")
    assert len(texts) == 1
    assert dropped == {"undecodable page": 1}
    with pytest.raises(
        CorpusError, match=r"a.warc@0 http://example.org/: cannot be decoded .*source.damaged = 'count'"
    ):
        read(tmp_path / "a.warc", whole)


def test_a_page_truncated_by_the_crawler_is_kept(tmp_path: Path) -> None:
    record = response(chunked(PAGE)[:500], "Transfer-Encoding: chunked")
    record = record.replace(b"WARC-Date", b"WARC-Truncated: length\r\nWARC-Date")
    texts, dropped = read(tmp_path / "a.warc", record)
    assert texts[0].startswith(TEXT) and not dropped


def test_a_page_that_is_too_large_when_decoded_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "a.warc").write_bytes(response(gzip.compress(b"<p>" + b" " * 3_000_000), "Content-Encoding: gzip"))
    dropped: Counter[str] = Counter()
    assert documents(config("warc", tmp_path / "a.warc", maximum_document_megabytes=1.0), dropped) == []
    assert dropped == {"too large": 1}


@pytest.mark.parametrize("compression", COMPRESS)
def test_an_archive_truncated_anywhere_stops_or_is_counted(tmp_path: Path, compression: str) -> None:
    records = [warc_record("warcinfo", b"software: x\r\n"), response(PAGE), response(b"<p>second")]
    stored = [COMPRESS[compression](record) for record in records]
    whole = b"".join(stored)
    borders = {len(b"".join(stored[:end])) for end in range(len(stored) + 1)}
    assert len(read(tmp_path / "a.warc", whole)[0]) == 2
    for length in range(12, len(whole) - 4, 17):
        if length in borders or (compression == "none" and any(0 <= end - length <= 4 for end in borders)):
            continue  # only whole records, or the blank line after one, are missing
        texts, dropped = read(tmp_path / "a.warc", whole[:length], "count")
        assert dropped["file breaks off"] == 1
        assert len(texts) >= sum(end <= length for end in sorted(borders)) - 2
        with pytest.raises(CorpusError, match=r"a.warc: breaks off after record \d .*source.damaged = 'count'"):
            read(tmp_path / "a.warc", whole[:length])
