"""Parts: the cleaned corpus on disk, in files small enough for one worker, with what the whole must know of each."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data_pipeline.balance import GROUP_DOCUMENTS
from data_pipeline.clean import CleanConfig, clean, fingerprint
from data_pipeline.columns import Ragged, boundaries, write_arrow
from data_pipeline.document import Document
from data_pipeline.near_duplicates import bands
from data_pipeline.overlap import Overlap
from data_pipeline.sources import SourceConfig, Unit, read

PART_CHARACTERS = 4_000_000
"""Text of one part: small enough to share out evenly, large enough to be worth a task."""

LONGEST_CHARACTERS = PART_CHARACTERS // GROUP_DOCUMENTS
"""A longer document goes on as several, so that the memory of no later step depends on the longest one."""
ENDS = ("\n\n", "\n", ". ", "\u3002", " ")
"""Where a document is cut, the first of them that is found in the last tenth of a piece."""

PARAGRAPH_END = "\n\n"
GAP = re.compile(rb"\n{3,}")
"""What lines that do not stay leave behind."""
NEVER_REPEATED = 0
"""In place of the hash of a line that always stays."""
OVERLAP = "overlap.npz"
"""File that the workers read the sequences of evaluation texts from."""


class Part(NamedTuple):
    """A file of documents, and what choosing among all documents needs to know of them."""

    path: Path
    unit: str
    """Name of the unit of the source."""
    fingerprints: np.ndarray
    """uint64 [documents, 2]: of the text of each document."""
    characters: np.ndarray
    """int64 [documents]."""
    paragraphs: np.ndarray
    """uint64 [paragraphs]: hash of each paragraph of each document."""
    paragraph_bounds: np.ndarray
    """int64 [documents + 1]: where each document starts in ``paragraphs``."""
    bands: np.ndarray
    """uint64 [documents, BANDS]: what near duplicates share; [documents, 0] where they are not looked for."""

    piece_end: str = PARAGRAPH_END
    """What ``paragraphs`` end with: they are lines where those are looked at."""

    @property
    def documents(self) -> int:
        return len(self.fingerprints)

    def texts(self, keep: np.ndarray, paragraphs: np.ndarray | None = None) -> Ragged:
        """The texts of the documents under ``keep`` (bool [documents]), with only the ``paragraphs`` (bool, all) that
        stay: uint8 rows of UTF-8."""
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
        """What stays of the text of one document."""
        first, last = self.paragraph_bounds[number : number + 2]
        end = self.piece_end.encode()
        pieces = zip(text.split(end), paragraphs[first:last], strict=True)
        return GAP.sub(PARAGRAPH_END.encode(), end.join(piece for piece, stays in pieces if stays)).strip(b"\n")

    def sources(self, keep: np.ndarray) -> list[str]:
        """File and place of the documents under ``keep``."""
        with pa.memory_map(str(self.path)) as file:
            return pa.ipc.open_file(file).read_all().column("source").take(pa.array(np.flatnonzero(keep))).to_pylist()

    def read(self, keep: np.ndarray, paragraphs: np.ndarray | None = None) -> Iterator[Document]:
        """The documents under ``keep`` one by one."""
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


def read_unit(number: int, unit: Unit, source: SourceConfig, rules: CleanConfig, folder: Path) -> Reading:
    """Read and clean one unit of the source into parts of bounded size."""
    dropped: Counter[str] = Counter()
    changed: Counter[str] = Counter()
    overlap = Overlap.load(folder / OVERLAP) if rules.evaluation_paths else None
    kept = clean(read(unit, source, dropped), rules, dropped, overlap, changed)
    wanted = Wanted(rules.drop_repeated_paragraphs, rules.drop_near_duplicates, rules.drop_repeated_lines)
    parts = write_parts(pieces(kept, changed), unit.name, folder / f"unit-{number:05d}", wanted)
    return Reading(parts, sum(part.documents for part in parts) + dropped.total(), dropped, changed)


def pieces(documents: Iterator[Document], changed: Counter[str]) -> Iterator[Document]:
    """Documents of bounded length: longer ones are cut, where a paragraph, line, sentence or at least a word ends."""
    for document in documents:
        text, start = document.text, 0
        if len(text) > LONGEST_CHARACTERS:
            changed["cut because of their length"] += 1
        while len(text) - start > LONGEST_CHARACTERS:
            end = _cut(text, start)
            yield Document(text[start:end].strip(), f"{document.source}, character {start}")
            start = end
        yield Document(text[start:].strip(), f"{document.source}, character {start}") if start else document


def _cut(text: str, start: int) -> int:
    """Where the piece that begins at ``start`` ends."""
    last = start + LONGEST_CHARACTERS
    found = (text.rfind(end, last - LONGEST_CHARACTERS // 10, last) + len(end) for end in ENDS)
    return next((place for place in found if place > start + len(ENDS[0])), last)


def write_parts(documents: Iterator[Document], unit: str, stem: Path, wanted: Wanted) -> list[Part]:
    """Write documents, in order, into as many parts as their size asks for."""
    parts: list[Part] = []
    held: list[Document] = []
    characters = 0
    for document in documents:
        held.append(document)
        characters += len(document.text)
        if characters >= PART_CHARACTERS:
            parts.append(_write_part(held, unit, stem, len(parts), wanted))
            held, characters = [], 0
    if held:
        parts.append(_write_part(held, unit, stem, len(parts), wanted))
    return parts


def _write_part(held: list[Document], unit: str, stem: Path, number: int, wanted: Wanted) -> Part:
    path = stem.with_name(f"{stem.name}-{number:05d}.arrow")
    texts = [document.text for document in held]
    sources = [document.source for document in held]
    table = pa.table({"text": pa.array(texts, pa.large_string()), "source": pa.array(sources, pa.large_string())})
    write_arrow(path, table)
    hashes = [_hashes(text, wanted) for text in texts]
    return Part(
        path,
        unit,
        np.frombuffer(b"".join(map(fingerprint, texts)), "<u8").reshape(-1, 2),
        np.array([len(text) for text in texts], np.int64),
        np.array([each for row in hashes for each in row], np.uint64),
        boundaries(np.array([len(row) for row in hashes], np.int64)),
        np.stack([bands(text) for text in texts]) if wanted.bands else np.zeros((len(texts), 0), np.uint64),
        "\n" if wanted.lines else PARAGRAPH_END,
    )


def _hashes(text: str, wanted: Wanted) -> list[int]:
    """The hashes of the paragraphs or the lines of a text, as they are wanted."""
    if wanted.lines:
        return [_hash(line) if len(line) >= wanted.lines else NEVER_REPEATED for line in text.split("\n")]
    return [_hash(piece) for piece in text.split(PARAGRAPH_END)] if wanted.paragraphs else []


def _hash(paragraph: str) -> int:
    return int.from_bytes(hashlib.blake2b(paragraph.encode(), digest_size=8).digest(), "little")
