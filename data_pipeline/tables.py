"""Text in columns: Parquet by row groups, Arrow files by record batches, a few rows in memory at a time."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from configs.errors import CorpusError
from data_pipeline.document import Document
from data_pipeline.files import RANGE_BYTES, File, Range
from data_pipeline.streams import open_binary
from data_pipeline.unit import SourceConfig, Unit

ROWS_AT_ONCE = 1024
ARROW_FILE_MAGIC = b"ARROW1"


def parquet_ranges(file: File) -> list[Range]:
    """Row groups of a file, as many together as make a unit."""
    return _spans(_opened(file.name, "Parquet", lambda: _parquet(file.path).num_row_groups), file.size)


def arrow_ranges(file: File) -> list[Range]:
    """Record batches of a file; the stream format cannot be entered in the middle and is one unit."""
    if not _is_arrow_file(file.path):
        return [Range()]
    return _spans(_opened(file.name, "Arrow", lambda: _arrow_file(file.path).num_record_batches), file.size)


def read_parquet(unit: Unit, config: SourceConfig, dropped: Counter[str]) -> Iterator[Document]:
    """Each row of the unit's row groups that has a text."""
    file = _parquet(unit.paths[0])
    _check_column(unit, config, file.schema_arrow.names)
    groups = list(range(unit.part.start, unit.part.stop or file.num_row_groups))
    first = sum(file.metadata.row_group(group).num_rows for group in range(unit.part.start))
    batches = file.iter_batches(ROWS_AT_ONCE, row_groups=groups, columns=[config.text_field])
    yield from _rows(unit, config, dropped, batches, first)


def read_arrow(unit: Unit, config: SourceConfig, dropped: Counter[str]) -> Iterator[Document]:
    """Each row of the unit's record batches that has a text."""
    path = unit.paths[0]
    if not _is_arrow_file(path):
        stream = _opened(unit.file, "Arrow", lambda: pa.ipc.open_stream(_source(path)))
        _check_column(unit, config, stream.schema.names)
        yield from _rows(unit, config, dropped, iter(stream), 0)
        return
    file = _arrow_file(path)
    _check_column(unit, config, file.schema.names)
    first = sum(file.get_batch(number).num_rows for number in range(unit.part.start))
    numbers = range(unit.part.start, unit.part.stop or file.num_record_batches)
    yield from _rows(unit, config, dropped, map(file.get_batch, numbers), first)


def _rows(
    unit: Unit, config: SourceConfig, dropped: Counter[str], batches: Iterator[pa.RecordBatch], first: int
) -> Iterator[Document]:
    number = first
    try:
        for batch in batches:
            for text in batch.column(config.text_field).to_pylist():
                if not isinstance(text, str):
                    dropped["no text"] += 1
                elif len(text) > config.maximum_bytes:
                    dropped["too large"] += 1
                else:
                    yield Document(text, f"{unit.file}#{number}")
                number += 1
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        said = f"{unit.file}: breaks off after row {number} ({error}); copy it anew, or set source.damaged = 'count'"
        config.leave_out("file breaks off", lambda: said, dropped)


def _check_column(unit: Unit, config: SourceConfig, names: list[str]) -> None:
    if config.text_field not in names:
        raise CorpusError(
            f"{unit.file}: has no column '{config.text_field}' (columns: {', '.join(names)}); set source.text_field"
        )


def _spans(count: int, size: int) -> list[Range]:
    """``count`` groups of a file of ``size`` bytes, in runs of about RANGE_BYTES."""
    together = max(1, count * RANGE_BYTES // max(1, size))
    return [Range(start, min(start + together, count)) for start in range(0, count, together)]


def _opened(name: str, kind: str, open_it: Callable[[], Any]) -> Any:
    try:
        return open_it()
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(f"{name}: cannot be read as {kind} ({error}); check source.kind") from None


def _parquet(path: str) -> pyarrow.parquet.ParquetFile:
    return pyarrow.parquet.ParquetFile(_source(path))


def _arrow_file(path: str) -> pa.ipc.RecordBatchFileReader:
    return pa.ipc.open_file(_source(path))


def _is_arrow_file(path: str) -> bool:
    with open_binary(path) as file:
        return file.read(len(ARROW_FILE_MAGIC)) == ARROW_FILE_MAGIC


def _source(path: str) -> Any:
    return pa.memory_map(path) if os.path.exists(path) else open_binary(path)
