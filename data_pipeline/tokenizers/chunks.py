"""Which stretches of a document a tokenizer is given, so that their ids end to end are those of the document.

Sentences are encoded for themselves, because segments begin and end with them. What stood between two of them, white
space or nothing, must not be lost or invented there:

| tokenizer                                   | given                                   | mark at the border      |
|---------------------------------------------|-----------------------------------------|-------------------------|
| sentencepiece that removes extra spaces     | the sentence                            | where white space stood |
| sentencepiece that keeps them, byte-level   | the white space before it, the sentence | none, it is in there    |
| WordPiece                                   | the sentence                            | none                    |

Only at the start of a document a tokenizer does what it does to every text. Where white space is at the end of words
(treat_whitespace_as_suffix), all of this is turned around.
"""

from typing import NamedTuple

import numpy as np

from data_pipeline.ragged import Ragged

NEWLINE = 10


class Joints(NamedTuple):
    """How a tokenizer treats the ends of a text."""

    marks: bool
    """Of its own accord it adds white space to the start of a text (to the end of it, with ``suffix``)."""
    keeps_spaces: bool
    """White space at the ends of a text is encoded as it is, and not removed."""
    keeps_newlines: bool
    """A newline is decoded as a newline."""
    suffix: bool = False
    """The mark of white space is at the end of a word."""
    cuts_at_spaces: bool = False
    """No piece reaches over white space, and white space leaves nothing but a mark."""


class Chunks(NamedTuple):
    """Stretches of text, in order."""

    spans: np.ndarray
    """int64 [chunks, 2]: first byte of each, and the one after the last."""
    marked: np.ndarray
    """bool [chunks]: the tokenizer adds white space to its start (to its end, with ``suffix``)."""
    counts: np.ndarray
    """int64 [documents]: chunks of each."""


def of_sentences(data: np.ndarray, documents: np.ndarray, sentences: Ragged, joints: Joints) -> Chunks:
    """A chunk for each sentence.

    Args:
        data: uint8 UTF-8 of all documents.
        documents: int64 [documents + 1]: where each starts.
        sentences: int64 [sentences, 2], a row of them for each document.
    """
    starts, stops = sentences.values.T
    first, last, before, after = _around(documents, sentences)
    if joints.suffix:
        spans = np.stack([np.where(first, before, starts), after], axis=1)
        border, gap, edge = last, after > stops, after - 1
    else:
        spans = np.stack([before, np.where(last, after, stops)], axis=1)
        border, gap, edge = first, starts > before, before
    if joints.keeps_spaces:
        gap &= False
    elif joints.keeps_newlines:
        gap[gap] = data[edge[gap]] != NEWLINE
    return Chunks(spans, np.where(border, joints.marks, gap), sentences.lengths)


def of_documents(documents: np.ndarray, sentences: Ragged, joints: Joints) -> Chunks:
    """As few chunks as give the ids of the whole documents; for rows that are cut anywhere.

    Args:
        documents, sentences: as in :func:`of_sentences`.
    """
    if not joints.cuts_at_spaces:
        full = sentences.lengths > 0
        spans = np.stack([documents[:-1], documents[1:]], axis=1)[full]
        return Chunks(spans, np.full(len(spans), joints.marks), full.astype(np.int64))
    # Short chunks are encoded faster, and white space is a border to every piece.
    starts, stops = sentences.values.T
    first, _, before, _ = _around(documents, sentences)
    numbers = np.flatnonzero(first | (starts > before))
    ends = stops[np.append(numbers[1:], len(starts)) - 1]
    owners = np.repeat(np.arange(len(sentences.lengths)), sentences.lengths)[numbers]
    counts = np.bincount(owners, minlength=len(sentences.lengths))
    return Chunks(np.stack([starts[numbers], ends], axis=1), np.where(first[numbers], joints.marks, True), counts)


def texts_at(data: np.ndarray, spans: np.ndarray) -> list[str]:
    """The stretches as they are."""
    content = data.tobytes()
    return [content[start:stop].decode("utf-8", "surrogatepass") for start, stop in spans.tolist()]


def _around(documents: np.ndarray, sentences: Ragged) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(bool: first of its document, bool: last of it, where the text before it ends, where the text after it starts) of
    each sentence; the ends of its document where there is none."""
    starts, stops = sentences.values.T
    full = sentences.lengths > 0
    firsts, lasts = sentences.offsets[:-1][full], sentences.offsets[1:][full] - 1
    first, last = np.zeros(len(starts), bool), np.zeros(len(starts), bool)
    first[firsts] = last[lasts] = True
    before, after = np.append(0, stops[:-1])[: len(starts)], np.append(starts[1:], 0)[: len(starts)]
    before[firsts], after[lasts] = documents[:-1][full], documents[1:][full]
    return first, last, before, after
