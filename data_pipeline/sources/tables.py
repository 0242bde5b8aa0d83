"""Text in columns: Parquet by row groups, Arrow files by record batches, a few rows in memory at a time."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial as bound
from typing import Any, NamedTuple

import pyarrow as pa

from configs.errors import CorpusError
from data_pipeline.sources.document import Document
from data_pipeline.sources.files import RANGE_BYTES, File, Range
from data_pipeline.sources.streams import BROKEN, compression, open_binary
from data_pipeline.sources.unit import SourceConfig, Unit

ROWS_AT_ONCE = 1024
UNREADABLE = (pa.ArrowException, *BROKEN)
"""What opening or reading a damaged file raises."""
TEXT_TYPES = ("string", "large_string", "string_view", "binary", "large_binary", "binary_view", "fixed_size_binary")
"""Types of columns that hold text; binary ones as UTF-8."""
SET_FIELD = "set source.text_field"


class Format(NamedTuple):
    name: str
    mark: bytes
    """How a file begins."""
    open: Callable[[Any], Any]


def _open_parquet(source: Any) -> Any:
    import pyarrow.parquet

    return pyarrow.parquet.ParquetFile(source)


PARQUET = Format("Parquet", b"PAR1", _open_parquet)
ARROW = Format("Arrow", b"ARROW1", pa.ipc.open_file)
STREAM = Format("Arrow", b"\xff\xff\xff\xff", pa.ipc.open_stream)


def parquet_ranges(file: File) -> list[Range]:
    """Row groups of a file, as many together as make a unit."""
    return _spans(file, PARQUET, lambda opened: opened.num_row_groups if opened.metadata.num_rows else 0)


def arrow_ranges(file: File) -> list[Range]:
    """Record batches of a file; the stream format cannot be entered in the middle and is one unit."""
    if _begins(file.path, ARROW):
        return _spans(file, ARROW, lambda opened: opened.num_record_batches)
    return _spans(file, STREAM, lambda _: 1)


def read_parquet(unit: Unit, config: SourceConfig, dropped: Counter[str]) -> Iterator[Document]:
    """Each row of the unit's row groups that has a text."""
    yield from _rows(unit, config, dropped, _parquet_batches)


def read_arrow(unit: Unit, config: SourceConfig, dropped: Counter[str]) -> Iterator[Document]:
    """Each row of the unit's record batches that has a text."""
    yield from _rows(unit, config, dropped, _arrow_batches if _begins(unit.paths[0], ARROW) else _stream_batches)


class Batches(NamedTuple):
    """What is read of a file."""

    schema: pa.Schema
    first: int
    """Number of the first row."""
    batches: Iterator[pa.RecordBatch]


def _parquet_batches(unit: Unit, column: str) -> Batches:
    file = PARQUET.open(_source(unit.paths[0]))
    groups = range(unit.part.start, file.num_row_groups if unit.part.stop is None else unit.part.stop)
    first = sum(file.metadata.row_group(group).num_rows for group in range(unit.part.start))
    batches = file.iter_batches(ROWS_AT_ONCE, row_groups=list(groups), columns=[column])
    return Batches(file.schema_arrow, first, batches)


def _arrow_batches(unit: Unit, _: str) -> Batches:
    file = ARROW.open(_source(unit.paths[0]))
    first = sum(file.get_batch(number).num_rows for number in range(unit.part.start))
    numbers = range(unit.part.start, file.num_record_batches if unit.part.stop is None else unit.part.stop)
    return Batches(file.schema, first, map(file.get_batch, numbers))


def _stream_batches(unit: Unit, _: str) -> Batches:
    stream = STREAM.open(_source(unit.paths[0]))
    return Batches(stream.schema, 0, iter(stream))


def _rows(
    unit: Unit, config: SourceConfig, dropped: Counter[str], batches_of: Callable[[Unit, str], Batches]
) -> Iterator[Document]:
    number = 0
    try:
        schema, number, batches = batches_of(unit, config.text_field)
        _check_column(unit, config, schema)
        for batch in batches:
            for start in range(0, batch.num_rows, ROWS_AT_ONCE):
                for text in _texts(batch.column(config.text_field).slice(start, ROWS_AT_ONCE)):
                    if isinstance(text, UnicodeDecodeError):
                        config.leave_out("not UTF-8", bound(_not_utf8, unit, number, text), dropped)
                    elif text is None:
                        dropped["no text"] += 1
                    elif len(text) > config.maximum_bytes:
                        dropped["too large"] += 1
                    else:
                        yield Document(text, f"{unit.file}#{number}")
                    number += 1
    except UNREADABLE as error:
        message = (
            f"{unit.file}: breaks off after row {number} ({error}); copy it again, or set source.damaged = 'count'"
        )
        config.leave_out("file breaks off", lambda: message, dropped)


def _texts(column: pa.Array) -> list[Any]:
    """The text of each row, None where there is none, or why it cannot be decoded."""
    values = _values(column)
    try:
        found = values.to_pylist()
    except UnicodeDecodeError:
        found = values.cast(pa.large_binary()).to_pylist()
    return [_decoded(value) if isinstance(value, bytes) else value for value in found]


def _values(column: pa.Array) -> pa.Array:
    """A column without what only says how its values are stored."""
    if isinstance(column, pa.ExtensionArray):
        return _values(column.storage)
    if isinstance(column, pa.DictionaryArray):
        return column.dictionary_decode()
    if isinstance(column, pa.RunEndEncodedArray):
        import pyarrow.compute

        return pyarrow.compute.run_end_decode(column)  # type: ignore[attr-defined]
    return column


def _value_type(kind: pa.DataType) -> pa.DataType:
    while isinstance(kind, (pa.BaseExtensionType, pa.DictionaryType, pa.RunEndEncodedType)):
        kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind.value_type
    return kind


def _decoded(value: bytes) -> str | UnicodeDecodeError:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        return error


def _not_utf8(unit: Unit, number: int, error: UnicodeDecodeError) -> str:
    return (
        f"{unit.file}: row {number} is not UTF-8 (byte {error.start} of the text); correct or remove it, or set "
        "source.damaged = 'count'"
    )


def _check_column(unit: Unit, config: SourceConfig, schema: pa.Schema) -> None:
    field = config.text_field
    found = schema.get_all_field_indices(field)
    if not found:
        raise CorpusError(f"{unit.file}: has no column '{field}' (columns: {', '.join(schema.names)}); {SET_FIELD}")
    if len(found) > 1:
        raise CorpusError(f"{unit.file}: has {len(found)} columns '{field}'; rename all but one of them")
    kind = _value_type(schema.field(found[0]).type)
    if not any(getattr(pa.types, f"is_{name}", lambda _: False)(kind) for name in TEXT_TYPES):
        raise CorpusError(f"{unit.file}: column '{field}' holds {kind}, not text; {SET_FIELD}")


def _spans(file: File, kind: Format, count: Callable[[Any], int]) -> list[Range]:
    """The groups of a file in runs of about RANGE_BYTES; a damaged file is one unit, and what is wrong is reported when
    it is read."""
    try:
        groups = count(_opened(file.path, file.name, kind))
    except UNREADABLE:
        return [Range()]
    together = max(1, groups * RANGE_BYTES // max(1, file.size))
    return [Range(start, min(start + together, groups)) for start in range(0, groups, together)] or [Range(0, 0)]


def _opened(path: str, name: str, kind: Format) -> Any:
    """Open a file of a format.

    Raises:
        CorpusError: it is no file of that format, or is compressed.
        ArrowException, OSError: it is one, but damaged.
    """
    packed = compression(path)
    if packed and kind is not STREAM:
        raise CorpusError(f"{name}: is compressed ({packed}); decompress it")
    try:
        return kind.open(_source(path))
    except UNREADABLE as error:
        if _begins(path, kind):
            raise
        raise CorpusError(f"{name}: cannot be read as {kind.name} ({error}); check source.kind") from None


def _begins(path: str, kind: Format) -> bool:
    """Is the file of that format, as far as its first bytes say?"""
    try:
        with open_binary(path) as file:
            return file.read(len(kind.mark)) == kind.mark
    except BROKEN:
        return False


def _source(path: str) -> Any:
    return pa.memory_map(path) if os.path.exists(path) and not compression(path) else open_binary(path)
