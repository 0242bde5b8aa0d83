"""Masking: shares, limits, whole words."""

import numpy as np
import pytest
from scipy import stats

from sesame.configs import parse
from sesame.configs.errors import ConfigError
from sesame.data_pipeline.examples.corrupt import UNITS, CorruptConfig, Corrupted, Vocabulary, corrupt
from sesame.data_pipeline.ragged import Ragged, boundaries
from sesame.data_pipeline.tokenizers.special_tokens import Special

SPECIAL = Special(0, 1, 2, 3, 4)
SIZE = 1000
STARTS = np.arange(SIZE) % 3 != 0
"""Every third piece continues a word."""
VOCABULARY = Vocabulary(SPECIAL, STARTS, np.arange(5, SIZE))
ROWS = 4000


def config(**values: object) -> CorruptConfig:
    return parse(values, CorruptConfig, "a.toml")


def examples(rows: int = ROWS, seed: int = 0) -> Ragged:
    draw = np.random.default_rng(seed)
    lengths = draw.integers(5, 128, rows)
    offsets = boundaries(lengths)
    values = draw.integers(5, SIZE, offsets[-1]).astype(np.uint16)
    values[offsets[:-1]], values[offsets[1:] - 1] = SPECIAL.cls, SPECIAL.sep
    return Ragged(values, offsets)


def masked(tokens: Ragged, seed: int = 1, **values: object) -> Corrupted:
    return corrupt(tokens, config(**values), VOCABULARY, np.random.Generator(np.random.PCG64DXSM(seed)))


@pytest.mark.parametrize("kind", UNITS)
def test_labels_restore_the_original(kind: str) -> None:
    tokens = examples()
    found = masked(tokens, kind=kind)
    absolute = found.positions.values + np.repeat(tokens.offsets[:-1], found.positions.lengths)
    restored = found.tokens.values.copy()
    restored[absolute] = found.labels.values
    assert np.array_equal(restored, tokens.values)
    assert np.all(np.diff(absolute) > 0), "ascending inside of rows, rows in order"
    assert found.labels.values.min() > max(filter(None, SPECIAL)), "special tokens stay"
    assert found.labels.values.dtype == tokens.values.dtype
    assert found.positions.lengths.min() >= 1


@pytest.mark.parametrize("probability", [0.15, 0.3])
def test_shares_are_as_asked(probability: float) -> None:
    tokens = examples()
    found = masked(tokens, mask_probability=probability)
    absolute = found.positions.values + np.repeat(tokens.offsets[:-1], found.positions.lengths)
    shown, labels = found.tokens.values[absolute], found.labels.values
    assert len(labels) / (len(tokens.values) - 2 * ROWS) == pytest.approx(probability, abs=0.003)
    assert np.mean(shown == SPECIAL.mask) == pytest.approx(0.8, abs=0.01)
    assert np.mean(shown == labels) == pytest.approx(0.1, abs=0.01)
    replaced = shown[(shown != SPECIAL.mask) & (shown != labels)]
    assert len(replaced) / len(labels) == pytest.approx(0.1, abs=0.01)
    assert replaced.min() >= 5 and replaced.max() < SIZE


def test_every_position_is_chosen_equally_often() -> None:
    length = 20
    tokens = Ragged(np.tile(np.array([2, *range(5, 23), 3], np.uint16), 20_000), np.arange(20_001) * length)
    counts = np.bincount(masked(tokens).positions.values, minlength=length)
    assert counts[0] == counts[-1] == 0
    assert counts[1:-1].min() > 0.93 * counts[1:-1].mean()


def test_weights_are_chances_beside_the_others_of_a_row() -> None:
    """Of one masked token in each row, and of two: drawn one after the other without the first."""
    rows, weights = 30_000, np.ones(SIZE, np.float32)
    weights[[10, 11, 12]] = 1, 2, 5
    tokens = Ragged(np.tile(np.array([2, 10, 11, 12, 3], np.uint16), rows), np.arange(rows + 1) * 5)
    draw = np.random.Generator(np.random.PCG64DXSM(1))
    for count, expected in ((1, [1 / 8, 2 / 8, 5 / 8]), (2, [0.375, 0.7024, 0.9226])):
        found = corrupt(tokens, config(mask_probability=0.999, maximum_predictions=count), VOCABULARY, draw, weights)
        chosen = np.bincount(found.positions.values, minlength=5)[1:4] / rows
        assert chosen == pytest.approx(expected, abs=0.01)


def test_the_weight_of_a_word_is_the_mean_of_its_pieces() -> None:
    rows, weights = 30_000, np.ones(SIZE, np.float32)
    # 12 continues the word that 11 begins.
    weights[[10, 11, 12]] = 2, 1, 7
    tokens = Ragged(np.tile(np.array([2, 10, 11, 12, 3], np.uint16), rows), np.arange(rows + 1) * 5)
    draw = np.random.Generator(np.random.PCG64DXSM(1))
    settings = config(kind="masked_words", mask_probability=0.999, maximum_predictions=2)
    found = corrupt(tokens, settings, VOCABULARY, draw, weights)
    chosen = np.bincount(found.positions.values, minlength=5)[1:4] / rows
    # The longer word first: both pieces; the other first: then it does not fit any more.
    assert chosen == pytest.approx([2 / 6, 4 / 6, 4 / 6], abs=0.01)


def test_words_are_masked_whole() -> None:
    tokens = examples()
    found = masked(tokens, kind="masked_words", mask_probability=0.2)
    chosen = np.zeros(len(tokens.values), bool)
    chosen[found.positions.values + np.repeat(tokens.offsets[:-1], found.positions.lengths)] = True
    special = np.isin(tokens.values, [SPECIAL.cls, SPECIAL.sep])
    continues = ~STARTS[tokens.values] & ~special & ~np.roll(special, 1)
    broken = continues & (chosen != np.roll(chosen, 1))
    rows_of_one_word = np.flatnonzero(broken)
    # Only the first word of a short row may be cut, where it alone is longer than the budget.
    assert len(rows_of_one_word) < 0.002 * len(tokens.values)
    lengths = np.diff(np.flatnonzero(~continues & ~special))
    assert chosen[continues].mean() == pytest.approx(chosen[~continues & ~special].mean(), rel=0.15)
    assert lengths.max() > 1


def test_ngrams_are_runs_of_words_with_lengths_as_in_the_paper() -> None:
    """One-piece words in long rows, so that every unit fits and runs seldom touch."""
    rows, length = 600, 2000
    tokens = Ragged(np.tile(np.array([2, *([7] * (length - 2)), 3], np.uint16), rows), np.arange(rows + 1) * length)
    found = masked(tokens, kind="masked_ngrams", mask_probability=0.02)
    chosen = np.zeros(len(tokens.values) + 1, bool)
    chosen[found.positions.values + np.repeat(tokens.offsets[:-1], found.positions.lengths)] = True
    edges = np.flatnonzero(np.diff(chosen.astype(np.int8), prepend=0))
    counts = np.bincount(edges[1::2] - edges[::2], minlength=4)[1:4]
    # 1/1 : 1/2 : 1/3, but for the last of a row, where a shorter one takes the place of what does not fit, and for runs
    # that touch.
    assert counts / counts.sum() == pytest.approx(np.array([6, 3, 2]) / 11, abs=0.03)
    assert found.positions.lengths.sum() / (rows * (length - 2)) == pytest.approx(0.02, rel=0.01)


@pytest.mark.parametrize("kind", ["masked_words", "masked_ngrams"])
def test_what_does_not_fit_makes_room_for_what_does(kind: str) -> None:
    """The share that was asked for is met with units of several tokens too."""
    tokens = examples()
    found = masked(tokens, kind=kind)
    text = len(tokens.values) - 2 * ROWS
    assert len(found.labels.values) / text == pytest.approx(0.15, abs=0.006)


def test_text_without_spaces_is_masked_as_far_as_the_budget_goes() -> None:
    values = np.array([2, *([6] * 50), 3], np.uint16)
    found = masked(Ragged(values, np.array([0, 52])), kind="masked_words", mask_probability=0.2)
    assert 9 <= len(found.labels.values) <= 11


@pytest.mark.parametrize("kind", UNITS)
def test_the_limit_holds(kind: str) -> None:
    assert masked(examples(), kind=kind, mask_probability=0.5, maximum_predictions=7).positions.lengths.max() == 7


@pytest.mark.parametrize("kind", UNITS)
def test_only_the_seed_decides(kind: str) -> None:
    tokens = examples(50)
    first, again, other = (masked(tokens, seed, kind=kind) for seed in (1, 1, 2))
    for one, same in zip(first, again, strict=True):
        assert np.array_equal(one.values, same.values) and np.array_equal(one.offsets, same.offsets)
    assert not np.array_equal(first.tokens.values, other.tokens.values)


def test_the_rows_that_were_given_stay_as_they_are() -> None:
    tokens = examples(50)
    before = tokens.values.copy()
    masked(tokens)
    assert np.array_equal(tokens.values, before)


def rows_of(row: list[int], count: int) -> Ragged:
    return Ragged(np.tile(np.array(row, np.uint16), count), np.arange(count + 1) * len(row))


def test_random_tokens_are_any_ordinary_ones_alike() -> None:
    found = masked(rows_of([2, *([7] * 100), 3], 5000), random_share=1.0, mask_share=0.0)
    drawn = found.tokens.values[found.tokens.values > SPECIAL.mask]
    counts = np.bincount(drawn, minlength=SIZE)[5:]
    counts[7 - 5] -= (100 * 5000) - len(found.labels.values)
    assert stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize("size", [1, 2, 3])
def test_every_word_is_chosen_equally_often_and_beside_any_other(size: int) -> None:
    """Words of one length: each is masked whole, in about 40 % of rows; so is each pair of two of them."""
    words, rows = 10, 20_000
    row = [2, *([7, *([6] * (size - 1))] * words), 3]
    found = masked(rows_of(row, rows), kind="masked_words", mask_probability=0.4)
    counts = found.positions.lengths
    assert set(counts) == {4 * size}
    chosen = np.zeros((rows, words * size), bool)
    chosen[np.repeat(np.arange(rows), counts), found.positions.values - 1] = True
    by_word = chosen.reshape(rows, words, size)
    assert np.array_equal(by_word.all(2), by_word.any(2))
    # Without replacement the counts vary less than a multinomial would, and those of pairs too.
    together = by_word[:, :, 0].astype(int).T @ by_word[:, :, 0]
    singles, pairs = np.diag(together), together[np.triu_indices(words, 1)]
    assert stats.chisquare(singles).pvalue > 1e-3
    assert stats.chisquare(pairs).pvalue > 1e-3


def test_budgets_are_rounded_by_chance() -> None:
    counts = masked(rows_of([2, *([7] * 15), 3], 20_000)).positions.lengths
    assert set(counts) == {2, 3}
    assert counts.mean() == pytest.approx(0.15 * 15, abs=0.015)


def test_neither_words_nor_runs_step_over_a_separator() -> None:
    """Pieces that continue a word begin one behind [SEP]; units on both sides are masked each for itself."""
    rows = 4000
    for kind, more in (("masked_words", {}), ("masked_ngrams", {"maximum_ngram": 1000})):
        found = masked(rows_of([2, 7, 6, 6, 3, 6, 6, 6, 3], rows), kind=kind, mask_probability=0.5, **more)
        shares = np.bincount(found.positions.values, minlength=9) / rows
        assert set(found.positions.lengths) == {3}
        assert shares[[0, 4, 8]].tolist() == [0, 0, 0]
        assert shares[1] == shares[2] == shares[3] == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize("kind", UNITS)
def test_rows_without_text_and_no_rows_mask_nothing(kind: str) -> None:
    nothing = masked(Ragged(np.array([], np.uint16), np.array([0])), kind=kind)
    assert [each.offsets.tolist() for each in nothing] == [[0], [0], [0]]
    bare = masked(Ragged(np.array([2, 3, 2, 7, 3], np.uint16), np.array([0, 2, 2, 5])), kind=kind)
    assert bare.positions.lengths.tolist() == [0, 0, 1] and bare.labels.values.tolist() == [7]


@pytest.mark.parametrize("kind", UNITS)
@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_the_longest_rows_are_masked_to_their_last_token(kind: str, dtype: type) -> None:
    length = 65535
    values = np.random.default_rng(0).integers(5, SIZE, length).astype(dtype)
    values[0], values[-1] = SPECIAL.cls, SPECIAL.sep
    found = masked(Ragged(values, np.array([0, length])), kind=kind, mask_probability=0.9)
    assert len(found.labels.values) == pytest.approx(0.9 * (length - 2), abs=3)
    assert found.positions.values.dtype == np.uint16 and found.labels.values.dtype == dtype
    assert found.positions.values.max() > length - 20
    assert np.array_equal(values[found.positions.values], found.labels.values)


def test_ids_beyond_the_vocabulary_are_refused() -> None:
    with pytest.raises(AssertionError, match="beyond the vocabulary"):
        masked(rows_of([2, SIZE, 3], 1))


def test_shares_beyond_one_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"mask_share 0.8 and random_share 0.3 exceed 1"):
        config(random_share=0.3)
