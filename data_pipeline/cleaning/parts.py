"""Parts: the cleaned corpus on disk, in files small enough for one worker, with what the whole must know of each."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data_pipeline.arrow_file import write_arrow
from data_pipeline.cleaning.clean import CleanConfig, clean, fingerprint
from data_pipeline.cleaning.near_duplicates import bands
from data_pipeline.cleaning.overlap import Overlap
from data_pipeline.ragged import Ragged, boundaries
from data_pipeline.sources import SourceConfig, Unit, read
from data_pipeline.sources.document import Document

PART_CHARACTERS = 4_000_000
"""Text of one part: small enough to share out evenly, large enough to be worth a task."""

GROUP_DOCUMENTS = 8
"""Pieces of documents in one group, at least; partners of next-sentence pairs are drawn from so many documents."""

LONGEST_CHARACTERS = PART_CHARACTERS // GROUP_DOCUMENTS
"""A longer document is kept in several pieces, so that the memory of no later step depends on the longest one."""
ENDS = ("\n\n", "\n", ". ", "\u3002", " ")
"""Where a document is cut, the first of them that is found in the last tenth of a piece."""

PARAGRAPH_END, LINE_END = "\n\n", "\n"
NEVER_REPEATED, CONTINUES, BLANK = 0, 1, 2
"""In place of the hash of a paragraph: a line that always stays; the rest of the paragraph before, where a piece of the
document ends inside of it; an empty line, of which one stays between others."""
OVERLAP = "overlap.npz"
"""File that the workers read the sequences of evaluation texts from."""


class Part(NamedTuple):
    """A file of pieces of documents, nearly always whole ones, and what choosing among all documents needs to know."""

    path: Path
    unit: str
    """Name of the unit of the source."""
    begins: np.ndarray
    """bool [pieces]: a document begins with the piece; another one goes on with the document before it, which may have
    begun in an earlier part of the unit."""
    fingerprints: np.ndarray
    """uint64 [pieces, 2]: of the text of the whole document."""
    characters: np.ndarray
    """int64 [pieces]."""
    paragraphs: np.ndarray
    """uint64 [paragraphs]: hash of each paragraph of each piece."""
    paragraph_characters: np.ndarray
    """int64 [paragraphs]: of each with its ``paragraph_end``."""
    paragraph_bounds: np.ndarray
    """int64 [pieces + 1]: where each piece starts in ``paragraphs``."""
    bands: np.ndarray
    """uint64 [pieces, BANDS]: what near duplicates of the whole document share; [pieces, 0] where they are not looked
    for."""

    paragraph_end: str = PARAGRAPH_END
    """What ``paragraphs`` end with: they are lines where those are looked at."""

    @property
    def pieces(self) -> int:
        return len(self.begins)

    @property
    def documents(self) -> int:
        """Those that begin here."""
        return int(self.begins.sum())

    def texts(self, keep: np.ndarray, paragraphs: np.ndarray | None = None) -> Ragged:
        """The texts of the pieces under ``keep`` (bool [pieces]), with only the ``paragraphs`` (bool, all) that stay:
        uint8 rows of UTF-8; those of one document end to end are its text."""
        with pa.memory_map(str(self.path)) as file:
            column = pa.ipc.open_file(file).read_all().column("text").chunk(0)
            _, offsets, values = column.buffers()
            bounds, content = np.frombuffer(offsets, np.int64), memoryview(values)
            each = [content[bounds[number] : bounds[number + 1]] for number in np.flatnonzero(keep)]
            if paragraphs is not None:
                rows = zip(each, np.flatnonzero(keep), strict=True)
                each = [self._staying(bytes(text), int(number), paragraphs) for text, number in rows]
            return Ragged.of_bytes(each)

    def _staying(self, text: bytes, number: int, paragraphs: np.ndarray) -> bytes:
        """What stays of the text of one piece."""
        first, last = self.paragraph_bounds[number : number + 2]
        end = self.paragraph_end.encode()
        *ended, rest = text.split(end)
        found = [paragraph + end for paragraph in ended] + ([rest] if rest else [])
        return b"".join(paragraph for paragraph, stays in zip(found, paragraphs[first:last], strict=True) if stays)

    def sources(self, keep: np.ndarray) -> list[str]:
        """File and place of the documents of the pieces under ``keep``."""
        with pa.memory_map(str(self.path)) as file:
            return pa.ipc.open_file(file).read_all().column("source").take(pa.array(np.flatnonzero(keep))).to_pylist()

    def read(self, keep: np.ndarray, paragraphs: np.ndarray | None = None) -> Iterator[Document]:
        """The pieces under ``keep`` one by one."""
        texts = self.texts(keep, paragraphs)
        for number, source in enumerate(self.sources(keep)):
            text = texts.values[texts.offsets[number] : texts.offsets[number + 1]]
            yield Document(text.tobytes().decode(), source)


class Wanted(NamedTuple):
    """What is worked out for each document, because the corpus configuration needs it."""

    paragraphs: bool = False
    bands: bool = False
    lines: int = 0
    """Hashes of lines of at least so many characters in place of paragraphs; 0 for none."""


class Reading(NamedTuple):
    """What came of one unit."""

    parts: list[Part]
    documents: int
    """Documents read, dropped ones too."""
    dropped: Counter[str]
    changed: Counter[str]
    """What was done to documents that stay."""
    lost: Counter[str] | None = None
    """Characters of dropped documents by reason."""


def read_unit(number: int, unit: Unit, source: SourceConfig, rules: CleanConfig, folder: Path) -> Reading:
    """Read and clean one unit of the source into parts of bounded size."""
    dropped: Counter[str] = Counter()
    changed: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    overlap = Overlap.load(folder / OVERLAP) if rules.evaluation_paths else None
    kept = clean(read(unit, source, dropped), rules, dropped, overlap, changed, lost)
    wanted = Wanted(rules.drop_repeated_paragraphs, rules.drop_near_duplicates, rules.drop_repeated_lines)
    parts = write_parts(kept, unit.name, folder / f"unit-{number:05d}", wanted, changed)
    return Reading(parts, sum(part.documents for part in parts) + dropped.total(), dropped, changed, lost)


class Piece(NamedTuple):
    """A document, or a stretch of a long one, with what is known of the whole."""

    text: str
    source: str
    begins: bool
    fingerprint: bytes
    bands: np.ndarray
    paragraphs: np.ndarray
    """uint64: hashes of its paragraphs."""
    paragraph_characters: np.ndarray
    """int64."""


def pieces(document: Document, wanted: Wanted) -> Iterator[Piece]:
    """A document in pieces of bounded length, end to end: a longer one is cut where a paragraph, a line, a sentence or
    at least a word ends."""
    text = document.text
    bounds = [0]
    while len(text) - bounds[-1] > LONGEST_CHARACTERS:
        bounds.append(_cut(text, bounds[-1]))
    found = bands(text) if wanted.bands else np.zeros(0, np.uint64)
    starts, hashes = _paragraphs(text, np.array(bounds), wanted)
    sizes = np.diff(starts, append=len(text))
    mark = fingerprint(text)
    for start, stop in pairwise([*bounds, len(text)]):
        inside = slice(*np.searchsorted(starts, (start, stop)))
        yield Piece(text[start:stop], document.source, start == 0, mark, found, hashes[inside], sizes[inside])


def _cut(text: str, start: int) -> int:
    """Where the piece that begins at ``start`` ends; the next one never begins with white space."""
    last = start + LONGEST_CHARACTERS
    found = (text.rfind(end, last - LONGEST_CHARACTERS // 10, last) + len(end) for end in ENDS)
    cut = next((place for place in found if place > start + len(ENDS[0])), last)
    while cut < len(text) and text[cut].isspace():
        cut += 1
    return cut


def write_parts(
    documents: Iterable[Document], unit: str, stem: Path, wanted: Wanted, changed: Counter[str] | None = None
) -> list[Part]:
    """Write documents, in order, into as many parts as their size asks for; ``changed`` counts those that are cut."""
    parts: list[Part] = []
    held: list[Piece] = []
    characters = 0
    for document in documents:
        if changed is not None and len(document.text) > LONGEST_CHARACTERS:
            changed["cut because of their length"] += 1
        for piece in pieces(document, wanted):
            held.append(piece)
            characters += len(piece.text)
            if characters >= PART_CHARACTERS:
                parts.append(_write_part(held, unit, stem, len(parts), wanted))
                held, characters = [], 0
    if held:
        parts.append(_write_part(held, unit, stem, len(parts), wanted))
    return parts


def whole_documents(
    parts: Sequence[Part], keeps: Sequence[np.ndarray], paragraphs: Sequence[np.ndarray | None]
) -> Iterator[Document]:
    """The documents of the pieces under ``keeps`` (bool [pieces] of each part), with the ``paragraphs`` that stay."""
    held: list[Document] = []
    for part, keep, staying in zip(parts, keeps, paragraphs, strict=True):
        for piece, begins in zip(part.read(keep, staying), part.begins[keep], strict=True):
            if begins and held:
                yield _joined(held)
                held = []
            held.append(piece)
    if held:
        yield _joined(held)


def _joined(held: list[Document]) -> Document:
    """The document of some pieces; the end of its last paragraph is there only where a later one does not stay."""
    return Document("".join(piece.text for piece in held).rstrip("\n"), held[0].source)


def _write_part(held: list[Piece], unit: str, stem: Path, number: int, wanted: Wanted) -> Part:
    path = stem.with_name(f"{stem.name}-{number:05d}.arrow")
    columns = {name: pa.array([getattr(piece, name) for piece in held], pa.large_string()) for name in Document._fields}
    write_arrow(path, pa.table(columns))
    return Part(
        path,
        unit,
        np.array([piece.begins for piece in held]),
        np.frombuffer(b"".join(piece.fingerprint for piece in held), "<u8").reshape(-1, 2),
        np.array([len(piece.text) for piece in held], np.int64),
        np.concatenate([piece.paragraphs for piece in held]),
        np.concatenate([piece.paragraph_characters for piece in held]),
        boundaries(np.array([len(piece.paragraphs) for piece in held], np.int64)),
        np.stack([piece.bands for piece in held]),
        LINE_END if wanted.lines else PARAGRAPH_END,
    )


def _paragraphs(text: str, cuts: np.ndarray, wanted: Wanted) -> tuple[np.ndarray, np.ndarray]:
    """Where the paragraphs or lines of a text start, as they are wanted, and the uint64 hash of each; one with ``cuts``
    in it starts again there."""
    if not (wanted.lines or wanted.paragraphs):
        return np.zeros(0, np.int64), np.zeros(0, np.uint64)
    end = LINE_END if wanted.lines else PARAGRAPH_END
    found = text.split(end)
    hashes = np.array([_hash(each, wanted.lines) for each in found], np.uint64)
    first = boundaries(np.array([len(each) + len(end) for each in found], np.int64))[:-1]
    starts = np.union1d(first, cuts)
    continuing = np.full(len(starts), CONTINUES, np.uint64)
    continuing[np.searchsorted(starts, first)] = hashes
    return starts, continuing


def _hash(paragraph: str, shortest: int) -> int:
    if shortest and len(paragraph) < shortest:
        return NEVER_REPEATED if paragraph else BLANK
    return int.from_bytes(hashlib.blake2b(paragraph.encode(), digest_size=8).digest(), "little")
