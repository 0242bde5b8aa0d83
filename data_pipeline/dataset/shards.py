"""The format of a dataset: writing and reading its files.

    DATASET/
        manifest.json                sources, recipe, statistics, and a checksum for every file
        tokenizer.model              the tokenizer of the ids: a sentencepiece model, or JSON of vocabulary files
        train-00000.arrow ...        Arrow IPC files, one record batch each, uncompressed, read by memory map
        validation-00000.arrow ...   examples of validation documents
        validation_documents.jsonl   those documents as text: {"text": ..., "source": ...}
        train_documents.arrow        file and place of each train document, by its index; compressed

Only this file depends on the layout. ``columns.py`` describes the columns, ``manifest.py`` the manifest.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from sesame.configs.errors import DatasetError
from sesame.configs.storage import digest
from sesame.data_pipeline.arrow_file import write_arrow
from sesame.data_pipeline.dataset.columns import COLUMNS
from sesame.data_pipeline.dataset.manifest import Manifest, Shard, SplitRecord, read_manifest
from sesame.data_pipeline.ragged import Column, Columns, Ragged, boundaries, concatenate, take

TOKENIZER = "tokenizer.model"
DOCUMENTS = "validation_documents.jsonl"
PLACES = "train_documents.arrow"
SPLITS = ("train", "validation")
BLOCK_ROWS = 65536
"""Rows of one block when a whole split is read."""

REMEDY = "prepare the dataset again or copy the file anew"


class Split:
    """The rows of one split, in all of its shards, read by memory map."""

    def __init__(self, folder: Path, record: SplitRecord, columns: tuple[str, ...], *, stay_open: bool = True):
        """
        Args:
            stay_open: keep all shards mapped; otherwise one at a time, because the pages that were read stay in memory
                as long as the map is open.
        """
        self.rows = record.rows
        self.columns = columns
        self._files = [folder / shard.file for shard in record.shards]
        self._counts = [shard.rows for shard in record.shards]
        self._open = [self._map(number) for number in range(len(self._files))] if stay_open else None
        self._bounds = boundaries(np.array(self._counts, np.int64))
        self._lengths: dict[str, np.ndarray] = {}

    def lengths(self, column: str) -> np.ndarray:
        """Return int32 [rows]: entries of each row (1 for a column that is not a list), without reading the values."""
        if column not in self._lengths:
            parts = [_row_lengths(self._shard(number)[column]) for number in range(len(self._files))]
            self._lengths[column] = np.concatenate(parts) if parts else np.zeros(0, np.int32)
        return self._lengths[column]

    def lengths_of(self, column: str, rows: np.ndarray) -> np.ndarray:
        """Return int32 [len(rows)]: entries of these rows; the cost does not depend on the size of the split."""
        owners = np.searchsorted(self._bounds, rows, side="right") - 1
        lengths = np.ones(len(rows), np.int32)
        for owner in np.unique(owners):
            values = self._shard(owner)[column]
            if isinstance(values, Ragged):
                own = owners == owner
                inside = rows[own] - self._bounds[owner]
                lengths[own] = values.offsets[inside + 1] - values.offsets[inside]
        return lengths

    def take(self, rows: np.ndarray) -> Columns:
        """Return any rows, in the given order, as column name -> array or :class:`Ragged`."""
        rows = np.asarray(rows, np.int64)
        if len(self._files) == 1:
            return self._take_inside(0, rows)
        owners = np.searchsorted(self._bounds, rows, side="right") - 1
        used = np.unique(owners) if len(rows) else np.arange(min(1, len(self._files)))
        parts = [self._take_inside(int(owner), rows[owners == owner] - self._bounds[owner]) for owner in used]
        if not parts:
            return {}
        order = np.argsort(owners, kind="stable")
        if np.array_equal(order, np.arange(len(rows))):
            return concatenate(parts)
        inverse = np.argsort(order, kind="stable")
        return {column: take(values, inverse) for column, values in concatenate(parts).items()}

    def place(self, row: int) -> tuple[Path, int]:
        """Return the file of a row, and its index in the file."""
        shard = int(np.searchsorted(self._bounds, row, side="right")) - 1
        return self._files[shard], row - int(self._bounds[shard])

    def _shard(self, number: int) -> Columns:
        return self._open[number] if self._open is not None else self._map(number)

    def _map(self, number: int) -> Columns:
        return _map(self._files[number], self._counts[number], self.columns)

    def _take_inside(self, number: int, rows: np.ndarray) -> Columns:
        """Return rows by their indices in one shard."""
        shard = self._shard(number)
        return {column: take(shard[column], rows) for column in self.columns}

    def blocks(self) -> Iterator[Columns]:
        """Yield all rows in order, in blocks."""
        for start in range(0, self.rows, BLOCK_ROWS):
            yield self.take(np.arange(start, min(self.rows, start + BLOCK_ROWS)))


class Dataset:
    """A prepared dataset on disk."""

    def __init__(self, path: Path, manifest: Manifest):
        self.path, self.manifest = path, manifest

    @property
    def tokenizer_path(self) -> Path:
        return self.path / TOKENIZER

    @property
    def documents_path(self) -> Path:
        return self.path / DOCUMENTS

    @property
    def places_path(self) -> Path:
        return self.path / PLACES

    def split(self, name: str) -> Split:
        """Return the rows of ``train`` or ``validation``."""
        if name not in self.manifest.splits:
            raise DatasetError(f"{self.path}: has no split '{name}'; there are {', '.join(self.manifest.splits)}")
        return Split(self.path, self.manifest.splits[name], self.manifest.columns)

    def files(self) -> dict[str, str]:
        """Return the SHA-256 of every file except the manifest, by name."""
        manifest = self.manifest
        shards = {shard.file: shard.sha256 for split in manifest.splits.values() for shard in split.shards}
        texts = {DOCUMENTS: manifest.documents_sha256, PLACES: manifest.places_sha256}
        return {TOKENIZER: manifest.tokenizer.sha256, **texts, **shards}


def open_dataset(path: str | Path, *, verify: bool) -> Dataset:
    """Open a dataset; with ``verify`` every file is compared with its checksum first.

    Raises:
        DatasetError: a file is missing or damaged.
    """
    dataset = Dataset(Path(path), read_manifest(Path(path)))
    sizes = {shard.file: shard.bytes for split in dataset.manifest.splits.values() for shard in split.shards}
    for name, expected in dataset.files().items():
        file = dataset.path / name
        if not file.is_file():
            raise DatasetError(f"{file}: is missing; {REMEDY}")
        size = file.stat().st_size
        if name in sizes and size != sizes[name]:
            raise DatasetError(f"{file}: has {size} bytes, but the manifest says {sizes[name]}; {REMEDY}")
        if verify and digest(file) != expected:
            raise DatasetError(f"{file}: differs from its checksum; {REMEDY}")
    return dataset


def write_shard(path: Path, columns: Columns) -> Shard:
    """Write one shard; the same columns give the same bytes."""
    rows = write_rows(path, columns)
    return Shard(file=path.name, rows=rows, bytes=path.stat().st_size, sha256=digest(path))


def write_rows(path: Path, columns: Columns) -> int:
    """Write a file in the format of a shard and return its number of rows."""
    batch = pa.record_batch([_array(column) for column in columns.values()], names=list(columns))
    write_arrow(path, pa.Table.from_batches([batch]))
    return batch.num_rows


def _map(path: Path, rows: int, columns: tuple[str, ...]) -> Columns:
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        arrays = {name: _numpy(table.column(name)) for name in columns}
    except (OSError, KeyError, pa.ArrowInvalid) as error:
        raise DatasetError(f"{path}: cannot be read as an Arrow file ({error}); {REMEDY}") from None
    if table.num_rows != rows:
        raise DatasetError(f"{path}: has {table.num_rows} rows, but the manifest says {rows}; {REMEDY}")
    return arrays


def _numpy(column: pa.ChunkedArray) -> Column:
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if isinstance(array, pa.LargeListArray | pa.ListArray):
        return Ragged(array.values.to_numpy(), array.offsets.to_numpy())
    return array.to_numpy()


def _array(column: Column) -> pa.Array:
    if isinstance(column, Ragged):
        return pa.LargeListArray.from_arrays(pa.array(column.offsets.astype(np.int64)), pa.array(column.values))
    return pa.array(column)


def _row_lengths(column: Column) -> np.ndarray:
    return column.lengths.astype(np.int32) if isinstance(column, Ragged) else np.ones(len(column), np.int32)


__all__ = ["COLUMNS", "Columns", "Dataset", "Manifest", "Ragged", "Split", "open_dataset", "write_shard"]
