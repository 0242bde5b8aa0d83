"""A faster encoder of sentencepiece models, for models and texts for which its ids equal sentencepiece's.

It encodes texts whose characters are normalized independently of each other; texts with combining marks, joiners, emoji
or control characters are left to sentencepiece.
"""

import unicodedata
from itertools import chain
from typing import Any

import numpy as np

from data_pipeline.compiled import encoding
from data_pipeline.compiled.trie import build_trie
from data_pipeline.ragged import Ragged
from data_pipeline.tokenizers.sentencepiece_proto import (
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
"""What sentencepiece takes off the least score for a character that is in no piece."""

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
"""Code points that are looked at: Latin, Greek and Cyrillic letters, punctuation, signs, kana, ideographs, Hangul."""

CACHED_WORDS = 1 << 20
"""Rows of the cache of words, 64 MB in all; a power of two."""
MOST_PIECES = 1 << int(encoding.ID_BITS)
"""Pieces whose ids fit the table of pairs."""


class FastEncoder:
    """A sentencepiece model in arrays, for the compiled loops of ``compiled/encoding.py``."""

    def __init__(self, proto: Any, processor: Any):
        mark = chr(encoding.MARK)
        normal = sorted(
            (piece.piece.replace(WORD_START, mark).encode(), token)
            for token, piece in enumerate(proto.pieces)
            if piece.type == NORMAL
        )
        pieces, starts = Ragged.of_bytes(text for text, _ in normal)
        values = np.array([token for _, token in normal], np.int32)
        trie = build_trie(pieces, starts, values)
        scores = np.array([*(piece.score for piece in proto.pieces), -np.inf], np.float32)
        self._model = trie, scores, encoding.build_pairs(pieces, starts, values, trie)
        self._normal = _replacements(processor)
        least = np.float32(min(piece.score for piece in proto.pieces if piece.type == NORMAL))
        spelled = {int(piece.piece[1:-1], 16): token for token, piece in enumerate(proto.pieces) if piece.type == BYTE}
        byte_ids = np.array([spelled.get(byte, -1) for byte in range(256)], np.int32)
        self._unknown = (np.float32(least - UNKNOWN_PENALTY), proto.trainer_spec.unk_id, byte_ids)
        self._cache = _rows_of_words(CACHED_WORDS)
        self._kind = proto.trainer_spec.model_type

    def encode_spans(
        self, data: np.ndarray, spans: np.ndarray, marks: np.ndarray, dtype: type[np.unsignedinteger]
    ) -> tuple[Ragged, np.ndarray]:
        """Ids of texts -> (rows, int64 numbers of the rows that sentencepiece must encode instead).

        Args:
            data: uint8 UTF-8; a newline counts as a space.
            spans: int64 [texts, 2]: first byte of each text, and the one after the last.
            marks: bool [texts]: whether the first word of a text gets a mark too.
            dtype: of the ids.
        """
        blocks = np.zeros((len(data) + encoding.READ_AHEAD) // 8 + 1, np.uint64)
        padded = blocks.view(np.uint8)
        padded[: len(data)] = data
        ids = np.empty(int((spans[:, 1] - spans[:, 0]).sum()) + len(spans) + encoding.KEPT_IDS, dtype)
        ends, left = encoding.encode(
            self._kind,
            padded,
            blocks,
            spans,
            marks,
            self._normal,
            self._model,
            self._unknown,
            self._cache,
            ids,
        )
        return Ragged(ids[: ends[-1]], ends), np.flatnonzero(left)


def _rows_of_words(rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An empty cache, as the same memory of three types; no row lies in two lines of the processor's cache."""
    size = encoding.ROW_BYTES
    memory = np.zeros((rows + 1) * size, np.uint8)
    begin = -memory.ctypes.data % size
    aligned = memory[begin : begin + rows * size]
    return aligned.view(np.uint64), aligned.view(np.uint32), aligned.view(np.float32)


def fast_encoder(proto: Any, processor: Any) -> FastEncoder | None:
    """The fast engine of a model; None where the model is of another make.

    Args:
        proto: the model.
        processor: sentencepiece's processor of it, with a dummy prefix.
    """
    return FastEncoder(proto, processor) if _fits(proto) else None


def _fits(proto: Any) -> bool:
    """The usual spaces, no piece across words, and no piece that is matched before normalising."""
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
    """Whether each character of a piece is a piece, so that byte pairs are always made of two pieces."""
    normal = [piece.piece for piece in proto.pieces if piece.type == NORMAL]
    return proto.trainer_spec.model_type == UNIGRAM or set("".join(normal)) <= {
        each for each in normal if len(each) == 1
    }


def _replacements(processor: Any) -> tuple[np.ndarray, np.ndarray]:
    """(int64 [65536, 2] where the normalised bytes of a code point stand, or -1; those bytes)."""
    points = list(chain(*PLAIN))
    found = processor.Normalize([f"a{chr(point)}a" for point in points])
    places = np.full((0x10000, 2), -1, np.int64)
    good = [
        (point, text[2:-1].encode())
        for point, text in zip(points, found, strict=True)
        if text[:2] == WORD_START + "a" and text[-1] == "a" and _stands_alone(chr(point), text[2:-1])
    ]
    normal = Ragged.of_bytes(text for _, text in good)
    places[[point for point, _ in good]] = normal.spans
    return places, normal.values


def _stands_alone(character: str, normal: str) -> bool:
    """Whether nothing beside a character changes what it becomes; and that is not longer, for buffers are made so."""
    marks = any(unicodedata.combining(each) for each in character + normal)
    return bool(normal) and WORD_START not in normal and not marks and len(normal.encode()) <= len(character.encode())
