"""Documents of all kinds of sources, whole or in ranges; errors and counts of unreadable content."""

import bz2
import gzip
import json
import lzma
import random
from collections import Counter
from pathlib import Path
from typing import get_args

import pyarrow as pa
import pyarrow.parquet
import pytest

from sesame.configs.errors import CorpusError
from sesame.data_pipeline.sources import SOURCES, SourceConfig, files, streams, units
from tests.data_pipeline.sources.reading import LINES, config, documents

COMPRESS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": streams.zstd.compress}


def test_the_configuration_has_the_kinds_of_the_table() -> None:
    assert get_args(SourceConfig.model_fields["kind"].annotation) == tuple(SOURCES)


def test_json_lines_plain_and_compressed(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(LINES)
    for suffix, compress in COMPRESS.items():
        (tmp_path / f"a.jsonl{suffix}").write_bytes(compress(LINES.encode()))
    found = documents(config("json_lines", tmp_path / "*.jsonl*"))
    names = sorted(["a.jsonl", *(f"a.jsonl{suffix}" for suffix in COMPRESS)])
    assert found == [pair for name in names for pair in [("first", f"{name}@0"), ("second \u00e9", f"{name}@19")]]


@pytest.mark.parametrize("suffix", COMPRESS)
def test_files_of_several_members_are_read_to_their_end(tmp_path: Path, suffix: str) -> None:
    compress = COMPRESS[suffix]
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(compress(b"one\n") + compress(b"two\nthr") + compress(b"ee\n"))
    assert [text for text, _ in documents(config("lines", path))] == ["one", "two", "three"]


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_damaged_compression_is_reported_or_counted(tmp_path: Path, suffix: str, damage: str) -> None:
    draw = random.Random(1)
    text = "".join(f"{draw.random()} {draw.random()}\n" for _ in range(5000)).encode()
    content = bytearray(COMPRESS[suffix](text))
    if damage == "cut":
        del content[-len(content) // 3 :]
    else:
        middle = len(content) // 2
        content[middle : middle + 40] = bytes(draw.randrange(256) for _ in range(40))
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(content)
    sentence = r"breaks off after byte \d+ " if damage == "cut" else r"(breaks off|is not UTF-8)"
    with pytest.raises(CorpusError, match=rf"a.txt\{suffix}:(\d+:)? {sentence}.*source.damaged = 'count'"):
        documents(config("lines", path))
    dropped: Counter[str] = Counter()
    found = documents(config("lines", path, damaged="count"), dropped)
    assert dropped["file breaks off"] == 1
    if damage == "cut":
        # A flipped byte may be detected only by the checksum at the end of its block, after its lines were yielded.
        assert [line for line, _ in found] == text.decode().splitlines()[: len(found)]


def test_text_by_blank_lines_or_whole_files(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\nstill one\n\n\ntwo")
    assert documents(config("text", path)) == [("one\nstill one", "a.txt@0"), ("two", "a.txt@16")]
    whole = config("text", path, blank_line_separates=False)
    assert documents(whole) == [("one\nstill one\n\n\ntwo", "a.txt@0")]


@pytest.mark.parametrize("kind", ["text", "lines", "json_lines"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 20, 64])
def test_byte_ranges_together_give_every_document_once(
    tmp_path: Path, kind: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(size)
    words = ["a", "b\u00e9", "\u4e2d\u6587", "word " * 9]
    rows = [" ".join(draw.choices(words, k=draw.randint(1, 5))) for _ in range(80)]
    if kind == "json_lines":
        rows = [json.dumps({"text": row}, ensure_ascii=False) for row in rows]
    ends = ["\n", "\n\n", "\r\n", "\n \n", "\n\n\n"]
    path = tmp_path / "a.txt"
    path.write_text("".join(row + draw.choice(ends) for row in rows), newline="")
    whole = documents(config(kind, path))
    monkeypatch.setattr(files, "RANGE_BYTES", size)
    source = config(kind, path)
    assert len(units(source)) == -(-path.stat().st_size // size)
    assert documents(source) == whole
    assert len(whole) > 20


def test_parquet_by_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pa.table({"body": ["x", "y", None, "z"]}), path, row_group_size=2)
    source = config("parquet", path, text_field="body")
    whole = [("x", "a.parquet#0"), ("y", "a.parquet#1"), ("z", "a.parquet#3")]
    dropped: Counter[str] = Counter()
    assert documents(source, dropped) == whole
    assert dropped == {"no text": 1}
    monkeypatch.setattr("sesame.data_pipeline.sources.tables.RANGE_BYTES", 1)
    assert len(units(source)) == 2
    assert documents(source) == whole


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_arrow_by_record_batches(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.arrow"
    table = pa.table({"text": [f"row {number}" for number in range(10)]})
    with (pa.ipc.new_file if kind == "file" else pa.ipc.new_stream)(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=3)
    monkeypatch.setattr("sesame.data_pipeline.sources.tables.RANGE_BYTES", 1)
    source = config("arrow", path)
    assert len(units(source)) == (4 if kind == "file" else 1)
    assert documents(source) == [(f"row {number}", f"a.arrow#{number}") for number in range(10)]


def test_warc_pages_and_extracted_texts(tmp_path: Path) -> None:
    body = b"<body><nav>menu</nav><main><p>The text &amp; more.</p></main></body>"
    page = b"<html><head><title>t</title></head>" + body + b"</html>"
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + page
    image = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n\x89PNG"
    records = [("response", answer), ("request", b"GET / HTTP/1.1\r\n\r\n"), ("response", image)]
    records.append(("conversion", "Extracted t\u00e9xt".encode()))
    archive = b"".join(gzip.compress(warc_record(kind, content)) for kind, content in records)
    (tmp_path / "a.warc.gz").write_bytes(archive)
    dropped: Counter[str] = Counter()
    found = documents(config("warc", tmp_path / "a.warc.gz"), dropped)
    assert [text.strip() for text, _ in found] == ["The text & more.", "Extracted t\u00e9xt"]
    assert dropped == {"not HTML": 1}


def warc_record(kind: str, content: bytes) -> bytes:
    types = {"response": "application/http; msgtype=response", "request": "application/http; msgtype=request"}
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: http://example.org/\r\n"
        f"WARC-Date: 2026-01-01T00:00:00Z\r\nWARC-Record-ID: <urn:uuid:12345678-1234-1234-1234-123456789abc>\r\n"
        f"Content-Type: {types.get(kind, 'text/plain')}\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content + b"\r\n\r\n"


def test_the_order_is_that_of_the_paths_and_globs_and_folders_are_sorted(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    for name in ("b.txt", "a.txt", "z.text", "folder/y", "folder/deep/x", "folder/.hidden", "folder/_SUCCESS"):
        (tmp_path / name).write_text(name)
    found = documents(config("text", tmp_path / "z.text", tmp_path / "*.txt", folder))
    assert [text for text, _ in found] == ["z.text", "a.txt", "b.txt", "folder/deep/x", "folder/y"]


@pytest.mark.parametrize(
    ("kind", "name", "content", "sentence"),
    [
        ("json_lines", "a.jsonl", b'{"text": "x"}\n{"text": ', r"a.jsonl:2: is not JSON"),
        ("json_lines", "a.jsonl", b"[" * 100_000, r"a.jsonl:1: is not JSON"),
        ("json_lines", "a.jsonl", b'{"text": "x"}\n{"body": "x"}', r"a.jsonl:2: .*'text' \(keys: body\).*text_field"),
        ("json_lines", "a.jsonl", b'{"text": "x"}\n["x"]', r"a.jsonl:2: .*'text'"),
        ("json_lines", "a.jsonl", b'{"text": "x"}\n{"text": "\xff"}', r"a.jsonl:2: is not UTF-8 \(byte 10"),
        ("json_lines", "a.jsonl.gz", b"no gzip", r"a.jsonl.gz:1: is not JSON"),
        ("json_lines", "a.jsonl.gz", b"\x1e\x8b\x08", r"a.jsonl.gz:1: is not UTF-8 .*does not begin as a .gz file"),
        ("json_lines", "a.jsonl.gz", b"\x1f\x8b\x08\0", r"a.jsonl.gz: breaks off after byte 0"),
        ("text", "a.txt", b"fine\n\xc3(", r"a.txt:2: is not UTF-8 \(byte 0"),
        ("parquet", "a.parquet", b"no parquet", r"a.parquet: cannot be read as Parquet"),
        ("arrow", "a.arrow", b"no arrow", r"a.arrow: cannot be read as Arrow"),
        ("mediawiki", "a.xml", b"no xml", r"a.xml: breaks off after record 0"),
    ],
)
def test_unreadable_content_is_reported(tmp_path: Path, kind: str, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=sentence):
        documents(config(kind, tmp_path / name))


def test_damaged_lines_are_counted_if_configured(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "x"}\n{"text": \n{"text": "\xff"}\n{"body": 1}\n{"text": "y"}')
    dropped: Counter[str] = Counter()
    found = documents(config("json_lines", tmp_path / "a.jsonl", damaged="count"), dropped)
    assert [text for text, _ in found] == ["x", "y"]
    assert dropped == {"not JSON": 1, "not UTF-8": 1, "no text": 1}


def test_a_lone_surrogate_in_json_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "\\ud83d\\ude00 whole \\ud83d half"}')
    assert documents(config("json_lines", tmp_path / "a.jsonl"))[0][0] == "\U0001f600 whole \ufffd half"


@pytest.mark.parametrize("kind", ["text", "lines", "json_lines"])
def test_too_large_documents_are_counted_and_skipped(tmp_path: Path, kind: str) -> None:
    form = {"text": "{}\n\n", "lines": "{}\n", "json_lines": '{{"text": "{}"}}\n'}[kind]
    path = tmp_path / "a"
    path.write_text("".join(form.format(text) for text in ["small", "x" * 3_000_000, "last"]))
    dropped: Counter[str] = Counter()
    found = documents(config(kind, path, maximum_document_megabytes=1.0), dropped)
    assert [text for text, _ in found] == ["small", "last"]
    assert dropped == {"too large": 1}
    if kind == "text":
        path.write_text("small\n\nbefore it\n" + "x" * 3_000_000 + "\nafter it\n\nlast")
        dropped.clear()
        found = documents(config(kind, path, maximum_document_megabytes=1.0), dropped)
        assert [text for text, _ in found] == ["small", "last"], "the documents beside it are not joined"
        assert dropped == {"too large": 1}
    lines = "\n".join(["y" * 1000] * 2000)
    path.write_text(f"small\n\n{lines}\n\nlast")
    if kind == "text":
        assert [text for text, _ in documents(config(kind, path, maximum_document_megabytes=1.0))] == ["small", "last"]


def test_a_missing_column_is_reported(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pa.table({"body": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(CorpusError, match=r"a.parquet: has no column 'text' \(columns: body\)"):
        documents(config("parquet", tmp_path / "a.parquet"))


@pytest.mark.parametrize(
    ("paths", "sentence"),
    [(["missing.txt"], "missing.txt: no such file"), (["no-*.txt"], r"no-\*.txt: matches no file"), ([], "is empty")],
)
def test_missing_files_are_reported(paths: list[str], sentence: str) -> None:
    with pytest.raises(CorpusError, match=sentence):
        units(config("text", *paths))


def test_an_empty_file_and_a_damaged_member_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"")
    whole, damaged = gzip.compress(LINES.encode()), bytearray(gzip.compress(LINES.encode()))
    damaged[-8] ^= 255
    (tmp_path / "b.jsonl.gz").write_bytes(whole + bytes(damaged))
    dropped: Counter[str] = Counter()
    found = documents(config("json_lines", tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz", damaged="count"), dropped)
    assert [text for text, _ in found][:2] == ["first", "second \u00e9"]
    assert dropped.total() == 1
