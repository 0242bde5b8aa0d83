"""THE WALL between the pipeline and training: the columns, the manifest, and how shards are written and read.

    DATASET/
        manifest.json                what was made, from what, with which recipe; a checksum for every file
        tokenizer.model              the sentencepiece model of the ids
        train-00000.arrow ...        Arrow IPC files, one record batch each, uncompressed, read by memory map
        validation-00000.arrow ...   examples of held-out documents
        validation_documents.jsonl   those documents as text

Nobody else knows this layout.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import Field

import configs
from configs import Section
from configs.errors import ConfigError, DatasetError

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.model"
DOCUMENTS = "validation_documents.jsonl"
SPLITS = ("train", "validation")

COLUMNS: dict[str, str] = {
    "tokens": "list: ids as the model sees them, [CLS] a [SEP] or [CLS] a [SEP] b [SEP], corrupted by the recipe",
    "first_segment_length": "tokens of the first segment with its [CLS] and [SEP]",
    "mask_positions": "list: positions to predict, ascending, those that kept their token among them",
    "mask_labels": "list: the original ids at those positions",
    "pair_labels": "0 the pair is as it was, 1 the second segment is from another document (or the two are swapped)",
    "document": "number of the document that the first segment is from",
}
LISTS = ("tokens", "mask_positions", "mask_labels")


class Ragged(NamedTuple):
    """Rows of unequal length end to end: row i is ``values[offsets[i]:offsets[i + 1]]``."""

    values: np.ndarray
    offsets: np.ndarray
    """int64 [rows + 1], the first is 0."""

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    def take(self, rows: np.ndarray) -> "Ragged":
        """The given rows in the given order."""
        starts, lengths = self.offsets[rows], self.offsets[rows + 1] - self.offsets[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return Ragged(self.values[np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)], offsets)


Columns = dict[str, "np.ndarray | Ragged"]


class Shard(Section):
    """One file of a split."""

    file: str
    rows: int
    bytes: int
    sha256: str


class SplitRecord(Section):
    """One split: its counts and its files in order."""

    rows: int
    tokens: int
    predictions: int
    shards: tuple[Shard, ...]


class TokenizerRecord(Section):
    """The tokenizer that made the ids."""

    sha256: str
    vocabulary_size: int
    special: dict[str, int]


class Manifest(Section):
    """What ``manifest.json`` holds."""

    format_version: int
    code_version: str
    seed: int
    columns: tuple[str, ...]
    recipe: dict[str, Any]
    """The resolved corpus configuration, without what has no influence on the bytes."""
    tokenizer: TokenizerRecord
    splits: dict[str, SplitRecord]
    documents_sha256: str
    """Of ``validation_documents.jsonl``."""
    documents: dict[str, int]
    """Documents read, kept, held out, and dropped by reason."""
    sources: tuple[dict[str, Any], ...]
    """Files or packages read, with sizes."""
    lengths: dict[str, int]
    """Histogram: sequences of the train split by number of tokens, in bins of 16."""
    masking: dict[str, float]
    """Observed shares over the train split: masked of all tokens; [MASK], kept and random of the masked."""
    pair_share: float | None = None
    """Share of train pairs with label 1."""
    unigram_entropy: float | None = None
    """Nats: entropy of the train labels, the loss of a model that only counts, on its own counts."""
    unigram_cross_entropy_validation: float | None = None
    """Nats: the same counts used to predict the validation labels; the line that a loss curve shows."""
    manifest_sha256: str = Field(default="")
    """Of this file without this entry."""


class Split:
    """The rows of one split, over all of its shards, read by memory map."""

    def __init__(self, folder: Path, record: SplitRecord, columns: tuple[str, ...]):
        self.rows = record.rows
        self.columns = columns
        self._shards = [_map(folder / shard.file) for shard in record.shards]
        self._bounds = np.concatenate([[0], np.cumsum([shard.rows for shard in record.shards])]).astype(np.int64)
        self._lengths: dict[str, np.ndarray] = {}

    def lengths(self, column: str) -> np.ndarray:
        """int32 [rows]: entries of each row (1 for a column that is not a list); values are not read."""
        if column not in self._lengths:
            parts = [_row_lengths(shard[column]) for shard in self._shards]
            self._lengths[column] = np.concatenate(parts) if parts else np.zeros(0, np.int32)
        return self._lengths[column]

    def take(self, rows: np.ndarray) -> Columns:
        """Any rows, in the given order, as column name -> array or :class:`Ragged`."""
        owners = np.searchsorted(self._bounds, rows, side="right") - 1
        order = np.argsort(owners, kind="stable")
        used = np.unique(owners)
        back = np.argsort(order, kind="stable")
        found: Columns = {}
        for column in self.columns:
            parts = [_take(self._shards[owner][column], rows[owners == owner] - self._bounds[owner]) for owner in used]
            found[column] = _reordered(parts, back)
        return found


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

    def split(self, name: str) -> Split:
        """The rows of ``train`` or ``validation``."""
        if name not in self.manifest.splits:
            raise DatasetError(f"{self.path}: has no split '{name}'; there are {', '.join(self.manifest.splits)}")
        return Split(self.path, self.manifest.splits[name], self.manifest.columns)

    def files(self) -> dict[str, str]:
        """SHA-256 of every file but the manifest, by name."""
        shards = {shard.file: shard.sha256 for split in self.manifest.splits.values() for shard in split.shards}
        return {TOKENIZER: self.manifest.tokenizer.sha256, DOCUMENTS: self.manifest.documents_sha256, **shards}


def open_dataset(path: str | Path, *, verify: bool) -> Dataset:
    """Open a dataset; with ``verify`` every file is compared with its checksum first.

    Raises:
        DatasetError: something is missing or damaged; the sentence names the file.
    """
    dataset = Dataset(Path(path), read_manifest(Path(path)))
    for name, expected in dataset.files().items():
        file = dataset.path / name
        if not file.is_file():
            raise DatasetError(f"{file}: is missing; prepare the dataset again or copy the file anew")
        if verify and digest(file) != expected:
            raise DatasetError(f"{file}: differs from its checksum; prepare the dataset again or copy the file anew")
    return dataset


def read_manifest(path: Path) -> Manifest:
    """Read and check ``manifest.json``."""
    file = path / MANIFEST
    if not file.is_file():
        raise DatasetError(f"{path}: holds no {MANIFEST}, so it is no dataset; make one with `sesame prepare`")
    try:
        values = json.loads(file.read_bytes())
        stated = values.pop("manifest_sha256", "") if isinstance(values, dict) else ""
    except ValueError:
        raise DatasetError(f"{file}: is not JSON; prepare the dataset again") from None
    if not isinstance(values, dict) or _canonical_digest(values) != stated:
        raise DatasetError(f"{file}: differs from its own checksum; prepare the dataset again or copy the file anew")
    if values.get("format_version") != FORMAT_VERSION:
        raise DatasetError(
            f"{file}: has format {values.get('format_version')}, but this version reads {FORMAT_VERSION}; prepare it again"
        )
    try:
        return configs.parse({**values, "manifest_sha256": stated}, Manifest, str(file))
    except ConfigError as error:
        raise DatasetError(str(error)) from None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``manifest.json`` with its own checksum."""
    values = configs.dump(manifest)
    del values["manifest_sha256"]
    values["manifest_sha256"] = _canonical_digest(values)
    (folder / MANIFEST).write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_shard(path: Path, columns: Columns) -> Shard:
    """Write one shard; the same columns give the same bytes."""
    arrays = [_array(column) for column in columns.values()]
    batch = pa.record_batch(arrays, names=list(columns))
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)
    return Shard(file=path.name, rows=batch.num_rows, bytes=path.stat().st_size, sha256=digest(path))


def concatenate(parts: list[Columns]) -> Columns:
    """The rows of several parts one after the other."""
    return {name: _joined([part[name] for part in parts]) for name in parts[0]}


def take(columns: Columns, rows: np.ndarray) -> Columns:
    """The given rows of in-memory columns."""
    return {name: column.take(rows) if isinstance(column, Ragged) else column[rows] for name, column in columns.items()}


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _canonical_digest(values: dict[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _map(path: Path) -> dict[str, "np.ndarray | Ragged"]:
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        return {name: _numpy(table.column(name)) for name in table.column_names}
    except (OSError, pa.ArrowInvalid) as error:
        raise DatasetError(f"{path}: cannot be read as an Arrow file ({error}); prepare the dataset again") from None


def _numpy(column: pa.ChunkedArray) -> "np.ndarray | Ragged":
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if isinstance(array, pa.LargeListArray | pa.ListArray):
        return Ragged(array.values.to_numpy(), array.offsets.to_numpy())
    return array.to_numpy()


def _array(column: "np.ndarray | Ragged") -> pa.Array:
    if isinstance(column, Ragged):
        return pa.LargeListArray.from_arrays(pa.array(column.offsets.astype(np.int64)), pa.array(column.values))
    return pa.array(column)


def _row_lengths(column: "np.ndarray | Ragged") -> np.ndarray:
    return column.lengths.astype(np.int32) if isinstance(column, Ragged) else np.ones(len(column), np.int32)


def _take(column: "np.ndarray | Ragged", rows: np.ndarray) -> "np.ndarray | Ragged":
    return column.take(rows) if isinstance(column, Ragged) else column[rows]


def _joined(parts: list[Any]) -> "np.ndarray | Ragged":
    if not isinstance(parts[0], Ragged):
        return np.concatenate(parts)
    lengths = np.concatenate([part.lengths for part in parts])
    return Ragged(np.concatenate([part.values for part in parts]), np.concatenate([[0], np.cumsum(lengths)]))


def _reordered(parts: list[Any], back: np.ndarray) -> "np.ndarray | Ragged":
    joined = _joined(parts)
    if np.array_equal(back, np.arange(len(back))):
        return joined
    return joined.take(back) if isinstance(joined, Ragged) else joined[back]
