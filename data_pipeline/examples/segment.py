"""Documents -> segments: which stretches of tokens make an example. Spans only, no token is copied here.

| kind           | an example                                                        | paper                    |
|----------------|-------------------------------------------------------------------|--------------------------|
| next_sentence  | two stretches; the second follows, or is from another document    | BERT, section 3.1        |
| sentence_order | two stretches that follow each other, or the same two swapped      | ALBERT, section 3.1      |
| full_sentences | one stretch of whole sentences                                    | RoBERTa, section 4.2     |
| contiguous     | one stretch of tokens, cut wherever it is full                    | GPT-2                    |

Rows are whole sentences that fit, two at least for a pair, and no token of a document is left out; BERT's published
code takes one sentence too many and cuts it off. ``long_sentences.py`` has cut what is longer than a row before.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from pydantic import Field

from sesame.configs import Section
from sesame.data_pipeline.compiled import segmenting

KINDS: dict[str, Callable[..., np.ndarray]] = {
    "next_sentence": segmenting.next_sentence,
    "sentence_order": segmenting.sentence_order,
    "full_sentences": segmenting.full_sentences,
    "contiguous": segmenting.contiguous,
}
PAIRS = ("next_sentence", "sentence_order")


class SegmentConfig(Section):
    """How examples are cut from documents."""

    kind: Literal["next_sentence", "sentence_order", "full_sentences", "contiguous"] = "next_sentence"
    """Row of the table of segmentations."""
    sequence_length: int = Field(default=128, ge=8, le=65535)
    """Longest example, in tokens, special tokens included."""
    short_sequence_probability: float = Field(default=0.1, ge=0, le=1)
    """Share of examples that aim at a random shorter length (BERT's published code)."""
    dupe_factor: int = Field(default=1, gt=0)
    """Passes over the corpus, each with new pairs and new masks (BERT's published code: 10)."""


class Sentences(NamedTuple):
    """The tokens of one part of the corpus, with two levels of boundaries."""

    ids: np.ndarray
    """[tokens] of all documents end to end."""
    sentences: np.ndarray
    """int64 [sentences + 1]: where each sentence starts in ``ids``."""
    documents: np.ndarray
    """int64 [documents + 1]: where each document starts in ``sentences``; each has at least one."""


class Example(NamedTuple):
    """Two spans of ``ids``; the second is empty (start == end) where the kind has one."""

    first_start: int
    first_end: int
    second_start: int
    second_end: int
    pair_label: int
    document: int


def tokens_in_no_row(part: Sentences, spans: np.ndarray, documents: np.ndarray) -> int:
    """How many tokens of ``documents`` are in none of the examples ``spans`` of them."""
    starts = part.sentences[part.documents]
    owner, second = spans[:, 5], spans[:, 2]
    own = (starts[owner] <= second) & (second < starts[owner + 1])
    begins, ends = (np.concatenate([spans[:, side], spans[own, side + 2]]) for side in (0, 1))
    order = np.argsort(begins, kind="stable")
    begins, ends = begins[order], np.maximum.accumulate(ends[order])
    # What each span adds to those before it, which begin no later and may reach further.
    covered = np.maximum(0, ends - np.maximum(begins, np.concatenate([[0], ends[:-1]])))
    return int((starts[documents + 1] - starts[documents]).sum()) - int(covered.sum())


def longest_sentence(config: SegmentConfig) -> int | None:
    """Tokens of the longest sentence that is not cut: all of a row, or half of a pair, so that each has two; None where
    rows take no notice of sentences."""
    if config.kind == "contiguous":
        return None
    return max(1, room(config) // (2 if config.kind in PAIRS else 1))


def room(config: SegmentConfig) -> int:
    """Tokens of text in a row."""
    return config.sequence_length - (3 if config.kind in PAIRS else 2)


def segment(
    part: Sentences,
    config: SegmentConfig,
    draw: np.random.Generator,
    documents: np.ndarray | None = None,
    texts: np.ndarray | None = None,
) -> np.ndarray:
    """The examples of every document of ``part``, or of some; partners come from all of them.

    Args:
        documents: int64 numbers of documents.
        texts: int64 [documents], equal for documents of equal text, which are no partners; None where all differ.

    Returns:
        int64 [examples, 6]: the fields of :class:`Example`.
    """
    sentences, bounds = part.sentences, part.documents
    assert np.all(np.diff(bounds) > 0), "a document without sentences"
    taken = np.arange(len(bounds) - 1) if documents is None else documents
    seed = draw.integers(2**64, dtype=np.uint64)
    partners: tuple[np.ndarray, ...] = ()
    if config.kind == "next_sentence":
        texts = np.arange(len(bounds) - 1) if texts is None else texts
        partners = texts, len(texts) - np.bincount(texts)[texts]
    return KINDS[config.kind](
        sentences, bounds, taken, room(config), config.short_sequence_probability, seed, *partners
    )
