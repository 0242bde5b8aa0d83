"""Pieces: documents, or parts of long documents, with the features that deduplication needs."""

import hashlib
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from sesame.data_pipeline.cleaning.clean import fingerprint
from sesame.data_pipeline.cleaning.near_duplicates import bands
from sesame.data_pipeline.ragged import boundaries
from sesame.data_pipeline.sources.document import Document

PART_CHARACTERS = 4_000_000
"""Characters of one part: small enough to balance the load of workers, large enough for a task."""

GROUP_DOCUMENTS = 8
"""Minimum of pieces in a group, within which the random segments of next-sentence pairs are drawn."""

LONGEST_CHARACTERS = PART_CHARACTERS // GROUP_DOCUMENTS
"""Longer documents are split, so that the memory of later steps does not depend on the longest one."""
SEPARATORS = ("\n\n", "\n", ". ", "\u3002", " ")
"""A document is split after the first of these that is found in the last tenth of a piece."""

PARAGRAPH_END, LINE_END = "\n\n", "\n"
NEVER_REPEATED, CONTINUES, BLANK = 0, 1, 2
"""In place of the hash of a paragraph: a line too short to be dropped; the rest of a paragraph that begins in the piece
before; an empty line, of which one stays between others."""


class Features(NamedTuple):
    """Which features of documents to compute, by the configuration."""

    paragraphs: bool = False
    bands: bool = False
    lines: int = 0
    """Hashes of lines of at least this many characters, instead of paragraphs; 0 for none."""


NO_HASHES, NO_SIZES = np.zeros(0, np.uint64), np.zeros(0, np.int64)
"""Of a document whose paragraphs are not asked for."""


class Piece(NamedTuple):
    """A document, or a part of a long one, with features of the whole document."""

    text: str
    source: str
    begins: bool
    """The first piece of its document."""
    fingerprint: bytes
    """Of the whole document."""
    bands: np.ndarray
    """uint64 [BANDS], or [0] if not wanted: of the whole document."""
    paragraphs: np.ndarray
    """uint64 [paragraphs]: hashes of the paragraphs of the piece."""
    paragraph_characters: np.ndarray
    """int64 [paragraphs]: characters, including the separator."""


def split_document(document: Document, features: Features) -> Iterator[Piece]:
    """Split a document into pieces of bounded length, at the end of a paragraph, line, sentence or word if possible."""
    text = document.text
    bounds = [0]
    while len(text) - bounds[-1] > LONGEST_CHARACTERS:
        bounds.append(_piece_end(text, bounds[-1]))
    document_bands = bands(text) if features.bands else np.zeros(0, np.uint64)
    document_hash = fingerprint(text)
    if len(bounds) == 1 and not (features.lines or features.paragraphs):
        yield Piece(text, document.source, True, document_hash, document_bands, NO_HASHES, NO_SIZES)
        return
    starts, hashes = _paragraphs(text, np.array(bounds), features)
    sizes = np.diff(starts, append=len(text))
    for start, stop in pairwise([*bounds, len(text)]):
        own = slice(*np.searchsorted(starts, (start, stop)))
        yield Piece(
            text[start:stop], document.source, start == 0, document_hash, document_bands, hashes[own], sizes[own]
        )


def _piece_end(text: str, start: int) -> int:
    """End of the piece that begins at ``start``, such that the next one does not begin with white space."""
    last = start + LONGEST_CHARACTERS
    ends = (text.rfind(each, last - LONGEST_CHARACTERS // 10, last) + len(each) for each in SEPARATORS)
    end = next((end for end in ends if end > start + len(SEPARATORS[0])), last)
    while end < len(text) and text[end].isspace():
        end += 1
    return end


def _paragraphs(text: str, bounds: np.ndarray, features: Features) -> tuple[np.ndarray, np.ndarray]:
    """(int64 starts, uint64 hashes) of the paragraphs or lines of a text; they start anew at ``bounds`` of pieces."""
    if not (features.lines or features.paragraphs):
        return np.zeros(0, np.int64), np.zeros(0, np.uint64)
    end = LINE_END if features.lines else PARAGRAPH_END
    paragraphs = text.split(end)
    first = boundaries(np.array([len(each) + len(end) for each in paragraphs], np.int64))[:-1]
    starts = np.union1d(first, bounds)
    hashes = np.full(len(starts), CONTINUES, np.uint64)
    hashes[np.searchsorted(starts, first)] = np.array([_hash(each, features.lines) for each in paragraphs], np.uint64)
    return starts, hashes


def _hash(paragraph: str, shortest: int) -> int:
    if shortest and len(paragraph) < shortest:
        return NEVER_REPEATED if paragraph else BLANK
    return int.from_bytes(hashlib.blake2b(paragraph.encode(), digest_size=8).digest(), "little")
