"""A faster encoder of sentencepiece models, for models and texts for which its ids equal sentencepiece's.

It encodes texts whose characters are normalized independently of each other; texts with combining marks, joiners, emoji
or control characters are left to sentencepiece.
"""

import unicodedata
from itertools import chain
from typing import Any

import numpy as np

from sesame.data_pipeline.compiled.byte_pairs import ID_BITS, build_pairs
from sesame.data_pipeline.compiled.encoding import Model, Unknown, encode
from sesame.data_pipeline.compiled.normalization import MARK
from sesame.data_pipeline.compiled.trie import build_trie
from sesame.data_pipeline.compiled.word_cache import KEPT_IDS, READ_AHEAD, new_cache
from sesame.data_pipeline.ragged import Ragged
from sesame.data_pipeline.tokenizers.engine import Dtype
from sesame.data_pipeline.tokenizers.sentencepiece_proto import (
    BYTE,
    BYTE_PAIR,
    CONTROL,
    NORMAL,
    UNIGRAM,
    UNKNOWN,
    WORD_START,
)

CONTROLS = frozenset(map(chr, range(32)))
UNKNOWN_PENALTY = np.float32(10)
"""sentencepiece's penalty below the least score for a character that is in no piece."""

PLAIN = (
    range(0x21, 0x7F),
    range(0xA1, 0x300),
    range(0x370, 0x483),
    range(0x2010, 0x2028),
    range(0x2030, 0x205F),
    range(0x20A0, 0x20C1),
    range(0x2190, 0x2600),
    range(0x3001, 0x3021),
    range(0x3041, 0x3097),
    range(0x30A1, 0x3100),
    range(0x3400, 0x4DC0),
    range(0x4E00, 0xA000),
    range(0xAC00, 0xD7A4),
    range(0xFF01, 0xFF5F),
)
"""Supported code points: Latin, Greek and Cyrillic letters, punctuation, symbols, kana, ideographs, Hangul."""

CACHED_WORDS = 1 << 20
"""Rows of the word cache, 64 MB in all; a power of two."""
MOST_PIECES = 1 << int(ID_BITS)
"""Largest vocabulary whose ids fit the table of merges."""


class FastEncoder:
    """A sentencepiece model as arrays for the compiled loops."""

    def __init__(self, proto: Any, processor: Any):
        mark = chr(MARK)
        normal = sorted(
            (piece.piece.replace(WORD_START, mark).encode(), token)
            for token, piece in enumerate(proto.pieces)
            if piece.type == NORMAL
        )
        pieces, starts = Ragged.of_bytes(text for text, _ in normal)
        values = np.array([token for _, token in normal], np.int32)
        trie = build_trie(pieces, starts, values)
        least = np.float32(min(piece.score for piece in proto.pieces if piece.type == NORMAL))
        byte_ids = {int(piece.piece[1:-1], 16): token for token, piece in enumerate(proto.pieces) if piece.type == BYTE}
        self._model = Model(
            proto.trainer_spec.model_type,
            trie,
            np.array([*(piece.score for piece in proto.pieces), -np.inf], np.float32),
            build_pairs(pieces, starts, values, trie),
            *_normalized_characters(processor),
            Unknown(
                np.float32(least - UNKNOWN_PENALTY),
                proto.trainer_spec.unk_id,
                np.array([byte_ids.get(byte, -1) for byte in range(256)], np.int32),
            ),
        )
        self._cache = new_cache(CACHED_WORDS)

    def encode_spans(
        self, data: np.ndarray, spans: np.ndarray, marked: np.ndarray, dtype: Dtype
    ) -> tuple[Ragged, np.ndarray]:
        """Encode spans of text.

        Args:
            data: uint8 UTF-8; a newline counts as a space.
            spans: int64 [spans, 2]: first byte of each, and the one after the last.
            marked: bool [spans]: whether the first word of a span gets a mark too.
            dtype: of the ids.

        Returns:
            (a row of ids for each span, int64 numbers of the spans that sentencepiece must encode instead).
        """
        blocks = np.zeros((len(data) + READ_AHEAD) // 8 + 1, np.uint64)
        padded = blocks.view(np.uint8)
        padded[: len(data)] = data
        ids = np.empty(int((spans[:, 1] - spans[:, 0]).sum()) + len(spans) + KEPT_IDS, dtype)
        ends, skipped = encode(padded, blocks, spans, marked, self._model, self._cache, ids)
        return Ragged(ids[: ends[-1]], ends), np.flatnonzero(skipped)


def fast_encoder(proto: Any, processor: Any) -> FastEncoder | None:
    """Return the fast encoder of a model; None if the model is not supported.

    Args:
        proto: the model.
        processor: sentencepiece's processor of it, with a dummy prefix.
    """
    return FastEncoder(proto, processor) if _is_supported(proto) else None


def _is_supported(proto: Any) -> bool:
    """Default rules for spaces, no piece across words, and no piece that is matched before normalization."""
    normalizer, trainer = proto.normalizer_spec, proto.trainer_spec
    return (
        trainer.model_type in (UNIGRAM, BYTE_PAIR)
        and normalizer.name in ("nmt_nfkc", "nmt_nfkc_cf")
        and normalizer.remove_extra_whitespaces
        and normalizer.escape_whitespaces
        and not trainer.treat_whitespace_as_suffix
        and all(piece.type in (NORMAL, UNKNOWN, CONTROL, BYTE) for piece in proto.pieces)
        and any(piece.piece == WORD_START for piece in proto.pieces)
        and _has_each_character(proto)
        and len(proto.pieces) <= MOST_PIECES
        and not any(WORD_START in piece.piece[1:] for piece in proto.pieces)
        and not any(set(piece.piece) & CONTROLS for piece in proto.pieces)
    )


def _has_each_character(proto: Any) -> bool:
    """Whether each character of a piece is a piece, so that every piece is a merge of two others."""
    normal = [piece.piece for piece in proto.pieces if piece.type == NORMAL]
    return proto.trainer_spec.model_type == UNIGRAM or set("".join(normal)) <= {
        each for each in normal if len(each) == 1
    }


def _normalized_characters(processor: Any) -> tuple[np.ndarray, np.ndarray]:
    """(int64 [65536, 2] span of the normalized bytes of each code point, -1 if it is not supported; uint8 bytes)."""
    points = list(chain(*PLAIN))
    normalized = processor.Normalize([f"a{chr(point)}a" for point in points])
    places = np.full((0x10000, 2), -1, np.int64)
    supported = [
        (point, text[2:-1].encode())
        for point, text in zip(points, normalized, strict=True)
        if text[:2] == WORD_START + "a" and text[-1] == "a" and _is_independent(chr(point), text[2:-1])
    ]
    replacements = Ragged.of_bytes(text for _, text in supported)
    places[[point for point, _ in supported]] = replacements.spans
    return places, replacements.values


def _is_independent(character: str, normal: str) -> bool:
    """Whether a character is normalized independently of its neighbors, and to no more bytes (buffers rely on it)."""
    marks = any(unicodedata.combining(each) for each in character + normal)
    return bool(normal) and WORD_START not in normal and not marks and len(normal.encode()) <= len(character.encode())
