"""Documents -> segments: which stretches of tokens make an example. Spans only, no token is copied here.

| kind           | an example                                                        | paper                    |
|----------------|-------------------------------------------------------------------|--------------------------|
| next_sentence  | two stretches; the second follows, or is from another document    | BERT, section 3.1        |
| sentence_order | two stretches that follow each other, or the same two swapped      | ALBERT, section 3.1      |
| full_sentences | one stretch of whole sentences                                    | RoBERTa, section 4.2     |
| contiguous     | one stretch of tokens, cut wherever it is full                    | GPT-2                    |
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple

import numpy as np
from pydantic import Field

from configs import Section

DRAWS = 4096
"""Random numbers that are drawn together."""


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


class Draw:
    """Random numbers one by one, at the cost of a step of an iterator and not of a call into numpy."""

    def __init__(self, generator: np.random.Generator):
        self._generator = generator
        self._numbers = self._endless()

    def share(self) -> float:
        """Uniform in [0, 1)."""
        return next(self._numbers)

    def between(self, first: int, last: int) -> int:
        """Uniform among first ... last - 1; a 53-bit fraction is even enough for any number of tokens."""
        return first + int(next(self._numbers) * (last - first))

    def heads(self, tosses: int) -> int:
        """How many of so many fair tosses are heads."""
        return int(self._generator.binomial(tosses, 0.5)) if tosses else 0

    def _endless(self) -> Iterator[float]:
        while True:
            yield from self._generator.random(DRAWS).tolist()


class Bounds(NamedTuple):
    """The boundaries of :class:`Sentences` as lists, whose entries are reached faster one by one."""

    sentences: list[int]
    documents: list[int]


def segment(
    part: Sentences, config: SegmentConfig, generator: np.random.Generator, documents: Iterable[int] | None = None
) -> Iterator[Example]:
    """The examples of every document of ``part``, or of some; partners come from all of them."""
    bounds = Bounds(part.sentences.tolist(), part.documents.tolist())
    draw, cut = Draw(generator), KINDS[config.kind]
    for document in range(len(bounds.documents) - 1) if documents is None else documents:
        yield from cut(bounds, document, config, draw)


def _target(config: SegmentConfig, room: int, draw: Draw) -> int:
    return draw.between(2, room + 1) if draw.share() < config.short_sequence_probability else room


def _reaching(sentences: list[int], first: int, end: int, length: int) -> int:
    """One past the last of the sentences that reach ``length`` tokens from ``first`` on; at least one of them."""
    return bisect_left(sentences, sentences[first] + length, first + 1, end)


def _chunks(bounds: Bounds, document: int, target: Callable[[], int]) -> Iterator[tuple[int, int]]:
    """Runs of whole sentences [first, last) that reach the target; ``target`` is asked anew for each run."""
    first, end = bounds.documents[document : document + 2]
    while first < end:
        last = _reaching(bounds.sentences, first, end, target())
        yield first, last
        first = last


def _next_sentence(bounds: Bounds, document: int, config: SegmentConfig, draw: Draw) -> Iterator[Example]:
    room = config.sequence_length - 3
    sentences, others = bounds.sentences, len(bounds.documents) - 1
    first, end = bounds.documents[document : document + 2]
    while first < end:
        target = _target(config, room, draw)
        last = _reaching(sentences, first, end, target)
        middle = first + 1 if last - first < 3 else draw.between(first + 1, last)
        lonely = last - first == 1
        if others > 1 and (lonely or draw.share() < 0.5):
            # Always another document, so that every label is true; the sentences not used come again.
            second = _elsewhere(bounds, document, target - (sentences[middle] - sentences[first]), draw)
            yield _fit((sentences[first], sentences[middle]), second, 1, document, room, draw)
            first = middle
        else:
            if not lonely:
                spans = (sentences[first], sentences[middle]), (sentences[middle], sentences[last])
                yield _fit(*spans, 0, document, room, draw)
            first = last


def _elsewhere(bounds: Bounds, document: int, length: int, draw: Draw) -> tuple[int, int]:
    """A span of at least one sentence and about ``length`` tokens from a random place in another document."""
    other = draw.between(0, len(bounds.documents) - 2)
    other += other >= document
    start, end = bounds.documents[other : other + 2]
    first = draw.between(start, end)
    return bounds.sentences[first], bounds.sentences[_reaching(bounds.sentences, first, end, length)]


def _sentence_order(bounds: Bounds, document: int, config: SegmentConfig, draw: Draw) -> Iterator[Example]:
    room = config.sequence_length - 3
    sentences = bounds.sentences
    for first, last in _chunks(bounds, document, lambda: _target(config, room, draw)):
        if last - first > 1:
            middle = draw.between(first + 1, last)
            spans = (sentences[first], sentences[middle]), (sentences[middle], sentences[last])
            pair = _fit(*spans, 0, document, room, draw)
            swap = draw.share() < 0.5
            yield Example(*pair[2:4], *pair[:2], 1, document) if swap else pair


def _full_sentences(bounds: Bounds, document: int, config: SegmentConfig, draw: Draw) -> Iterator[Example]:
    room = config.sequence_length - 2
    first, end = bounds.documents[document : document + 2]
    while first < end:
        start = bounds.sentences[first]
        last = bisect_right(bounds.sentences, start + _target(config, room, draw), first + 1, end + 1) - 1
        last = max(last, first + 1)
        # Only a single sentence can be longer than the room; its end is left out.
        yield Example(start, min(bounds.sentences[last], start + room), 0, 0, 0, document)
        first = last


def _contiguous(bounds: Bounds, document: int, config: SegmentConfig, draw: Draw) -> Iterator[Example]:
    room = config.sequence_length - 2
    start, end = (bounds.sentences[place] for place in bounds.documents[document : document + 2])
    for first in range(start, end, room):
        yield Example(first, min(end, first + room), 0, 0, 0, document)


KINDS: dict[str, Callable[[Bounds, int, SegmentConfig, Draw], Iterator[Example]]] = {
    "next_sentence": _next_sentence,
    "sentence_order": _sentence_order,
    "full_sentences": _full_sentences,
    "contiguous": _contiguous,
}
PAIRS = ("next_sentence", "sentence_order")


def _fit(first: tuple[int, int], second: tuple[int, int], label: int, document: int, room: int, draw: Draw) -> Example:
    """Cut the longer span, token by token from a random end, until both fit (BERT's published code)."""
    lengths = first[1] - first[0], second[1] - second[0]
    excess = max(0, lengths[0] + lengths[1] - room)
    # The longer one is cut down to the other, and from there on both in turn.
    alone = min(excess, abs(lengths[0] - lengths[1]))
    cuts = [(excess - alone + 1) // 2, (excess - alone) // 2]
    cuts[lengths[1] > lengths[0]] += alone
    fronts = draw.heads(cuts[0]), draw.heads(cuts[1])
    return Example(
        first[0] + fronts[0],
        first[1] - (cuts[0] - fronts[0]),
        second[0] + fronts[1],
        second[1] - (cuts[1] - fronts[1]),
        label,
        document,
    )
