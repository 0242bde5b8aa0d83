"""Reading text, and what is said of text that cannot be read."""

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
import zstandard

from configs import parse
from configs.errors import CorpusError
from data_pipeline.sources import SourceConfig, read, units

LINES = '{"text": "first"}\n\n{"text": "second \\u00e9", "more": 1}\n'


def config(kind: str, *paths: Path | str, **more: object) -> SourceConfig:
    return parse({"kind": kind, "paths": [str(path) for path in paths], **more}, SourceConfig, "a.toml")


def documents(source: SourceConfig) -> list[tuple[str, str]]:
    return [(d.text, d.source.rpartition("/")[2]) for unit in units(source) for d in read(unit, source)]


def test_json_lines_plain_and_compressed(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(LINES)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(LINES.encode()))
    (tmp_path / "c.jsonl.zst").write_bytes(zstandard.compress(LINES.encode()))
    found = documents(config("json_lines", tmp_path / "*.jsonl*"))
    names = ["a.jsonl", "b.jsonl.gz", "c.jsonl.zst"]
    assert found == [pair for name in names for pair in [("first", f"{name}:1"), ("second \u00e9", f"{name}:3")]]


def test_text_by_blank_lines_or_whole_files(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\nstill one\n\n\ntwo")
    assert documents(config("text", path)) == [("one\nstill one", "a.txt:1"), ("two", "a.txt:5")]
    whole = config("text", path, blank_line_separates=False)
    assert documents(whole) == [("one\nstill one\n\n\ntwo", "a.txt:1")]


def test_parquet_by_row_groups(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pa.table({"body": ["x", "y", None, "z"]}), path, row_group_size=2)
    source = config("parquet", path, text_field="body")
    assert len(units(source)) == 2
    assert [text for text, _ in documents(source)] == ["x", "y", "z"]


def test_the_order_is_that_of_the_paths_and_a_glob_is_sorted(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "z.text"):
        (tmp_path / name).write_text(name)
    found = documents(config("text", tmp_path / "z.text", tmp_path / "*.txt"))
    assert [text for text, _ in found] == ["z.text", "a.txt", "b.txt"]


@pytest.mark.parametrize(
    ("kind", "name", "content", "sentence"),
    [
        ("json_lines", "a.jsonl", b'{"text": "x"}\n{"text": ', r"a.jsonl:2: is not JSON"),
        ("json_lines", "a.jsonl", b'{"text": "x"}\n{"body": "x"}', r"a.jsonl:2: .*'text' \(keys: body\).*text_field"),
        ("json_lines", "a.jsonl", b'{"text": "x"}\n["x"]', r"a.jsonl:2: .*'text'"),
        ("json_lines", "a.jsonl", b'{"text": "x"}\n{"text": "\xff"}', r"a.jsonl:2: is not UTF-8 \(byte 10"),
        ("json_lines", "a.jsonl.gz", b"no gzip", r"a.jsonl.gz: breaks off after line 0"),
        ("json_lines", "a.jsonl.gz", gzip.compress(LINES.encode() * 99)[:-20], r"a.jsonl.gz: breaks off"),
        ("json_lines", "a.jsonl.zst", b"no zstandard", r"a.jsonl.zst: breaks off after line 0"),
        ("text", "a.txt", b"fine\n\xc3(", r"a.txt:2: is not UTF-8 \(byte 0"),
        ("parquet", "a.parquet", b"no parquet", r"a.parquet: cannot be read as Parquet"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, kind: str, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=sentence):
        documents(config(kind, tmp_path / name))


def test_a_missing_parquet_column_is_named(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pa.table({"body": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(CorpusError, match=r"a.parquet row group 0: has no column 'text' \(columns: body\)"):
        documents(config("parquet", tmp_path / "a.parquet"))


@pytest.mark.parametrize(
    ("paths", "sentence"),
    [(["missing.txt"], "missing.txt: no such file"), (["no-*.txt"], r"no-\*.txt: matches no file"), ([], "is empty")],
)
def test_missing_files_are_named(paths: list[str], sentence: str) -> None:
    with pytest.raises(CorpusError, match=sentence):
        units(config("text", *paths))
