"""Segments: what pairs are made of, and that their labels are true."""

import numpy as np
import pytest

from data_pipeline.columns import boundaries
from data_pipeline.examples import laid_out
from data_pipeline.segment import KINDS, Example, SegmentConfig, Sentences, segment
from data_pipeline.tokenizer import Special

LENGTH = 64


def part(documents: int = 30, longest: int = 25, seed: int = 0) -> Sentences:
    """Documents whose tokens are 0, 1, 2 ... over the whole part, so that every id says where it is from."""
    draw = np.random.default_rng(seed)
    per_document = draw.integers(1, 40, documents)
    lengths = draw.integers(1, longest, per_document.sum())
    return Sentences(np.arange(lengths.sum()), boundaries(lengths), boundaries(per_document))


def made(kind: str, text: Sentences | None = None, **more: object) -> tuple[Sentences, list[Example]]:
    text = text or part()
    config = SegmentConfig.model_validate({"kind": kind, "sequence_length": LENGTH, **more})
    return text, list(segment(text, config, np.random.Generator(np.random.PCG64DXSM(5))))


def owner(text: Sentences, token: int) -> int:
    """The document that a token is from."""
    return int(np.searchsorted(text.sentences[text.documents], token, side="right")) - 1


@pytest.mark.parametrize("kind", KINDS)
def test_spans_lie_in_one_document_and_fit(kind: str) -> None:
    text, examples = made(kind)
    assert len(examples) > 100
    for found in examples:
        first, second = found.first_end - found.first_start, found.second_end - found.second_start
        assert first > 0 and second >= 0
        assert first + second + (3 if second else 2) <= LENGTH
        assert owner(text, found.first_start) == owner(text, found.first_end - 1) == found.document or (
            kind == "sentence_order" and found.pair_label
        )
        if second:
            assert owner(text, found.second_start) == owner(text, found.second_end - 1)


def test_next_sentence_labels_are_true() -> None:
    """Never a "random" sentence from the same document, nor one called next that is not."""
    text, examples = made("next_sentence")
    assert {found.pair_label for found in examples} == {0, 1}
    for found in examples:
        same = owner(text, found.second_start) == found.document
        assert same == (found.pair_label == 0)
        if same:
            gap = found.second_start - found.first_end
            assert 0 <= gap < LENGTH, "only what was cut away lies between"


def test_about_half_of_the_pairs_are_random() -> None:
    _, examples = made("next_sentence", part(documents=1000, longest=12))
    # Half of them, and a sentence that is left alone at the end of its document always (here one pair in ten).
    assert np.mean([found.pair_label for found in examples]) == pytest.approx(0.55, abs=0.025)


def test_a_single_document_gives_true_pairs_only() -> None:
    _, examples = made("next_sentence", part(documents=1, seed=3))
    assert examples
    assert {found.pair_label for found in examples} == {0}


def test_sentence_order_swaps_neighbours() -> None:
    text, examples = made("sentence_order")
    assert {found.pair_label for found in examples} == {0, 1}
    for found in examples:
        assert owner(text, found.first_start) == owner(text, found.second_start) == found.document
        assert (found.second_start >= found.first_end) == (found.pair_label == 0)


def test_full_sentences_are_whole_and_none_is_lost() -> None:
    text, examples = made("full_sentences", short_sequence_probability=0.0)
    starts = set(text.sentences.tolist())
    assert all({found.first_start, found.first_end} <= starts for found in examples)
    assert sum(found.first_end - found.first_start for found in examples) == len(text.ids)


def test_contiguous_covers_every_token_once() -> None:
    text, examples = made("contiguous")
    assert [token for found in examples for token in range(found.first_start, found.first_end)] == text.ids.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_long_sentences_are_cut(kind: str) -> None:
    _, examples = made(kind, part(longest=300))
    assert examples


def test_short_examples_are_as_frequent_as_asked() -> None:
    text = part(documents=300, longest=4)
    _, examples = made("full_sentences", text, short_sequence_probability=0.5)
    _, long_ones = made("full_sentences", text, short_sequence_probability=0.0)
    assert len(examples) > 1.2 * len(long_ones)


def test_tokens_are_laid_out_as_bert_wants_them() -> None:
    ids = np.arange(10, 30, dtype=np.uint16)
    spans = np.array([Example(0, 3, 5, 7, 0, 0), Example(7, 8, 8, 12, 1, 0)])
    found = laid_out(ids, spans, Special(0, 1, 2, 3, 4), paired=True)
    assert found.values.tolist() == [2, 10, 11, 12, 3, 15, 16, 3, 2, 17, 3, 18, 19, 20, 21, 3]
    assert found.offsets.tolist() == [0, 8, 16]
    single = laid_out(ids, np.array([Example(0, 3, 0, 0, 0, 0)]), Special(0, 1, 2, 3, 4), paired=False)
    assert single.values.tolist() == [2, 10, 11, 12, 3]
