"""Parts: files of the cleaned corpus, each small enough for one worker."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from sesame.data_pipeline.arrow_file import write_arrow
from sesame.data_pipeline.cleaning.clean import clean
from sesame.data_pipeline.cleaning.config import CleanConfig
from sesame.data_pipeline.cleaning.overlap import Overlap
from sesame.data_pipeline.cleaning.pieces import (
    LINE_END,
    PARAGRAPH_END,
    PART_CHARACTERS,
    Features,
    Piece,
    split_document,
)
from sesame.data_pipeline.ragged import Ragged, boundaries
from sesame.data_pipeline.sources import SourceConfig, Unit, read
from sesame.data_pipeline.sources.document import Document

OVERLAP = "overlap.npz"
"""File with the sequences of evaluation texts, for the workers."""


class Part(NamedTuple):
    """A file of pieces of documents, nearly all of them whole, and their features for deduplication and selection."""

    path: Path
    unit: str
    """Name of the unit of the source."""
    begins: np.ndarray
    """bool [pieces]: the piece begins a document. Others continue the one before, maybe from an earlier part."""
    fingerprints: np.ndarray
    """uint64 [pieces, 2]: hash of the text of the whole document."""
    characters: np.ndarray
    """int64 [pieces]."""
    paragraphs: np.ndarray
    """uint64 [paragraphs]: hash of each paragraph of each piece."""
    paragraph_characters: np.ndarray
    """int64 [paragraphs]: characters, including ``paragraph_end``."""
    paragraph_bounds: np.ndarray
    """int64 [pieces + 1]: index of the first paragraph of each piece."""
    bands: np.ndarray
    """uint64 [pieces, BANDS]: MinHash bands of the whole document; [pieces, 0] if near duplicates are kept."""

    paragraph_end: str = PARAGRAPH_END
    """Separator of ``paragraphs``, which are lines if lines are deduplicated."""

    @property
    def pieces(self) -> int:
        return len(self.begins)

    @property
    def documents(self) -> int:
        """Number of documents that begin in this part."""
        return int(self.begins.sum())

    def texts(self, keep: np.ndarray, paragraphs: np.ndarray | None = None) -> Ragged:
        """Return the texts of some pieces: uint8 rows of UTF-8, which joined give the text of a document.

        Args:
            keep: bool [pieces].
            paragraphs: bool [paragraphs], which ones stay; None for all.
        """
        with pa.memory_map(str(self.path)) as file:
            column = pa.ipc.open_file(file).read_all().column("text").chunk(0)
            _, offsets, values = column.buffers()
            bounds, content = np.frombuffer(offsets, np.int64), memoryview(values)
            numbers = np.flatnonzero(keep).tolist()
            texts = [content[bounds[number] : bounds[number + 1]] for number in numbers]
            if paragraphs is not None:
                rows = zip(texts, numbers, strict=True)
                texts = [self._kept_text(bytes(text), number, paragraphs) for text, number in rows]
            return Ragged.of_bytes(texts)

    def _kept_text(self, text: bytes, number: int, paragraphs: np.ndarray) -> bytes:
        """The paragraphs of one piece that stay."""
        first, last = self.paragraph_bounds[number : number + 2]
        end = self.paragraph_end.encode()
        *ended, rest = text.split(end)
        pieces = [paragraph + end for paragraph in ended] + ([rest] if rest else [])
        return b"".join(piece for piece, stays in zip(pieces, paragraphs[first:last], strict=True) if stays)

    def sources(self, keep: np.ndarray) -> list[str]:
        """Return file and position of the documents of some pieces (bool [pieces])."""
        with pa.memory_map(str(self.path)) as file:
            return pa.ipc.open_file(file).read_all().column("source").take(pa.array(np.flatnonzero(keep))).to_pylist()

    def read(self, keep: np.ndarray, paragraphs: np.ndarray | None = None) -> Iterator[Document]:
        """Yield some pieces; see :meth:`texts`."""
        texts = self.texts(keep, paragraphs)
        for number, source in enumerate(self.sources(keep)):
            text = texts.values[texts.offsets[number] : texts.offsets[number + 1]]
            yield Document(text.tobytes().decode(), source)


class Reading(NamedTuple):
    """The cleaned documents of one unit."""

    parts: list[Part]
    documents: int
    """Documents read, including dropped ones."""
    dropped: Counter[str]
    """Dropped documents by reason."""
    changed: Counter[str]
    """Changes to documents that stay, by kind."""
    lost: Counter[str] | None = None
    """Characters of dropped documents by reason."""


def read_unit(number: int, unit: Unit, source: SourceConfig, rules: CleanConfig, folder: Path) -> Reading:
    """Read and clean one unit of a source, and write it in parts.

    Args:
        number: index of the unit, which names its files.
        folder: for the parts; has the file of evaluation texts.
    """
    dropped: Counter[str] = Counter()
    changed: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    overlap = Overlap.load(folder / OVERLAP) if rules.evaluation_paths else None
    kept = clean(read(unit, source, dropped), rules, dropped, overlap, changed, lost)
    features = Features(rules.drop_repeated_paragraphs, rules.drop_near_duplicates, rules.drop_repeated_lines)
    parts = write_parts(kept, unit.name, folder / f"unit-{number:05d}", features, changed)
    return Reading(parts, sum(part.documents for part in parts) + dropped.total(), dropped, changed, lost)


def write_parts(
    documents: Iterable[Document], unit: str, stem: Path, features: Features, changed: Counter[str] | None = None
) -> list[Part]:
    """Write documents, in order, into parts of about PART_CHARACTERS.

    Args:
        unit: name of the unit.
        stem: path of the files, without number and suffix.
        changed: counts the documents that are split.
    """
    parts: list[Part] = []
    batch: list[Piece] = []
    characters = 0
    for document in documents:
        for number, piece in enumerate(split_document(document, features)):
            if changed is not None and number == 1:
                changed["cut because of their length"] += 1
            batch.append(piece)
            characters += len(piece.text)
            if characters >= PART_CHARACTERS:
                parts.append(_write_part(batch, unit, stem, len(parts), features))
                batch, characters = [], 0
    if batch:
        parts.append(_write_part(batch, unit, stem, len(parts), features))
    return parts


def whole_documents(
    parts: Sequence[Part], keeps: Sequence[np.ndarray], paragraphs: Sequence[np.ndarray | None]
) -> Iterator[Document]:
    """Yield the documents of some pieces, with the pieces of each joined.

    Args:
        keeps: bool [pieces] of each part.
        paragraphs: bool [paragraphs] of each part, which ones stay; None for all.
    """
    pieces: list[Document] = []
    for part, keep, staying in zip(parts, keeps, paragraphs, strict=True):
        for piece, begins in zip(part.read(keep, staying), part.begins[keep], strict=True):
            if begins and pieces:
                yield _join(pieces)
                pieces = []
            pieces.append(piece)
    if pieces:
        yield _join(pieces)


def _join(pieces: list[Document]) -> Document:
    """Join the pieces of a document. Its last paragraph has a line end only if a later one was dropped."""
    return Document("".join(piece.text for piece in pieces).rstrip("\n"), pieces[0].source)


def _write_part(batch: list[Piece], unit: str, stem: Path, number: int, features: Features) -> Part:
    path = stem.with_name(f"{stem.name}-{number:05d}.arrow")
    columns = {
        name: pa.array([getattr(piece, name) for piece in batch], pa.large_string()) for name in Document._fields
    }
    write_arrow(path, pa.table(columns))
    return Part(
        path,
        unit,
        np.array([piece.begins for piece in batch]),
        np.frombuffer(b"".join(piece.fingerprint for piece in batch), "<u8").reshape(-1, 2),
        np.array([len(piece.text) for piece in batch], np.int64),
        np.concatenate([piece.paragraphs for piece in batch]),
        np.concatenate([piece.paragraph_characters for piece in batch]),
        boundaries(np.array([len(piece.paragraphs) for piece in batch], np.int64)),
        np.stack([piece.bands for piece in batch]),
        LINE_END if features.lines else PARAGRAPH_END,
    )
