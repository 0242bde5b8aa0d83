"""Documents -> segments: which stretches of tokens make an example. Spans only, no token is copied here.

| kind           | an example                                                        | paper                    |
|----------------|-------------------------------------------------------------------|--------------------------|
| next_sentence  | two stretches; the second follows, or is from another document    | BERT, section 3.1        |
| sentence_order | two stretches that follow each other, or the same two swapped      | ALBERT, section 3.1      |
| full_sentences | one stretch of whole sentences                                    | RoBERTa, section 4.2     |
| contiguous     | one stretch of tokens, cut wherever it is full                    | GPT-2                    |
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple

import numpy as np
from pydantic import Field

from configs import Section

Draw = np.random.Generator


class SegmentConfig(Section):
    """How examples are cut from documents."""

    kind: Literal["next_sentence", "sentence_order", "full_sentences", "contiguous"] = "next_sentence"
    """Row of the table of segmentations."""
    sequence_length: int = Field(default=128, ge=8, le=65535)
    """Longest example, in tokens, special tokens included."""
    short_sequence_probability: float = Field(default=0.1, ge=0, le=1)
    """Share of examples that aim at a random shorter length (BERT's published code)."""
    dupe_factor: int = Field(default=1, gt=0)
    """How often the corpus is gone through, each time with new pairs and new masks (BERT's published code: 10)."""


class Sentences(NamedTuple):
    """The tokens of one part of the corpus, with two levels of boundaries."""

    ids: np.ndarray
    """[tokens] of all documents end to end."""
    sentences: np.ndarray
    """int64 [sentences + 1]: where each sentence starts in ``ids``."""
    documents: np.ndarray
    """int64 [documents + 1]: where each document starts in ``sentences``."""


class Example(NamedTuple):
    """Two spans of ``ids``; the second is empty (start == end) where the kind has one."""

    first_start: int
    first_end: int
    second_start: int
    second_end: int
    pair_label: int
    document: int


def segment(
    part: Sentences, config: SegmentConfig, draw: Draw, documents: Iterable[int] | None = None
) -> Iterator[Example]:
    """The examples of every document of ``part``, or of some; partners come from all of them."""
    for document in range(len(part.documents) - 1) if documents is None else documents:
        yield from KINDS[config.kind](part, document, config, draw)


def _target(config: SegmentConfig, room: int, draw: Draw) -> int:
    return int(draw.integers(2, room + 1)) if draw.random() < config.short_sequence_probability else room


def _chunks(part: Sentences, document: int, target: Callable[[], int]) -> Iterator[tuple[int, int]]:
    """Runs of whole sentences [first, last) that reach the target; ``target`` is asked anew for each run."""
    first, end = int(part.documents[document]), int(part.documents[document + 1])
    while first < end:
        last = int(np.searchsorted(part.sentences, part.sentences[first] + target(), side="left"))
        last = min(max(last, first + 1), end)
        yield first, last
        first = last


def _next_sentence(part: Sentences, document: int, config: SegmentConfig, draw: Draw) -> Iterator[Example]:
    room = config.sequence_length - 3
    bounds, others = part.sentences, len(part.documents) - 1
    first, end = int(part.documents[document]), int(part.documents[document + 1])
    while first < end:
        target = _target(config, room, draw)
        last = min(max(int(np.searchsorted(bounds, bounds[first] + target, side="left")), first + 1), end)
        middle = first + 1 if last - first < 3 else int(draw.integers(first + 1, last))
        lonely = last - first == 1
        if others > 1 and (lonely or draw.random() < 0.5):
            # Always another document, so that every label is true; the sentences not used come again.
            second = _elsewhere(part, document, target - int(bounds[middle] - bounds[first]), draw)
            yield _fit((bounds[first], bounds[middle]), second, 1, document, room, draw)
            first = middle
        else:
            if not lonely:
                spans = (bounds[first], bounds[middle]), (bounds[middle], bounds[last])
                yield _fit(*spans, 0, document, room, draw)
            first = last


def _elsewhere(part: Sentences, document: int, length: int, draw: Draw) -> tuple[int, int]:
    """A span of at least one sentence and about ``length`` tokens from a random place in another document."""
    other = int(draw.integers(len(part.documents) - 2))
    other += other >= document
    start, end = int(part.documents[other]), int(part.documents[other + 1])
    first = int(draw.integers(start, end))
    last = int(np.searchsorted(part.sentences, part.sentences[first] + max(1, length), side="left"))
    return int(part.sentences[first]), int(part.sentences[min(max(last, first + 1), end)])


def _sentence_order(part: Sentences, document: int, config: SegmentConfig, draw: Draw) -> Iterator[Example]:
    room = config.sequence_length - 3
    bounds = part.sentences
    for first, last in _chunks(part, document, lambda: _target(config, room, draw)):
        if last - first > 1:
            middle = int(draw.integers(first + 1, last))
            pair = _fit((bounds[first], bounds[middle]), (bounds[middle], bounds[last]), 0, document, room, draw)
            swap = draw.random() < 0.5
            yield Example(*pair[2:4], *pair[:2], 1, document) if swap else pair


def _full_sentences(part: Sentences, document: int, config: SegmentConfig, draw: Draw) -> Iterator[Example]:
    room = config.sequence_length - 2
    first, end = int(part.documents[document]), int(part.documents[document + 1])
    while first < end:
        start = int(part.sentences[first])
        last = int(np.searchsorted(part.sentences, start + _target(config, room, draw), side="right")) - 1
        last = min(max(last, first + 1), end)
        # Only a single sentence can be longer than the room; its end is left out.
        yield Example(start, min(int(part.sentences[last]), start + room), 0, 0, 0, document)
        first = last


def _contiguous(part: Sentences, document: int, config: SegmentConfig, draw: Draw) -> Iterator[Example]:
    room = config.sequence_length - 2
    start, end = (int(part.sentences[part.documents[document + offset]]) for offset in (0, 1))
    for first in range(start, end, room):
        yield Example(first, min(end, first + room), 0, 0, 0, document)


KINDS: dict[str, Callable[[Sentences, int, SegmentConfig, Draw], Iterator[Example]]] = {
    "next_sentence": _next_sentence,
    "sentence_order": _sentence_order,
    "full_sentences": _full_sentences,
    "contiguous": _contiguous,
}
PAIRS = ("next_sentence", "sentence_order")


def _fit(first: tuple[int, int], second: tuple[int, int], label: int, document: int, room: int, draw: Draw) -> Example:
    """Cut the longer span, token by token from a random end, until both fit (BERT's published code)."""
    spans = [[int(first[0]), int(first[1])], [int(second[0]), int(second[1])]]
    lengths = [end - start for start, end in spans]
    excess = max(0, sum(lengths) - room)
    longer = int(lengths[1] > lengths[0])
    # The longer one is cut down to the other, and from there on both in turn.
    alone = min(excess, abs(lengths[0] - lengths[1]))
    cuts = [0, 0]
    cuts[longer] = alone
    cuts[0] += (excess - alone + 1) // 2
    cuts[1] += (excess - alone) // 2
    for span, cut in zip(spans, cuts, strict=True):
        front = int(draw.binomial(cut, 0.5)) if cut else 0
        span[0] += front
        span[1] -= cut - front
    (first_start, first_end), (second_start, second_end) = spans
    return Example(first_start, first_end, second_start, second_end, label, document)
