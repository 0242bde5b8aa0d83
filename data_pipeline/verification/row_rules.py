"""What the rows of a split have to satisfy, from the manifest and the tokenizer."""

import re
from typing import Any, NamedTuple, Self

import numpy as np

from sesame.data_pipeline.dataset.manifest import Manifest
from sesame.data_pipeline.ragged import Columns, Ragged
from sesame.data_pipeline.verification.reference_tokenizer import ReferenceTokenizer

PAIRS = ("next_sentence", "sentence_order")
"""Kinds of segments whose rows have two segments and a label."""
SENTINEL = re.compile(r"<extra_id_(\d+)>")
WHOLE_WORDS = ("masked_words", "masked_ngrams")
"""Kinds of corruption that mask all pieces of a word or none."""


class RowRules(NamedTuple):
    """What the rows of one split have to satisfy."""

    special: dict[str, int]
    """Role of a special token -> id."""
    vocabulary_size: int
    longest: int
    """Maximum tokens of a row."""
    segment_kind: str
    corrupt: dict[str, Any]
    """Section of the recipe."""
    special_tokens: int
    """Special tokens in each row."""
    documents: np.ndarray
    """uint64 [documents of the split]: equal if two numbers are of one document."""
    tokenizer: ReferenceTokenizer
    sentinels: np.ndarray
    """int64: ids of the sentinels, in order."""

    @classmethod
    def of(cls, manifest: Manifest, tokenizer: ReferenceTokenizer, documents: np.ndarray) -> Self:
        segment = manifest.recipe["segment"]
        return cls(
            manifest.tokenizer.special,
            manifest.tokenizer.vocabulary_size,
            segment["sequence_length"],
            segment["kind"],
            manifest.recipe["corrupt"],
            special_tokens(manifest),
            documents,
            tokenizer,
            sentinels(manifest.tokenizer.special),
        )


def sentinels(special: dict[str, int]) -> np.ndarray:
    """Return int64: the ids that stand for masked spans, in the order of their numbers."""
    numbered = [(int(match[1]), token) for name, token in special.items() if (match := SENTINEL.fullmatch(name))]
    return np.array([token for _, token in sorted(numbered)], np.int64)


def special_tokens(manifest: Manifest) -> int:
    """Return the number of special tokens of each row: [CLS] a [SEP], or [CLS] a [SEP] b [SEP] for pairs."""
    return 3 if manifest.recipe["segment"]["kind"] in PAIRS else 2


def row_of_value(column: Ragged) -> np.ndarray:
    """Return int64 [values]: the row of each value."""
    return np.repeat(np.arange(len(column.lengths)), column.lengths)


def count_by_row(condition: np.ndarray, rows_of_values: np.ndarray, rows: int) -> np.ndarray:
    """Return int64 [rows]: how many values of each row satisfy ``condition`` (bool [values])."""
    return np.bincount(rows_of_values[condition], minlength=rows)


def ragged(columns: Columns, name: str) -> Ragged:
    column = columns[name]
    assert isinstance(column, Ragged)
    return column
