"""Compression and encoding by first bytes, concatenated streams, damage, and line ends."""

import bz2
import codecs
import gzip
import json
import lzma
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from sesame.configs.errors import CorpusError
from sesame.data_pipeline.sources import files, lines, streams, units
from sesame.data_pipeline.sources.streams import zstd
from tests.data_pipeline.sources.test_sources import config, documents

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd.compress,
}


def texts(path: Path, kind: str = "lines", **more: object) -> tuple[list[str], Counter[str]]:
    dropped: Counter[str] = Counter()
    return [text for text, _ in documents(config(kind, path, **more), dropped)], dropped


@pytest.mark.parametrize("name", ["a.jsonl", "a.gz", "a.bz2", "a.zst", "a.xz", "a"])
@pytest.mark.parametrize("compression", ["", *COMPRESS])
def test_compression_is_detected_by_first_bytes(
    tmp_path: Path, name: str, compression: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b'{"text": "one"}\n{"text": "two"}\n'
    path = tmp_path / name
    path.write_bytes(COMPRESS.get(compression, bytes)(content))
    assert texts(path, "json_lines") == (["one", "two"], Counter())
    # Only uncompressed files are read in ranges.
    monkeypatch.setattr(files, "RANGE_BYTES", 8)
    assert (len(units(config("json_lines", path))) > 1) is (compression == "")
    assert texts(path, "json_lines") == (["one", "two"], Counter())


def test_text_that_begins_almost_like_a_compressed_file_is_text(tmp_path: Path) -> None:
    for content in ("BZh9 is how a file of bzip2 begins", "\x1f alone", "7z is a name"):
        (tmp_path / "a.txt").write_text(content)
        assert texts(tmp_path / "a.txt")[0] == [content]


def skipped(content: bytes) -> bytes:
    return b"\x53\x2a\x4d\x18" + len(content).to_bytes(4, "little") + content


@pytest.mark.parametrize(
    "stored",
    [
        gzip.compress(b"one\n") + b"\0" * 100_000 + gzip.compress(b"two\n"),
        lzma.compress(b"one\n") + b"\0" * 8 + lzma.compress(b"two\n") + b"\0" * 4,
        skipped(b"note") + zstd.compress(b"one\n") + skipped(b"") + zstd.compress(b"two\n"),
        gzip.compress(b"") + gzip.compress(b"one\ntwo\n") + gzip.compress(b""),
        bz2.compress(b"") + bz2.compress(b"one\ntwo\n"),
        b"".join(gzip.compress(bytes([byte])) for byte in b"one\ntwo\n"),
    ],
)
def test_streams_with_padding_or_nothing_between_them(tmp_path: Path, stored: bytes) -> None:
    (tmp_path / "a").write_bytes(stored)
    assert texts(tmp_path / "a") == (["one", "two"], Counter())


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("damage", ["head", "cut head", "garbage"])
def test_damage_after_a_complete_stream_is_detected(tmp_path: Path, suffix: str, damage: str) -> None:
    """Python's own readers of bz2 and xz take it for the end of the file."""
    first, second = COMPRESS[suffix](b"one\n" * 50), COMPRESS[suffix](b"two\n" * 50)
    rest = {"head": b"?" + second[1:], "cut head": second[:3], "garbage": b"neither padding nor a stream"}[damage]
    path = tmp_path / "a"
    path.write_bytes(first + rest)
    found, dropped = texts(path, damaged="count")
    assert found == ["one"] * 50
    assert dropped == {"file breaks off": 1}
    with pytest.raises(CorpusError, match=r"a: breaks off after byte \d+ of its text .*source.damaged = 'count'"):
        texts(path)


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_file_truncated_anywhere_is_detected(tmp_path: Path, suffix: str) -> None:
    draw = random.Random(1)
    lines = [f"line {draw.random()}" for _ in range(60)]
    stored = COMPRESS[suffix]("\n".join(lines).encode())
    path = tmp_path / "a"
    for length in range(12, len(stored), 7):
        path.write_bytes(stored[:length])
        found, dropped = texts(path, damaged="count")
        assert dropped == {"file breaks off": 1}
        assert found == lines[: len(found)]


ROWS = ["The first caf\u00e9", "\u4e2d\u6587 and \U0001f600", "third"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-16-be", "utf-32-be"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_byte_order_marks(tmp_path: Path, encoding: str, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = "".join(json.dumps({"text": row}, ensure_ascii=False) + "\r\n" for row in ROWS)
    mark = {"utf-16-be": codecs.BOM_UTF16_BE, "utf-32-be": codecs.BOM_UTF32_BE}.get(encoding, b"")
    stored = mark + content.encode(encoding)
    path = tmp_path / "a.jsonl"
    path.write_bytes(COMPRESS.get(suffix, bytes)(stored))
    assert texts(path, "json_lines") == (ROWS, Counter())
    monkeypatch.setattr(files, "RANGE_BYTES", 16)
    assert texts(path, "json_lines") == (ROWS, Counter())
    path.write_bytes(COMPRESS.get(suffix, bytes)(stored[:-3]) if encoding != "utf-8-sig" else b"")
    if encoding != "utf-8-sig":
        found, dropped = texts(path, "json_lines", damaged="count")
        assert found == ROWS[: len(found)] and dropped["file breaks off"] == 1


@pytest.mark.parametrize("kind", ["json_lines", "lines", "text"])
def test_byte_order_marks_within_concatenated_files(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    form = '{{"text": "{}"}}\n' if kind == "json_lines" else "{}\n\n"
    (tmp_path / "a").write_bytes(b"".join(form.format(row).encode("utf-8-sig") for row in ROWS))
    for size in (1 << 20, 5):
        monkeypatch.setattr(files, "RANGE_BYTES", size)
        assert texts(tmp_path / "a", kind) == (ROWS, Counter())


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"PK\x03\x04rest", "is a zip archive; unpack it"),
        (b"\x04\x22\x4d\x18rest", "is compressed with lz4; decompress it"),
        (b"PAR1\x15rest", "is a Parquet file; set source.kind = 'parquet'"),
        (b"a.txt".ljust(257, b"\0") + b"ustar  \0", "is a tar archive; unpack it"),
        (gzip.compress(b"a.txt".ljust(257, b"\0") + b"ustar\00000"), "is a tar archive; unpack it"),
    ],
)
def test_other_formats_than_text_are_reported(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(CorpusError, match=rf"a: {sentence}"):
        texts(tmp_path / "a")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_of_all_kinds(tmp_path: Path, end: str) -> None:
    (tmp_path / "a").write_text(f"one{end}still one{end}{end}two{end}", newline="")
    assert texts(tmp_path / "a", "text")[0] == ["one\nstill one", "two"]
    assert texts(tmp_path / "a")[0] == ["one", "still one", "two"]
    (tmp_path / "a").write_text(f'{{"text": "x"}}{end}{{"text": }}{end}', newline="")
    with pytest.raises(CorpusError, match=r"a:2: is not JSON"):
        texts(tmp_path / "a", "json_lines")


@pytest.mark.parametrize("kind", ["text", "lines", "json_lines"])
@pytest.mark.parametrize("block", [1, 2, 5, 1 << 20])
@pytest.mark.parametrize("compression", ["", ".gz"])
def test_every_line_is_read_once_for_any_blocks_and_ranges(
    tmp_path: Path, kind: str, block: int, compression: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(block)
    rows = [" ".join(draw.choices(["a", "b\u00e9", "\u4e2d"], k=draw.randint(1, 5))) for _ in range(40)]
    ends = [draw.choice(["\n", "\r\n", "\r", "\n\n", "\r\r", "\r\n\r\n", "\n\r", "\r \n"]) for _ in rows]
    form = '{{"text": "{}"}}' if kind == "json_lines" else "{}"
    content = "".join(form.format(row) + end for row, end in zip(rows, ends, strict=True))
    path = tmp_path / "a"
    path.write_bytes(COMPRESS.get(compression, bytes)(content.encode()))
    if kind == "text":
        paragraphs = "\n".join(content.splitlines()).replace("\n \n", "\n\n").split("\n\n")
        rows = [text for piece in paragraphs if (text := piece.strip("\n"))]
    monkeypatch.setattr(lines, "BLOCK_BYTES", block)
    for size in (1, 2, 3, 10, 1 << 20):
        monkeypatch.setattr(files, "RANGE_BYTES", size)
        assert texts(path, kind) == (rows, Counter())
        if compression:
            break


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_line_that_is_too_large_is_counted_once(tmp_path: Path, end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text(end.join(["small", "x" * 1000, "y" * 1001, "z" * 5000, "last"]), newline="")
    for block, size in ((16, 1 << 20), (16, 100), (1 << 20, 100), (1 << 20, 1500), (1 << 20, 1 << 20)):
        monkeypatch.setattr(lines, "BLOCK_BYTES", block)
        monkeypatch.setattr(files, "RANGE_BYTES", size)
        found, dropped = texts(tmp_path / "a", maximum_document_megabytes=0.001)
        assert found == ["small", "x" * 1000, "last"]
        assert dropped == {"too large": 2}


def test_the_stored_offset_of_each_stream_is_known(tmp_path: Path) -> None:
    pieces = [gzip.compress(text) for text in (b"one", b"", b"three")]
    (tmp_path / "a").write_bytes(b"".join(pieces))
    with streams.open_binary(str(tmp_path / "a")) as file:
        assert file.read() == b"onethree"
        assert isinstance(file.raw, streams.DecompressedReader)
        assert file.raw.stream_offsets == {0: 0, 3: len(pieces[0]) + len(pieces[1])}


def test_numbers_of_any_length_are_json(tmp_path: Path) -> None:
    rows = [f'{{"n": {"9" * 5000}, "text": "a"}}', f'{{"text": "b", "n": [-{"1" * 9000}, 1e999, {"0." + "3" * 5000}]}}']
    (tmp_path / "a").write_text("\n".join(rows))
    assert texts(tmp_path / "a", "json_lines") == (["a", "b"], Counter())


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ('{"text": null}', r"has null under 'text', not a string; set source.text_field"),
        ('{"text": 12}', r"has a number under 'text', not a string"),
        ('{"text": ["a"]}', r"has an array under 'text', not a string"),
        ('{"text": true}', r"has true or false under 'text', not a string"),
        ('{"body": "a", "id": 1}', r"has no key 'text' \(keys: body, id\); set source.text_field"),
        ("12", r"is a number, not an object with a key 'text'"),
        ('"a"', r"is a string, not an object with a key 'text'"),
        ('{"text": ' + "[" * 100_000 + "]" * 100_000 + "}", r"is not JSON \(nested too deeply\)"),
    ],
)
def test_a_row_without_text_is_reported_with_its_content(tmp_path: Path, row: str, sentence: str) -> None:
    (tmp_path / "a").write_text(f'{{"text": "x"}}\n{row}\n{{"text": "y"}}')
    with pytest.raises(CorpusError, match=rf"a:2: {sentence}.*source.damaged = 'count'$"):
        texts(tmp_path / "a", "json_lines")
    assert texts(tmp_path / "a", "json_lines", damaged="count")[0] == ["x", "y"]
