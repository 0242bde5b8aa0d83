"""The protocol buffer that a sentencepiece model file holds."""

from typing import Any

from sentencepiece import sentencepiece_model_pb2

WORD_START = "\N{LOWER ONE EIGHTH BLOCK}"
"""Stands for a space in pieces."""
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""``ModelProto.SentencePiece.Type``."""
UNIGRAM, BYTE_PAIR = 1, 2
"""``TrainerSpec.ModelType``."""


def model_proto(model: bytes) -> Any:
    """Return the ``ModelProto`` of a model: its pieces, normalizer_spec and trainer_spec."""
    return sentencepiece_model_pb2.ModelProto.FromString(model)  # pyright: ignore[reportAttributeAccessIssue]
