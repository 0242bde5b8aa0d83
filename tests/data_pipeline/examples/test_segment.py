"""Segments: what pairs are made of, and that their labels are true."""

import numpy as np
import pytest
from scipy import stats

from sesame.data_pipeline.dataset.build import add_special_tokens
from sesame.data_pipeline.examples.segment import KINDS, PAIRS, Example, SegmentConfig, Sentences, segment
from sesame.data_pipeline.ragged import boundaries
from sesame.data_pipeline.tokenizers.special_tokens import Special

LENGTH = 64


def part(documents: int = 30, longest: int = 25, seed: int = 0) -> Sentences:
    """Documents whose tokens are 0, 1, 2 ... over the whole part, so that every id says where it is from."""
    draw = np.random.default_rng(seed)
    per_document = draw.integers(1, 40, documents)
    lengths = draw.integers(1, longest, per_document.sum())
    return Sentences(np.arange(lengths.sum()), boundaries(lengths), boundaries(per_document))


def spans(kind: str, text: Sentences, seed: int = 5, documents: np.ndarray | None = None, **more: float) -> np.ndarray:
    config = SegmentConfig.model_validate({"kind": kind, "sequence_length": LENGTH, **more})
    return segment(text, config, np.random.Generator(np.random.PCG64DXSM(seed)), documents)


def made(kind: str, text: Sentences | None = None, **more: float) -> tuple[Sentences, list[Example]]:
    text = text or part()
    return text, [Example(*row) for row in spans(kind, text, 5, None, **more).tolist()]


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


def test_a_sentence_alone_always_has_a_partner_from_elsewhere() -> None:
    text = Sentences(np.arange(200), np.arange(51) * 4, np.arange(51))
    found = spans("next_sentence", text)
    assert found[:, 4].tolist() == [1] * 50 and found[:, 5].tolist() == list(range(50))


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
@pytest.mark.parametrize("short", [0.0, 0.5])
def test_no_token_of_a_document_is_lost(kind: str, short: float) -> None:
    """Where a pair has room for two of the longest sentences; only sentence_order has no use for one alone."""
    text = part(documents=200, longest=(LENGTH - 3) // 2 + 1)
    _, examples = made(kind, text, short_sequence_probability=short)
    own = np.zeros(len(text.ids), bool)
    for found in examples:
        own[found.first_start : found.first_end] = True
        if kind == "sentence_order" or not found.pair_label:
            own[found.second_start : found.second_end] = True
    if kind == "sentence_order":
        alone = np.flatnonzero(np.diff(text.documents) == 1)
        for document in alone:
            own[text.sentences[text.documents[document]] : text.sentences[text.documents[document + 1]]] = True
    assert own.all()


def test_pairs_of_a_single_text_use_its_last_sentence_too() -> None:
    text = Sentences(np.arange(9), np.arange(4) * 3, np.array([0, 3]))
    found = spans("next_sentence", text, sequence_length=9, short_sequence_probability=0.0)
    assert found[:, :5].tolist() == [[0, 3, 3, 6, 0], [3, 6, 6, 9, 0]]


def test_the_length_of_a_pair_does_not_reveal_its_label() -> None:
    """Partners are sentences that fit, as true neighbours are."""
    _, examples = made("next_sentence", part(documents=2000, longest=30), short_sequence_probability=0.0)
    lengths = [
        [
            each.first_end - each.first_start + each.second_end - each.second_start
            for each in examples
            if each.pair_label == label
        ]
        for label in (0, 1)
    ]
    quantiles = [np.quantile(each, [0.1, 0.25, 0.5, 0.75, 0.9]) for each in lengths]
    assert np.allclose(*quantiles, atol=2)


@pytest.mark.parametrize("kind", KINDS)
def test_long_sentences_are_cut(kind: str) -> None:
    _, examples = made(kind, part(longest=300))
    assert examples


def test_short_examples_are_as_frequent_as_asked() -> None:
    text = part(documents=3000, longest=4)
    _, examples = made("full_sentences", text, short_sequence_probability=0.5)
    _, long_ones = made("full_sentences", text, short_sequence_probability=0.0)
    assert len(examples) > 1.2 * len(long_ones)


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_seed_decides(kind: str) -> None:
    text = part()
    first, again, other = (spans(kind, text, seed, short_sequence_probability=0.3) for seed in (1, 1, 2))
    assert first.dtype == np.int64 and first.shape[1] == len(Example._fields)
    assert np.array_equal(first, again)
    assert np.array_equal(first, other) == (kind == "contiguous"), "where nothing is drawn"


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_asked_documents_are_passed_over(kind: str) -> None:
    text = part()
    asked = np.array([2, 3, 11])
    assert set(spans(kind, text, documents=asked)[:, 5]) == set(asked)


@pytest.mark.parametrize("kind", KINDS)
def test_no_documents_give_no_examples(kind: str) -> None:
    none = np.array([], np.int64)
    empty = Sentences(none, boundaries(none), boundaries(none))
    for found in (spans(kind, empty), spans(kind, part(), documents=none)):
        assert found.shape == (0, 6)
        assert add_special_tokens(none, found, Special(0, 1, 2, 3, 4), paired=True).offsets.tolist() == [0]


def test_documents_without_sentences_are_refused() -> None:
    with pytest.raises(AssertionError, match="without sentences"):
        spans("next_sentence", Sentences(np.arange(4), np.array([0, 2, 4]), np.array([0, 1, 1, 2])))


@pytest.mark.parametrize(("kind", "expected"), [("next_sentence", 0), ("sentence_order", 0), ("full_sentences", 1)])
def test_one_sentence_in_all_is_an_example_where_no_pair_is_asked_for(kind: str, expected: int) -> None:
    assert len(spans(kind, Sentences(np.arange(5), np.array([0, 5]), np.array([0, 1])))) == expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("length", "longest_sentence"), [(8, 4), (65535, 20_000)])
def test_the_shortest_and_the_longest_rows_are_filled(kind: str, length: int, longest_sentence: int) -> None:
    text = part(documents=4, longest=longest_sentence, seed=2)
    found = spans(kind, text, sequence_length=length, short_sequence_probability=0.0)
    longest = (found[:, 1] - found[:, 0] + found[:, 3] - found[:, 2]).max()
    room = length - (3 if kind in PAIRS else 2)
    assert longest == room or (kind != "contiguous" and 0.8 * length < longest < room), "sentences stay whole"


@pytest.mark.parametrize("kind", PAIRS)
def test_tokens_are_cut_from_either_end_by_chance(kind: str) -> None:
    """Of two sentences of 60 tokens each, 30 and 31 stay in a row that has room for 61."""
    documents = 2000
    text = Sentences(np.arange(120 * documents), np.arange(2 * documents + 1) * 60, np.arange(documents + 1) * 2)
    found = spans(kind, text, short_sequence_probability=0.0)
    assert len(found) >= documents
    for first in (0, 2):
        front, length = found[:, first] % 60, found[:, first + 1] - found[:, first]
        assert set(length) <= {30, 31}
        assert front.mean() == pytest.approx(29.5 / 2, abs=0.4)
        assert front.var() == pytest.approx(29.5 / 4, rel=0.15)


def test_every_place_is_as_likely_as_another() -> None:
    """Partners from all other documents and sentences, and middles of pairs, by a test of chi squared."""
    documents, per_document = 11, 6
    sentences = np.arange(documents * per_document + 1) * 2
    text = Sentences(np.arange(sentences[-1]), sentences, np.arange(documents + 1) * per_document)
    asked = np.full(20_000, 4)
    found = spans("next_sentence", text, documents=asked, sequence_length=512, short_sequence_probability=0.0)
    random_pairs = found[found[:, 4] == 1]
    counts = np.bincount(random_pairs[:, 2] // 2, minlength=documents * per_document)
    assert counts[4 * per_document : 5 * per_document].sum() == 0
    assert stats.chisquare(np.delete(counts, np.s_[4 * per_document : 5 * per_document])).pvalue > 1e-4
    whole = spans("sentence_order", text, documents=asked, sequence_length=512, short_sequence_probability=0.0)
    middles = np.where(whole[:, 4] == 0, whole[:, 2], whole[:, 0]) - 4 * 2 * per_document
    assert stats.chisquare(np.bincount(middles // 2, minlength=per_document)[1:]).pvalue > 1e-4
    assert whole[:, 4].mean() == pytest.approx(0.5, abs=0.015)


def test_tokens_are_laid_out_as_bert_wants_them() -> None:
    ids = np.arange(10, 30, dtype=np.uint16)
    pairs = np.array([Example(0, 3, 5, 7, 0, 0), Example(7, 8, 8, 12, 1, 0)])
    found = add_special_tokens(ids, pairs, Special(0, 1, 2, 3, 4), paired=True)
    assert found.values.tolist() == [2, 10, 11, 12, 3, 15, 16, 3, 2, 17, 3, 18, 19, 20, 21, 3]
    assert found.offsets.tolist() == [0, 8, 16]
    single = add_special_tokens(ids, np.array([Example(0, 3, 0, 0, 0, 0)]), Special(0, 1, 2, 3, 4), paired=False)
    assert single.values.tolist() == [2, 10, 11, 12, 3]
