"""For every kind of tokenizer and script, the concatenated ids of neighboring sentences are those that the tokenizer's
own library gives the whole text, and decode to it."""

import random
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest

from sesame.data_pipeline.examples.sentences import find_sentences
from sesame.data_pipeline.ragged import Ragged
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from tests.data_pipeline.given_texts import random_texts
from tests.data_pipeline.tokenizers.library_kinds import (
    SENTENCEPIECE,
    VOCABULARY_KINDS,
    Kind,
    clean,
    sentencepiece_kind,
    vocabulary_kind,
)


@pytest.fixture(scope="module")
def training() -> list[str]:
    return [line for text in clean(random_texts(500, 1)) for line in text.split("\n") if line]


@pytest.fixture(scope="module", params=[*SENTENCEPIECE, *VOCABULARY_KINDS])
def kind(request: pytest.FixtureRequest, training: list[str], tmp_path_factory: pytest.TempPathFactory) -> Kind:
    if request.param in SENTENCEPIECE:
        return sentencepiece_kind(SENTENCEPIECE[request.param], training)
    return vocabulary_kind(request.param, tmp_path_factory.mktemp("vocabulary"), training)


class Encoded(NamedTuple):
    """One document."""

    text: str
    sentences: list[tuple[int, int]]
    """Their spans, in characters."""
    ids: list[list[int]]
    """Of each sentence."""
    whole: list[int]
    """Of the document encoded as a whole."""


def encoded(tokenizer: Tokenizer, texts: list[str]) -> Iterator[Encoded]:
    """Encode all documents as one group of the pipeline."""
    rows = Ragged.of_bytes(text.encode() for text in texts)
    found = find_sentences(rows)
    ids, counts = tokenizer.encode_documents(rows.values, rows.offsets, found)
    assert np.array_equal(counts, found.lengths)
    wholes, pieces = tokenizer.encode_documents(rows.values, rows.offsets, found, whole=True)
    whole_at = np.concatenate([[0], np.cumsum(pieces)])
    for number, text in enumerate(texts):
        data, places = text.encode(), found.values[found.offsets[number] : found.offsets[number + 1]]
        spans = [
            (len(data[: start - rows.offsets[number]].decode()), len(data[: stop - rows.offsets[number]].decode()))
            for start, stop in places.tolist()
        ]
        each = range(found.offsets[number], found.offsets[number + 1])
        first, last = wholes.offsets[whole_at[[number, number + 1]]]
        yield Encoded(
            text,
            spans,
            [ids.values[ids.offsets[row] : ids.offsets[row + 1]].tolist() for row in each],
            wholes.values[first:last].tolist(),
        )


def crosses(kind: Kind, found: Encoded) -> bool:
    """Return whether a token of the library extends over two sentences."""
    spans = kind.spans(found.text)
    inner = {place for start, stop in spans for place in range(start + 1, stop)}
    return any(inner.issuperset(kind.cut(one[1], other[0])) for one, other in pairwise(found.sentences))


def same(kind: Kind, ours: list[int], library: list[int]) -> bool:
    """Return whether ids are equal, or two segmentations of a unigram model whose scores differ by rounding only: the
    library chooses between those by sums over the whole text that it encodes."""
    if ours == library or kind.scores is None:
        return ours == library
    pair = [sum(kind.scores[token] for token in ids) for ids in (ours, library)]
    return abs(pair[0] - pair[1]) < 1e-5 * abs(pair[1]) and kind.tokenizer.decode(ours) == kind.tokenizer.decode(
        library
    )


def check(kind: Kind, texts: list[str]) -> int:
    """Compare each document with the library and return those whose sentences have the library's ids of the whole."""
    draw, alike = random.Random(3), 0
    for found in encoded(kind.tokenizer, texts):
        text, library = found.text, kind.ids(found.text)
        covered = "".join(text[start:stop] for start, stop in found.sentences)
        assert covered.split() and "".join(covered.split()) == "".join(text.split()), text
        assert same(kind, found.whole, library), text
        together = [token for ids in found.ids for token in ids]
        if not crosses(kind, found):
            assert same(kind, together, library), text
            alike += 1
        first = draw.randrange(len(found.ids))
        last = draw.randrange(first, len(found.ids))
        span = text[found.sentences[first][0] : found.sentences[last][1]]
        row = [token for ids in found.ids[first : last + 1] for token in ids]
        decoded, expected = kind.tokenizer.decode(row).strip(), kind.shown(span)
        if kind.loses_space:
            decoded, expected = ("".join(each.split()) for each in (decoded, expected))
        assert decoded == expected, (text, span)
    return alike


def test_random_texts_keep_their_ids_and_their_text(kind: Kind) -> None:
    texts = clean(random_texts(200, 2))
    assert check(kind, texts) > 0.5 * len(texts)


@pytest.mark.slow
def test_ten_thousand_random_texts_keep_their_ids_and_their_text(kind: Kind) -> None:
    texts = clean(random_texts(10_000, 4))
    assert check(kind, texts) > 0.5 * len(texts)
