"""Chunks of a document that are encoded on their own, whose concatenated ids are those of the whole document.

Segments begin and end at sentences, so sentences are encoded one by one. White space between two of them must neither
be lost nor added:

| tokenizer                                   | chunk                                   | space added to the chunk |
|---------------------------------------------|-----------------------------------------|--------------------------|
| sentencepiece that removes extra spaces     | the sentence                            | where white space stood  |
| sentencepiece that keeps them, byte-level   | the white space before it, the sentence | no, the chunk has it     |
| WordPiece                                   | the sentence                            | no                       |

Only the first chunk of a document gets what the tokenizer adds to every text. Tokenizers that mark the end of words
(treat_whitespace_as_suffix) have all of this mirrored.
"""

from typing import NamedTuple

import numpy as np

from sesame.data_pipeline.ragged import Ragged

NEWLINE = 10


class SpaceRules(NamedTuple):
    """How a tokenizer encodes white space at the ends of a text."""

    adds_space: bool
    """By default it adds white space to the start of a text (to the end of it, with ``suffix``)."""
    keeps_spaces: bool
    """White space at the ends of a text is encoded and not removed."""
    keeps_newlines: bool
    """A newline is decoded as a newline."""
    suffix: bool = False
    """White space is part of the piece before it."""
    splits_at_spaces: bool = False
    """No piece extends over white space, and white space is encoded as a mark only."""


class Chunks(NamedTuple):
    """Spans of text, in order."""

    spans: np.ndarray
    """int64 [chunks, 2]: first byte of each, and the one after the last."""
    marked: np.ndarray
    """bool [chunks]: the tokenizer adds white space to its start (to its end, with ``suffix``)."""
    counts: np.ndarray
    """int64 [documents]: chunks of each."""


def sentence_chunks(data: np.ndarray, documents: np.ndarray, sentences: Ragged, rules: SpaceRules) -> Chunks:
    """Return a chunk for each sentence.

    Args:
        data: uint8 UTF-8 of all documents.
        documents: int64 [documents + 1]: where each starts.
        sentences: int64 [sentences, 2], a row of them for each document.
        rules: of the tokenizer.
    """
    starts, stops = sentences.values.T
    is_first, is_last, gap_start, gap_stop = _neighbors(documents, sentences)
    if rules.suffix:
        spans = np.stack([np.where(is_first, gap_start, starts), gap_stop], axis=1)
        at_end, has_gap, gap_byte = is_last, gap_stop > stops, gap_stop - 1
    else:
        spans = np.stack([gap_start, np.where(is_last, gap_stop, stops)], axis=1)
        at_end, has_gap, gap_byte = is_first, starts > gap_start, gap_start
    if rules.keeps_spaces:
        has_gap &= False
    elif rules.keeps_newlines:
        has_gap[has_gap] = data[gap_byte[has_gap]] != NEWLINE
    return Chunks(spans, np.where(at_end, rules.adds_space, has_gap), sentences.lengths)


def document_chunks(documents: np.ndarray, sentences: Ragged, rules: SpaceRules) -> Chunks:
    """Return as few chunks as give the ids of whole documents, for rows that may be cut anywhere.

    Args:
        documents, sentences, rules: as in :func:`sentence_chunks`.
    """
    if not rules.splits_at_spaces:
        has_text = sentences.lengths > 0
        spans = np.stack([documents[:-1], documents[1:]], axis=1)[has_text]
        return Chunks(spans, np.full(len(spans), rules.adds_space), has_text.astype(np.int64))
    # Short chunks are encoded faster, and no piece extends over white space.
    starts, stops = sentences.values.T
    is_first, _, gap_start, _ = _neighbors(documents, sentences)
    numbers = np.flatnonzero(is_first | (starts > gap_start))
    ends = stops[np.append(numbers[1:], len(starts)) - 1]
    owners = np.repeat(np.arange(len(sentences.lengths)), sentences.lengths)[numbers]
    counts = np.bincount(owners, minlength=len(sentences.lengths))
    marked = np.where(is_first[numbers], rules.adds_space, True)
    return Chunks(np.stack([starts[numbers], ends], axis=1), marked, counts)


def texts_at(data: np.ndarray, spans: np.ndarray) -> list[str]:
    """Return the text of each span of UTF-8 bytes."""
    content = data.tobytes()
    return [content[start:stop].decode("utf-8", "surrogatepass") for start, stop in spans.tolist()]


def _neighbors(documents: np.ndarray, sentences: Ragged) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of each sentence: (bool: first of its document, bool: last of it, end of the previous sentence, start of the
    next); the ends of its document where there is none."""
    starts, stops = sentences.values.T
    has_text = sentences.lengths > 0
    firsts, lasts = sentences.offsets[:-1][has_text], sentences.offsets[1:][has_text] - 1
    is_first, is_last = np.zeros(len(starts), bool), np.zeros(len(starts), bool)
    is_first[firsts] = is_last[lasts] = True
    before, after = np.append(0, stops[:-1])[: len(starts)], np.append(starts[1:], 0)[: len(starts)]
    before[firsts], after[lasts] = documents[:-1][has_text], documents[1:][has_text]
    return is_first, is_last, before, after
