"""Segments -> examples: which tokens are masked, and with what.

80 % of the chosen tokens become [MASK], 10 % a random token, 10 % stay (BERT, section 3.1, task 1).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from sesame.configs import Section
from sesame.data_pipeline.compiled import masking
from sesame.data_pipeline.ragged import Columns, Ragged
from sesame.data_pipeline.random_streams import generator
from sesame.data_pipeline.tokenizers.special_tokens import Special
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer


class CorruptConfig(Section):
    """How tokens are masked."""

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
    """Mean length of a masked span, in tokens (T5: 3)."""
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
    ends_word: np.ndarray | None = None
    """bool [V]: what follows the piece begins a word; None for no piece."""

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "Vocabulary":
        return cls(tokenizer.special, tokenizer.starts_word, tokenizer.ordinary, tokenizer.ends_word)


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

    def __call__(
        self,
        columns: Columns,
        seed: int,
        purpose: str,
        number: int,
        mask_probability: float | None = None,
        weights: np.ndarray | None = None,
    ) -> Columns:
        """``columns`` with rows masked; equal arguments give equal masks.

        Args:
            mask_probability: share of the text tokens that are predicted; None: the recipe's.
            weights: see ``corrupt``.
        """
        tokens = columns["tokens"]
        assert isinstance(tokens, Ragged)
        config = self._config
        if mask_probability is not None:
            config = config.model_copy(update={"mask_probability": mask_probability})
        masked = corrupt(tokens, config, self._vocabulary, generator(seed, purpose, number), weights)
        return {**columns, **masked.columns()}


def drawn_each_epoch(recipe: dict[str, Any]) -> bool:
    """Whether training draws the masks itself."""
    section = recipe.get("corrupt", {})
    return section.get("drawn") == "each_epoch" and section.get("kind") != "nothing"


def corrupt(
    tokens: Ragged,
    config: CorruptConfig,
    vocabulary: Vocabulary,
    draw: np.random.Generator,
    weights: np.ndarray | None = None,
) -> Corrupted:
    """Mask tokens of every row; special tokens are never masked.

    Args:
        weights: float32 [V], above 0: how likely each id is masked beside others in its row, whose share of masked
            tokens stays the same; None: all alike.
    """
    special = vocabulary.special
    assert special.mask is not None, "prepare refuses a tokenizer without a mask"
    begins, longest = UNITS[config.kind](vocabulary.starts_word, config)
    kinds = np.where(begins, masking.BEGINS, masking.CONTINUES).astype(np.uint8)
    if vocabulary.ends_word is not None:
        kinds[vocabulary.ends_word] |= masking.ENDS
    kinds[[special.cls, special.sep, special.pad]] = masking.SPECIAL
    runs = np.cumsum(1 / np.arange(1, longest + 1))
    values = tokens.values.copy()
    assert values.max(initial=0) < len(kinds), "ids beyond the vocabulary"
    assert weights is None or len(weights) == len(kinds), "one weight for each id"
    positions, labels, offsets = masking.mask_rows(
        values,
        tokens.offsets,
        kinds,
        runs / runs[-1],
        (config.mask_probability, config.maximum_predictions or masking.NO_LIMIT),
        (special.mask, config.mask_share, config.mask_share + config.random_share),
        vocabulary.ordinary,
        ALIKE if weights is None else weights,
        draw.integers(2**64, dtype=np.uint64),
    )
    return Corrupted(Ragged(values, tokens.offsets), Ragged(positions, offsets), Ragged(labels, offsets))


ALIKE = np.empty(0, np.float32)
"""Weights in place of equal ones, with which units are drawn faster."""

UNITS: dict[str, Callable[[np.ndarray, CorruptConfig], tuple[np.ndarray, int]]] = {
    "masked_tokens": lambda starts_word, config: (np.ones_like(starts_word), 1),
    "masked_words": lambda starts_word, config: (starts_word, 1),
    "masked_ngrams": lambda starts_word, config: (starts_word, config.maximum_ngram),
}
"""(bool [V] pieces that begin a word, config) -> (bool [V] those that do for this kind, most words of a unit)."""
