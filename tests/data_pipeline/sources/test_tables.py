"""Text columns of Parquet and Arrow files: all types of text, damaged rows and files, wrong columns."""

import gzip
import random
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from sesame.configs.errors import CorpusError
from sesame.data_pipeline.sources import tables, units
from tests.data_pipeline.sources.test_sources import config, documents

VALUES = ["first", b"bad \xff byte", None, "caf\u00e9", "last"]
"""The fifth byte of the second value is not UTF-8."""
BYTES = [value.encode() if isinstance(value, str) else value for value in VALUES]


def unchecked(kind: pa.DataType, values: Sequence[bytes | None]) -> pa.Array:
    """An array of text whose bytes were not validated, as readers of files make it."""
    storage = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary(), pa.string_view(): pa.binary_view()}
    plain = pa.array(values, pa.large_binary()).cast(storage.get(kind, kind))
    return pa.Array.from_buffers(kind, len(values), plain.buffers()) if kind in storage else plain


def encoded(values: list[bytes | None]) -> pa.Array:
    known = [value for value in values if value is not None]
    indices = pa.array([None if value is None else known.index(value) for value in values], pa.int32())
    return pa.DictionaryArray.from_arrays(indices, unchecked(pa.string(), known))


def runs(values: list[bytes | None]) -> pa.Array:
    return pa.RunEndEncodedArray.from_arrays(pa.array(range(1, len(values) + 1), pa.int32()), pa.array(values))


class Tagged(pa.ExtensionType):
    """An extension type of text, as libraries define them."""

    def __init__(self) -> None:
        super().__init__(pa.large_string(), "sesame.tests.tagged")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""


def tagged(values: list[bytes | None]) -> pa.Array:
    return pa.ExtensionArray.from_storage(Tagged(), unchecked(pa.large_string(), values))


PLAIN = (pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view())
COLUMNS: dict[str, Callable[[list[bytes | None]], pa.Array]] = {
    **{str(kind): partial(unchecked, kind) for kind in PLAIN},
    "dictionary": encoded,
    "run-end encoded": runs,
    "extension": tagged,
}


def write(path: Path, table: pa.Table, rows: int = 2) -> None:
    """Write in groups of ``rows``, in the format of the suffix."""
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path, row_group_size=rows)
        return
    with (pa.ipc.new_file if path.suffix == ".arrow" else pa.ipc.new_stream)(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)


def kind_of(path: Path) -> str:
    return "parquet" if path.suffix == ".parquet" else "arrow"


def read(path: Path, **more: Any) -> tuple[list[tuple[str, str]], Counter[str]]:
    dropped: Counter[str] = Counter()
    return documents(config(kind_of(path), path, **more), dropped), dropped


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.stream"])
@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("rows", [2, 100])
def test_one_damaged_row_drops_one_row(
    tmp_path: Path, name: str, column: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pa.table({"text": COLUMNS[column](BYTES)})
    if column == "run-end encoded" and name == "a.parquet":
        pytest.skip("Parquet has no such type")
    write(tmp_path / name, table, rows)
    monkeypatch.setattr(tables, "ROWS_AT_ONCE", 3)
    found, dropped = read(tmp_path / name, damaged="count")
    assert found == [("first", f"{name}#0"), ("caf\u00e9", f"{name}#3"), ("last", f"{name}#4")]
    assert dropped == {"not UTF-8": 1, "no text": 1}
    with pytest.raises(CorpusError, match=rf"{name}: row 1 is not UTF-8 \(byte 4 of the text\).*source.damaged"):
        read(tmp_path / name)


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.stream"])
def test_a_file_truncated_anywhere_stops_or_is_counted(tmp_path: Path, name: str) -> None:
    draw = random.Random(1)
    rows = [f"row {draw.random()}" for _ in range(200)]
    path = tmp_path / name
    write(path, pa.table({"text": rows}), 20)
    whole = path.read_bytes()
    for length in (*range(12, len(whole) - 12, len(whole) // 30), len(whole) - 9):
        path.write_bytes(whole[:length])
        found, dropped = read(path, damaged="count")
        assert [text for text, _ in found] == rows[: len(found)]
        assert dropped == {"file breaks off": 1}
        with pytest.raises(CorpusError, match=rf"{name}: breaks off after row \d+ .*source.damaged = 'count'"):
            read(path)


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.stream"])
@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (pa.table([["x"], ["y"]], names=["text", "text"]), r"has 2 columns 'text'; rename all but one"),
        (pa.table({"body": ["x"], "id": [1]}), r"has no column 'text' \(columns: body, id\); set source.text_field"),
        (pa.table({"text": [1, 2]}), r"column 'text' has int64, not text; set source.text_field"),
        (pa.table({"text": [["x"]]}), r"column 'text' has list<.*>, not text"),
    ],
)
def test_a_column_without_text_is_reported(tmp_path: Path, name: str, table: pa.Table, sentence: str) -> None:
    write(tmp_path / name, table)
    for damaged in ("stop", "count"):
        with pytest.raises(CorpusError, match=rf"{name}: {sentence}"):
            read(tmp_path / name, damaged=damaged)


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_files_without_rows(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, pa.table({"text": pa.array([], pa.string())}))
    with pytest.raises(CorpusError, match=rf"{name}: has no rows; correct source.paths"):
        read(tmp_path / name)
    write(tmp_path / f"b.{kind_of(tmp_path / name)}", pa.table({"text": ["x"]}))
    source = config(kind_of(tmp_path / name), tmp_path)
    assert documents(source) == [("x", f"b.{kind_of(tmp_path / name)}#0")]
    assert len(units(source)) == 2
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(CorpusError, match=rf"{name}: breaks off after row 0"):
        read(tmp_path / name)


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.stream"])
def test_compressed_tables(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, pa.table({"text": ["x", "y"]}))
    (tmp_path / name).write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    if name == "a.stream":
        assert read(tmp_path / name)[0] == [("x", "a.stream#0"), ("y", "a.stream#1")]
        return
    with pytest.raises(CorpusError, match=rf"{name}: is compressed \(.gz\); decompress it"):
        read(tmp_path / name)
