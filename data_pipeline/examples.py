"""What one worker does with one part: read and clean a unit, make its examples, gather a shard.

Plain functions of values and files; ``workers.py`` decides where they run.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_pipeline import shards
from data_pipeline.clean import CleanConfig, clean, fingerprint
from data_pipeline.corrupt import CorruptConfig, Vocabulary, corrupt
from data_pipeline.document import Document
from data_pipeline.segment import PAIRS, Example, SegmentConfig, Sentences, segment
from data_pipeline.sentences import split as split_sentences
from data_pipeline.shards import Columns, Ragged
from data_pipeline.sources import SourceConfig, Unit, read
from data_pipeline.tokenizer import Tokenizer

PART_CHARACTERS = 8_000_000
"""Text of one part: small enough for many workers, large enough to be worth a task."""


@dataclass(frozen=True)
class PartFiles:
    """A part of the cleaned corpus on disk, and what the whole must know of it."""

    path: Path
    unit: str
    fingerprints: list[bytes]
    characters: np.ndarray
    read: int
    dropped: dict[str, int]

    @property
    def documents(self) -> int:
        return len(self.fingerprints)

    def texts(self) -> Iterator[Document]:
        for row in self._rows(["sentences", "source", "text"]):
            yield Document(row["text"], row["source"])

    def sentences(self) -> Iterator[list[str]]:
        for row in self._rows(["sentences"]):
            yield row["sentences"]

    def _rows(self, columns: list[str]) -> Iterator[dict[str, Any]]:
        with pa.memory_map(str(self.path)) as source:
            for batch in pa.ipc.open_file(source).read_all().select(columns).to_batches(max_chunksize=256):
                yield from batch.to_pylist()


@dataclass
class Counts:
    """Documents by fate, characters by source."""

    read: int = 0
    kept: int = 0
    held_out: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    sources: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, parts: list[PartFiles], chosen: list[np.ndarray]) -> "Counts":
        counts = cls()
        for part, codes in zip(parts, chosen, strict=True):
            counts.read += part.read
            counts.dropped.update(part.dropped)
            counts.dropped["duplicate or beyond the limit"] += int((codes == 0).sum())
            counts.kept += int((codes == 1).sum())
            counts.held_out += int((codes == 2).sum())
            size = int(part.characters[codes > 0].sum())
            counts.sources[part.unit] = counts.sources.get(part.unit, 0) + size
        return counts

    def as_record(self) -> dict[str, int]:
        dropped = {f"dropped: {reason}": count for reason, count in sorted(self.dropped.items()) if count}
        return {"read": self.read, "kept": self.kept, "held out": self.held_out, **dropped}


def read_unit(number: int, unit: Unit, source: SourceConfig, rules: CleanConfig, work: Path) -> list[PartFiles]:
    """Read, clean and sentence-split one unit into part files of bounded size."""
    parts: list[PartFiles] = []
    dropped: Counter[str] = Counter()
    total = 0

    def counted() -> Iterator[Document]:
        nonlocal total
        for document in read(unit, source):
            total += 1
            yield document

    held: list[Document] = []
    for document in clean(counted(), rules, dropped):
        held.append(document)
        if sum_characters(held) >= PART_CHARACTERS:
            parts.append(_write_part(work / f"unit-{number:05d}-{len(parts):05d}.arrow", unit, held, total, dropped))
            held, total = [], 0
            dropped.clear()
    if held or total:
        parts.append(_write_part(work / f"unit-{number:05d}-{len(parts):05d}.arrow", unit, held, total, dropped))
    return parts


def sum_characters(documents: list[Document]) -> int:
    return sum(len(document.text) for document in documents)


def make_examples(
    number: int, part: PartFiles, codes: np.ndarray, base: int, model: bytes, recipe: dict[str, Any], work: Path
) -> dict[str, int]:
    """Tokenise, segment and corrupt one part -> rows by split, in files under ``work``."""
    tokenizer = Tokenizer(model, "the model")
    segments = SegmentConfig(**recipe["segment"])
    corruption = CorruptConfig(**recipe["corrupt"])
    rows = {}
    for code, split in enumerate(shards.SPLITS, 1):
        sentences, documents = _tokenised(part, codes == code, tokenizer)
        made = []
        for pass_number in range(segments.dupe_factor if split == "train" else 1):
            draw = np.random.Generator(np.random.PCG64DXSM([recipe["seed"], 1, number, code, pass_number]))
            examples = list(segment(sentences, segments, draw))
            if examples:
                made.append(_columns(sentences, examples, base + documents, segments, corruption, tokenizer, draw))
        rows[split] = sum(len(columns["document"]) for columns in made)
        if made:
            shards.write_shard(work / f"rows-{split}-{number:05d}.arrow", shards.concatenate(made))
    return rows


def write_split_shard(
    split: str, path: Path, order: np.ndarray, rows: list[int], work: Path
) -> tuple[shards.Shard, int, int, tuple[str, ...]]:
    """Gather the rows of one shard from all parts -> (record, tokens, predictions, columns)."""
    records = [
        shards.Shard(file=f"rows-{split}-{number:05d}.arrow", rows=count, bytes=0, sha256="")
        for number, count in enumerate(rows)
        if count
    ]
    names = tuple(shards.COLUMNS)
    whole = shards.SplitRecord(rows=sum(rows), tokens=0, predictions=0, shards=tuple(records))
    gathered = shards.Split(work, whole, names).take(order) if records else {}
    columns = {name: gathered[name] for name in names if name in gathered}
    record = shards.write_shard(path, columns)
    predictions = columns.get("mask_labels")
    tokens = len(columns["tokens"].values) if columns else 0  # type: ignore[union-attr]
    return record, tokens, len(predictions.values) if isinstance(predictions, Ragged) else 0, tuple(columns)


def _write_part(path: Path, unit: Unit, held: list[Document], total: int, dropped: Counter[str]) -> PartFiles:
    texts = [document.text for document in held]
    table = pa.table(
        {
            "text": pa.array(texts, pa.large_string()),
            "source": pa.array([document.source for document in held], pa.large_string()),
            "sentences": pa.array([split_sentences(text) for text in texts], pa.large_list(pa.large_string())),
        }
    )
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    sizes = np.array([len(text) for text in texts], np.int64)
    return PartFiles(path, unit.name, [fingerprint(text) for text in texts], sizes, total, dict(dropped))


def _tokenised(part: PartFiles, mask: np.ndarray, tokenizer: Tokenizer) -> tuple[Sentences, np.ndarray]:
    """The chosen documents as ids with boundaries, and their numbers inside the part."""
    ids, lengths, per_document, numbers = [], [], [], []
    for number, sentences in enumerate(part.sentences()):
        if mask[number]:
            encoded = [np.array(sentence) for sentence in tokenizer.encode_batch(sentences) if sentence]
            if encoded:
                ids += encoded
                lengths += [len(sentence) for sentence in encoded]
                per_document.append(len(encoded))
                numbers.append(number)
    dtype = np.uint16 if len(tokenizer) <= 2**16 else np.uint32
    flat = np.concatenate(ids).astype(dtype) if ids else np.zeros(0, dtype)
    bounds = [np.concatenate([[0], np.cumsum(counts)]).astype(np.int64) for counts in (lengths, per_document)]
    return Sentences(flat, bounds[0], bounds[1]), np.array(numbers, np.int64)


def _columns(
    part: Sentences,
    examples: list[Example],
    documents: np.ndarray,
    segments: SegmentConfig,
    corruption: CorruptConfig,
    tokenizer: Tokenizer,
    draw: np.random.Generator,
) -> Columns:
    spans = np.array(examples, np.int64)
    paired = segments.kind in PAIRS
    tokens = _laid_out(part.ids, spans, tokenizer.special, paired)
    columns: Columns = {"tokens": tokens}
    columns["first_segment_length"] = (spans[:, 1] - spans[:, 0] + 2).astype(np.uint16)
    if corruption.kind != "nothing":
        vocabulary = Vocabulary(tokenizer.special, tokenizer.starts_word, tokenizer.ordinary)
        hidden = corrupt(tokens, corruption, vocabulary, draw)
        columns |= {"tokens": hidden.tokens, "mask_positions": hidden.positions, "mask_labels": hidden.labels}
    if paired:
        columns["pair_labels"] = spans[:, 4].astype(np.uint8)
    columns["document"] = documents[spans[:, 5]].astype(np.uint32)
    return {name: columns[name] for name in shards.COLUMNS if name in columns}


def _laid_out(ids: np.ndarray, spans: np.ndarray, special: Any, paired: bool) -> Ragged:
    """[CLS] first [SEP] (second [SEP]) of every example end to end, without a loop over examples."""
    first, second = spans[:, 1] - spans[:, 0], spans[:, 3] - spans[:, 2]
    lengths = first + second + (3 if paired else 2)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    values = np.full(offsets[-1], special.sep, ids.dtype)
    values[offsets[:-1]] = special.cls
    for starts, counts, places in (
        (spans[:, 0], first, offsets[:-1] + 1),
        (spans[:, 2], second, offsets[:-1] + first + 2),
    ):
        inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        values[np.repeat(places, counts) + inside] = ids[np.repeat(starts, counts) + inside]
    return Ragged(values, offsets)
