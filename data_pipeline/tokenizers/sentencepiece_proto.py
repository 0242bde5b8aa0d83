"""The protocol buffer that a sentencepiece model file holds."""

from typing import Any

import numpy as np
from sentencepiece import sentencepiece_model_pb2, sentencepiece_pb2

WORD_START = "\N{LOWER ONE EIGHTH BLOCK}"
"""Stands for a space in pieces."""
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""``ModelProto.SentencePiece.Type``."""
UNIGRAM, BYTE_PAIR = 1, 2
"""``TrainerSpec.ModelType``."""


def model_proto(model: bytes) -> Any:
    """Return the ``ModelProto`` of a model: its pieces, normalizer_spec and trainer_spec."""
    return sentencepiece_model_pb2.ModelProto.FromString(model)  # pyright: ignore[reportAttributeAccessIssue]


def with_ranges(encoded: bytes, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Return the ids of a ``SentencePieceText``, and the characters of ``text`` that each was made of; it has bytes."""
    pieces = sentencepiece_pb2.SentencePieceText.FromString(encoded).pieces  # pyright: ignore[reportAttributeAccessIssue]
    data = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
    # A byte that does not continue a character begins one.
    characters = np.concatenate([[0], np.cumsum((data & 0xC0) != 0x80)])
    starts, ends = (characters[[getattr(piece, name) for piece in pieces]] for name in ("begin", "end"))
    return [piece.id for piece in pieces], list(zip(starts.tolist(), ends.tolist(), strict=True))
