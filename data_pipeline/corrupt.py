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

    kind: Literal["nothing", "masked_tokens", "masked_words", "masked_ngrams"] = "masked_tokens"
    """Row of the table: single tokens (BERT), all pieces of a word together (BERT's whole-word masking), or up to
    ``maximum_ngram`` words together (ALBERT, section 4.1)."""
    drawn: Literal["once", "each_epoch"] = "once"
    """When: once, into the shards, or anew each time that training comes to a row (RoBERTa, section 4.1: dynamic
    masking); the shards then hold the tokens as they are."""
    maximum_ngram: int = Field(default=3, gt=0)
    """Most words of one n-gram; a length n is drawn with a probability proportional to 1 / n (ALBERT: 3)."""
    mask_probability: float = Field(default=0.15, gt=0, lt=1)
    """Share of the text tokens that are predicted (BERT: 0.15)."""
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
    rows = np.repeat(np.arange(len(tokens.lengths)), tokens.lengths)
    special = np.isin(tokens.values, [vocabulary.special.cls, vocabulary.special.sep, vocabulary.special.pad])
    candidates = np.flatnonzero(~special)
    row = rows[candidates]
    # A segment begins where the token before is special or of another row; neither words nor runs step over that.
    segments = (np.diff(candidates, prepend=-2) != 1) | (np.diff(row, prepend=-1) != 0)
    words = vocabulary.starts_word[tokens.values[candidates]] | segments
    begins = UNITS[config.kind](words, segments, config, draw)
    chosen = np.sort(candidates[_hidden(row, np.cumsum(begins) - 1, config, draw)])
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


def _budget(rows: np.ndarray, config: CorruptConfig, draw: np.random.Generator) -> np.ndarray:
    """[candidates] how many predictions the row of each candidate may have; at least one.

    Rounded up or down by chance, so that the mean is the probability that was asked for also where most rows have
    one length.
    """
    counts = np.bincount(rows)
    budget = np.maximum(1, np.floor(counts * config.mask_probability + draw.random(len(counts)))).astype(np.int64)
    if config.maximum_predictions:
        budget = np.minimum(budget, config.maximum_predictions)
    return budget[rows]


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


def _hidden(row: np.ndarray, unit: np.ndarray, config: CorruptConfig, draw: np.random.Generator) -> np.ndarray:
    """Units (tokens, words or runs of words) in random order within their row, each if all of it fits the budget.

    Args:
        row: [candidates] the row of each.
        unit: [candidates] the unit of each, ascending.
    """
    length = np.bincount(unit)
    order = np.lexsort((np.arange(len(unit)), draw.random(len(length))[unit], row))
    done = _rank(row[order]) - _rank(unit[order]) + length[unit[order]]
    budget = _budget(row, config, draw)
    fits = done <= budget[order]
    # The first unit of a row is hidden even where it is too long, then only as far as the budget goes, or text
    # without spaces would never be hidden.
    first_unit = (done == length[unit[order]]) & (_rank(row[order]) < budget[order])
    return order[fits | first_unit]


def _rank(groups: np.ndarray) -> np.ndarray:
    """Position of each entry inside its run of equal entries."""
    starts = np.flatnonzero(np.diff(groups, prepend=-1) != 0)
    return np.arange(len(groups)) - np.repeat(starts, np.diff(np.append(starts, len(groups))))


UNITS: dict[str, Callable[[np.ndarray, np.ndarray, CorruptConfig, np.random.Generator], np.ndarray]] = {
    "masked_tokens": _tokens,
    "masked_words": _words,
    "masked_ngrams": _ngrams,
}
"""(where words begin, where segments begin, config, draw) -> where units begin, each bool [candidates]."""
