"""Masking: shares, limits, whole words."""

import numpy as np
import pytest

from configs import parse
from configs.errors import ConfigError
from data_pipeline.columns import Ragged, boundaries
from data_pipeline.corrupt import CorruptConfig, Corrupted, Vocabulary, corrupt
from data_pipeline.tokenizer import Special

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


@pytest.mark.parametrize("kind", ["masked_tokens", "masked_words", "masked_ngrams"])
def test_labels_restore_the_original(kind: str) -> None:
    tokens = examples()
    found = masked(tokens, kind=kind)
    absolute = found.positions.values + np.repeat(tokens.offsets[:-1], found.positions.lengths)
    restored = found.tokens.values.copy()
    restored[absolute] = found.labels.values
    assert np.array_equal(restored, tokens.values)
    assert np.all(np.diff(absolute) > 0), "ascending inside of rows, rows in order"
    assert not np.isin(found.labels.values, SPECIAL).any()
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


def test_words_are_hidden_whole() -> None:
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


def test_text_without_spaces_is_hidden_as_far_as_the_budget_goes() -> None:
    values = np.array([2, *([6] * 50), 3], np.uint16)
    found = masked(Ragged(values, np.array([0, 52])), kind="masked_words", mask_probability=0.2)
    assert 9 <= len(found.labels.values) <= 11


@pytest.mark.parametrize("kind", ["masked_tokens", "masked_words", "masked_ngrams"])
def test_the_limit_holds(kind: str) -> None:
    assert masked(examples(), kind=kind, mask_probability=0.5, maximum_predictions=7).positions.lengths.max() == 7


def test_only_the_seed_decides() -> None:
    tokens = examples(50)
    assert np.array_equal(masked(tokens).tokens.values, masked(tokens).tokens.values)
    assert not np.array_equal(masked(tokens).tokens.values, masked(tokens, seed=2).tokens.values)


def test_shares_beyond_one_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"mask_share 0.8 and random_share 0.3 exceed 1"):
        config(random_share=0.3)
