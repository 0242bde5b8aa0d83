"""The role of an engine, which encodes and decodes text with the content of a tokenizer file."""

from collections.abc import Sequence
from itertools import chain
from typing import Protocol

import numpy as np

from sesame.data_pipeline.ragged import Ragged, boundaries
from sesame.data_pipeline.tokenizers.chunks import SpaceRules

Dtype = type[np.uint16] | type[np.uint32]
"""Of token ids."""


class Engine(Protocol):
    """Encodes and decodes text. Special tokens are never made from text."""

    @property
    def vocabulary_size(self) -> int: ...

    @property
    def space_rules(self) -> SpaceRules:
        """How white space at the ends of a text is encoded."""
        ...

    @property
    def encodes_every_character(self) -> bool:
        """Unknown characters are encoded as bytes, not as the unknown token."""
        ...

    @property
    def drops_spaces(self) -> bool:
        """The ids show where words end but not whether white space was there."""
        ...

    @property
    def has_only_end_of_text(self) -> bool:
        """GPT-2's vocabulary: one special token for all roles, no mask."""
        ...

    def encode(self, texts: Sequence[str], marked: Sequence[bool] | None = None) -> list[list[int]]:
        """Return the ids of each text.

        Args:
            texts: to encode.
            marked: whether white space is added to each text; None for the tokenizer's own setting.
        """
        ...

    def encode_ranges(self, texts: Sequence[str]) -> list[tuple[list[int], list[tuple[int, int]]]]:
        """Return the ids of each text with the tokenizer's own setting, and for each id the first character that it was
        made of and the one after the last."""
        ...

    def encode_spans(self, data: np.ndarray, spans: np.ndarray, marked: np.ndarray, dtype: Dtype) -> Ragged:
        """Return the ids of spans of a text, a row for each.

        Args:
            data: uint8 UTF-8.
            spans: int64 [spans, 2]: first byte of each and the one after the last.
            marked: bool [spans]: whether white space is added to each.
            dtype: of the ids.
        """
        ...

    def decode(self, ids: Sequence[int]) -> str: ...

    def piece(self, token: int) -> str:
        """Return the piece of an id as the tokenizer's file has it."""
        ...

    def piece_id(self, piece: str) -> int:
        """Return the id of a piece; that of another piece where the vocabulary lacks it."""
        ...

    def piece_bytes(self, token: int) -> bytes:
        """Return the UTF-8 of a piece in the middle of a text, its white space included."""
        ...

    def is_text(self, token: int) -> bool:
        """Return whether text can contain the piece."""
        ...

    def is_marked(self, token: int) -> bool:
        """Return whether the piece itself shows that a word begins with it."""
        ...

    def starts_word(self, token: int) -> bool:
        """Return whether a word begins with the piece wherever it stands."""
        ...

    def ends_word(self, token: int) -> bool:
        """Return whether a word ends with the piece wherever it stands."""
        ...

    def normalize(self, text: str) -> str:
        """Return a text after the tokenizer's own normalization."""
        ...


def id_rows(encoded: Sequence[Sequence[int]], dtype: Dtype) -> Ragged:
    """Return lists of ids as rows of one array."""
    offsets = boundaries(np.fromiter(map(len, encoded), np.int64, len(encoded)))
    return Ragged(np.fromiter(chain.from_iterable(encoded), dtype, offsets[-1]), offsets)
