"""Segments -> examples: which tokens are hidden, and behind what. Pure numpy over a whole part at once.

80 % of the chosen tokens become [MASK], 10 % a random token, 10 % stay (BERT, section 3.1, task 1).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from configs import Section
from data_pipeline.columns import Columns, Ragged, boundaries
from data_pipeline.draws import generator
from data_pipeline.tokenizer import Special, Tokenizer


class CorruptConfig(Section):
    """How tokens are hidden."""

    kind: Literal["nothing", "masked_tokens", "masked_words", "masked_ngrams", "masked_spans"] = "masked_tokens"
    """Row of the table: single tokens (BERT), all pieces of a word together (BERT's whole-word masking), up to
    ``maximum_ngram`` words together (ALBERT, section 4.1), or spans behind one sentinel each, which the model writes
    out (T5, section 3.1.4; for rows of one segment and a tokenizer with sentinels; the shares of [MASK] and random
    tokens and ``maximum_predictions`` then have no effect)."""
    drawn: Literal["once", "each_epoch"] = "once"
    """When: once, into the shards, or anew each time that training comes to a row (RoBERTa, section 4.1: dynamic
    masking); the shards then hold the tokens as they are."""
    maximum_ngram: int = Field(default=3, gt=0)
    """Most words of one n-gram; a length n is drawn with a probability proportional to 1 / n (ALBERT: 3)."""
    mean_span_length: float = Field(default=3.0, ge=1)
    """Tokens of a hidden span, on average (T5: 3)."""
    mask_probability: float = Field(default=0.15, gt=0, lt=1)
    """Share of the text tokens that are predicted (BERT and T5: 0.15)."""
    mask_share: float = Field(default=0.8, ge=0, le=1)
    """Of those, the share that becomes [MASK]."""
    random_share: float = Field(default=0.1, ge=0, le=1)
    """Of those, the share that becomes a random token; the rest stays as it is."""
    maximum_predictions: int = Field(default=0, ge=0)
    """Most predictions of one example (BERT: 20 at 128 tokens); 0 for no limit."""

    @model_validator(mode="after")
    def _shares_fit(self) -> "CorruptConfig":
        if self.mask_share + self.random_share > 1:
            raise ValueError(f"mask_share {self.mask_share} and random_share {self.random_share} exceed 1 together")
        return self

    @model_validator(mode="after")
    def _spans_are_drawn_once(self) -> "CorruptConfig":
        if self.kind == "masked_spans" and self.drawn == "each_epoch":
            raise ValueError(
                "masked_spans are drawn into the shards; set drawn to once, and dupe_factor for more of them"
            )
        return self


class Vocabulary(NamedTuple):
    """What corruption must know of a tokenizer."""

    special: Special
    starts_word: np.ndarray
    """bool [V]: the piece begins a word."""
    ordinary: np.ndarray
    """Ids that a random replacement is drawn from."""

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "Vocabulary":
        return cls(tokenizer.special, tokenizer.starts_word, tokenizer.ordinary)


class Corrupted(NamedTuple):
    tokens: Ragged
    positions: Ragged
    labels: Ragged

    def columns(self) -> Columns:
        """As a shard names them."""
        return {"tokens": self.tokens, "mask_positions": self.positions, "mask_labels": self.labels}


class EachEpoch:
    """Corruption of rows that the shards hold as they are."""

    def __init__(self, recipe: dict[str, Any], tokenizer: Path):
        """
        Args:
            recipe: the manifest's.
            tokenizer: the dataset's model.
        """
        self._config = CorruptConfig.model_validate(recipe["corrupt"])
        self._vocabulary = Vocabulary.of(Tokenizer.load(tokenizer))

    def __call__(self, columns: Columns, seed: int, purpose: str, number: int) -> Columns:
        """``columns`` with rows hidden; equal rows, seed, purpose and number give equal masks."""
        tokens = columns["tokens"]
        assert isinstance(tokens, Ragged)
        hidden = corrupt(tokens, self._config, self._vocabulary, generator(seed, purpose, number))
        return {**columns, **hidden.columns()}


def drawn_each_epoch(recipe: dict[str, Any]) -> bool:
    """Whether training has to hide tokens itself."""
    section = recipe.get("corrupt", {})
    return section.get("drawn") == "each_epoch" and section.get("kind") != "nothing"


def corrupt(tokens: Ragged, config: CorruptConfig, vocabulary: Vocabulary, draw: np.random.Generator) -> Corrupted:
    """Hide tokens of every row; special tokens are never hidden."""
    assert vocabulary.special.mask is not None, "prepare refuses a tokenizer without a mask"
    rows = np.repeat(np.arange(len(tokens.lengths), dtype=np.uint32), tokens.lengths)
    is_special = np.zeros(len(vocabulary.starts_word), bool)
    is_special[[vocabulary.special.cls, vocabulary.special.sep, vocabulary.special.pad]] = True
    special = is_special[tokens.values]
    # A segment begins with a row and after a special token; neither words nor runs step over that.
    begins = np.zeros(len(special) + 1, bool)
    begins[1:] = special
    begins[tokens.offsets] = True
    candidates = np.flatnonzero(~special)
    segments = begins[candidates]
    words = vocabulary.starts_word[tokens.values[candidates]] | segments
    units = UNITS[config.kind](words, segments, config, draw)
    chosen = candidates[_hidden(rows[candidates], np.flatnonzero(units), config, draw)]
    labels = tokens.values[chosen]
    fate = draw.random(len(chosen))
    replaced = np.where(fate < config.mask_share, vocabulary.special.mask, labels)
    at_random = (fate >= config.mask_share) & (fate < config.mask_share + config.random_share)
    replaced[at_random] = draw.choice(vocabulary.ordinary, int(at_random.sum()))
    values = tokens.values.copy()
    values[chosen] = replaced
    offsets = boundaries(np.bincount(rows[chosen], minlength=len(tokens.lengths)))
    positions = (chosen - tokens.offsets[rows[chosen]]).astype(np.uint16)
    return Corrupted(Ragged(values, tokens.offsets), Ragged(positions, offsets), Ragged(labels, offsets))


def _budget(counts: np.ndarray, config: CorruptConfig, draw: np.random.Generator) -> np.ndarray:
    """[rows] how many predictions each row may have, of so many text tokens; at least one.

    Rounded up or down by chance, so that the mean is the probability that was asked for also where most rows have
    one length.
    """
    budget = np.maximum(1, np.floor(counts * config.mask_probability + draw.random(len(counts)))).astype(np.int64)
    return np.minimum(budget, config.maximum_predictions) if config.maximum_predictions else budget


def _tokens(words: np.ndarray, segments: np.ndarray, config: CorruptConfig, draw: np.random.Generator) -> np.ndarray:
    """Each token for itself."""
    return np.ones(len(words), bool)


def _words(words: np.ndarray, segments: np.ndarray, config: CorruptConfig, draw: np.random.Generator) -> np.ndarray:
    """All pieces of a word together."""
    return words


def _ngrams(words: np.ndarray, segments: np.ndarray, config: CorruptConfig, draw: np.random.Generator) -> np.ndarray:
    """Runs of one to ``maximum_ngram`` words."""
    count = int(words.sum())
    sizes = np.arange(1, config.maximum_ngram + 1)
    weights = 1 / sizes
    drawn = draw.choice(sizes, count, p=weights / weights.sum())
    first_words = np.zeros(count + 1, bool)
    first_words[np.minimum(np.cumsum(drawn) - drawn, count)] = True
    begins = words.copy()
    begins[words] = first_words[:count]
    return begins | segments


def _hidden(row: np.ndarray, starts: np.ndarray, config: CorruptConfig, draw: np.random.Generator) -> np.ndarray:
    """Units (tokens, words or runs of words) in random order within their row, each if all of it fits what is left of
    the budget; a longer one is passed over (BERT's published code).

    Args:
        row: uint32 [candidates] the row of each, ascending.
        starts: [units] the first candidate of each unit.

    Returns:
        The candidates that are hidden, ascending.
    """
    if not len(starts):
        return starts
    lengths = np.diff(starts, append=len(row))
    rows = row[starts]
    left = budget = _budget(np.bincount(row), config, draw)
    counts = np.zeros(len(starts), np.int64)
    chance = draw.integers(0, 2**16, len(starts), np.uint16)
    # Those that come first by chance are nearly always enough, so that the others need not be put in order.
    soon = chance < min(1.0, 2 * config.mask_probability + 0.1) * 2**16
    for some in (np.flatnonzero(soon), np.flatnonzero(~soon)):
        some = some[left[rows[some]] > 0]
        some = some[_in_order(rows[some], chance[some])]
        counts[some], left = _fitting(lengths[some], rows[some], left)
    _hide_something(counts, lengths, rows, budget, left, chance)
    hidden = np.flatnonzero(counts)
    counts = counts[hidden]
    return np.repeat(starts[hidden] - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())


def _in_order(rows: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """The order by row, in each by chance. A stable sort of 16-bit numbers is a radix sort, far faster than others."""
    by_chance = np.argsort(chance, kind="stable")
    narrow = rows.astype(np.uint16) if len(rows) and rows[-1] < 2**16 else rows
    return by_chance[np.argsort(narrow[by_chance], kind="stable")]


def _fitting(lengths: np.ndarray, rows: np.ndarray, budget: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """([units] how many tokens of each are hidden, [rows] what is left of the budget), in the order given."""
    taken, left, still = np.zeros(len(lengths), np.int64), budget.copy(), np.arange(len(lengths))
    # Every way through takes at least one unit of each row that has some left that fit.
    while len(still := still[lengths[still] <= left[rows[still]]]):
        sizes, owners = lengths[still], rows[still]
        first = np.flatnonzero(np.diff(owners, prepend=~owners[:1]))
        before = np.repeat((np.cumsum(sizes) - sizes)[first], np.diff(first, append=len(owners)))
        fits = np.cumsum(sizes) - before <= left[owners]
        taken[still[fits]] = sizes[fits]
        left -= np.bincount(owners[fits], sizes[fits], len(left)).astype(np.int64)
        still = still[~fits]
    return taken, left


def _hide_something(
    counts: np.ndarray,
    lengths: np.ndarray,
    rows: np.ndarray,
    budget: np.ndarray,
    left: np.ndarray,
    chance: np.ndarray,
) -> None:
    """Where not one unit of a row fits, hide the head of one, or text without spaces would never be hidden."""
    without = np.flatnonzero((left == budget)[rows])
    if len(without):
        some = without[_in_order(rows[without], chance[without])]
        first = some[np.flatnonzero(np.diff(rows[some], prepend=~rows[some[:1]]))]
        counts[first] = np.minimum(budget[rows[first]], lengths[first])


UNITS: dict[str, Callable[[np.ndarray, np.ndarray, CorruptConfig, np.random.Generator], np.ndarray]] = {
    "masked_tokens": _tokens,
    "masked_words": _words,
    "masked_ngrams": _ngrams,
}
"""(where words begin, where segments begin, config, draw) -> where units begin, each bool [candidates]."""
