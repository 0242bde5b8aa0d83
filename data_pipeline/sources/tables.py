"""Text columns of Parquet files, read by row groups, and of Arrow files, read by record batches."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import pyarrow as pa

from sesame.configs.errors import CorpusError
from sesame.data_pipeline.sources.config import SourceConfig
from sesame.data_pipeline.sources.document import Document
from sesame.data_pipeline.sources.files import RANGE_BYTES, File, Range
from sesame.data_pipeline.sources.streams import DAMAGED, compression, open_binary
from sesame.data_pipeline.sources.unit import Unit

ROWS_AT_ONCE = 1024
"""Rows in memory as Python strings."""
UNREADABLE = (pa.ArrowException, *DAMAGED)
"""Exceptions of opening or reading a damaged file."""
TEXT_TYPES = ("string", "large_string", "string_view", "binary", "large_binary", "binary_view", "fixed_size_binary")
"""Types of text columns; binary ones as UTF-8."""
SET_FIELD = "set source.text_field"


class Format(NamedTuple):
    name: str
    magic: bytes
    """First bytes of a file."""
    open: Callable[[Any], Any]


def _open_parquet(source: Any) -> Any:
    import pyarrow.parquet

    return pyarrow.parquet.ParquetFile(source)


PARQUET = Format("Parquet", b"PAR1", _open_parquet)
ARROW = Format("Arrow", b"ARROW1", pa.ipc.open_file)
STREAM = Format("Arrow", b"\xff\xff\xff\xff", pa.ipc.open_stream)


def parquet_groups(file: File) -> list[Range]:
    """Ranges of row groups, each about RANGE_BYTES."""
    return _group_ranges(file, PARQUET, lambda opened: opened.num_row_groups if opened.metadata.num_rows else 0)


def arrow_batches(file: File) -> list[Range]:
    """Ranges of record batches, each about RANGE_BYTES; one for the stream format, which has no index of batches."""
    if _has_magic(file.path, ARROW):
        return _group_ranges(file, ARROW, lambda opened: opened.num_record_batches)
    return _group_ranges(file, STREAM, lambda _: 1)


def read_parquet(unit: Unit, config: SourceConfig, dropped: Counter[str]) -> Iterator[Document]:
    """Yield each row of the unit's row groups that has a text."""
    yield from _rows(unit, config, dropped, _parquet_batches)


def read_arrow(unit: Unit, config: SourceConfig, dropped: Counter[str]) -> Iterator[Document]:
    """Yield each row of the unit's record batches that has a text."""
    yield from _rows(unit, config, dropped, _arrow_batches if _has_magic(unit.paths[0], ARROW) else _stream_batches)


class Batches(NamedTuple):
    """The part of a file that a unit reads."""

    schema: pa.Schema
    first: int
    """Index of the first row in the file."""
    batches: Iterator[pa.RecordBatch]


def _parquet_batches(unit: Unit, column: str) -> Batches:
    file = PARQUET.open(_open_source(unit.paths[0]))
    groups = range(unit.part.start, file.num_row_groups if unit.part.stop is None else unit.part.stop)
    first = sum(file.metadata.row_group(group).num_rows for group in range(unit.part.start))
    batches = file.iter_batches(ROWS_AT_ONCE, row_groups=list(groups), columns=[column])
    return Batches(file.schema_arrow, first, batches)


def _arrow_batches(unit: Unit, _: str) -> Batches:
    file = ARROW.open(_open_source(unit.paths[0]))
    first = sum(file.get_batch(number).num_rows for number in range(unit.part.start))
    numbers = range(unit.part.start, file.num_record_batches if unit.part.stop is None else unit.part.stop)
    return Batches(file.schema, first, map(file.get_batch, numbers))


def _stream_batches(unit: Unit, _: str) -> Batches:
    stream = STREAM.open(_open_source(unit.paths[0]))
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
                        config.handle_damaged("not UTF-8", partial(_not_utf8, unit, number, text), dropped)
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
        config.handle_damaged("file breaks off", lambda: message, dropped)


def _texts(column: pa.Array) -> list[Any]:
    """The text of each row: None if it has none, or the error of decoding it."""
    values = _values(column)
    try:
        texts = values.to_pylist()
    except UnicodeDecodeError:
        texts = values.cast(pa.large_binary()).to_pylist()
    return [_decode(value) if isinstance(value, bytes) else value for value in texts]


def _values(column: pa.Array) -> pa.Array:
    """A column without extension, dictionary and run-end encodings."""
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


def _decode(value: bytes) -> str | UnicodeDecodeError:
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
    indices = schema.get_all_field_indices(field)
    if not indices:
        raise CorpusError(f"{unit.file}: has no column '{field}' (columns: {', '.join(schema.names)}); {SET_FIELD}")
    if len(indices) > 1:
        raise CorpusError(f"{unit.file}: has {len(indices)} columns '{field}'; rename all but one of them")
    kind = _value_type(schema.field(indices[0]).type)
    if not any(getattr(pa.types, f"is_{name}", lambda _: False)(kind) for name in TEXT_TYPES):
        raise CorpusError(f"{unit.file}: column '{field}' has {kind}, not text; {SET_FIELD}")


def _group_ranges(file: File, kind: Format, count: Callable[[Any], int]) -> list[Range]:
    """Ranges of groups, each about RANGE_BYTES; one for a damaged file, whose error is reported when it is read."""
    try:
        groups = count(_open(file.path, file.name, kind))
    except UNREADABLE:
        return [Range()]
    step = max(1, groups * RANGE_BYTES // max(1, file.size))
    return [Range(start, min(start + step, groups)) for start in range(0, groups, step)] or [Range(0, 0)]


def _open(path: str, name: str, kind: Format) -> Any:
    """Open a file of a format.

    Raises:
        CorpusError: it is of another format, or compressed.
        ArrowException, OSError: it is damaged.
    """
    suffix = compression(path)
    if suffix and kind is not STREAM:
        raise CorpusError(f"{name}: is compressed ({suffix}); decompress it")
    try:
        return kind.open(_open_source(path))
    except UNREADABLE as error:
        if _has_magic(path, kind):
            raise
        raise CorpusError(f"{name}: cannot be read as {kind.name} ({error}); check source.kind") from None


def _has_magic(path: str, kind: Format) -> bool:
    """Whether the first bytes of a file are those of the format."""
    try:
        with open_binary(path) as file:
            return file.read(len(kind.magic)) == kind.magic
    except DAMAGED:
        return False


def _open_source(path: str) -> Any:
    return pa.memory_map(path) if os.path.exists(path) and not compression(path) else open_binary(path)
