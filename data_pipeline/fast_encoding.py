"""A faster engine for sentencepiece's byte-pair models, used only where its ids are shown to be sentencepiece's own."""

import base64
import json
import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from sentencepiece import sentencepiece_model_pb2

from data_pipeline.columns import Ragged

WORD_START = "\N{LOWER ONE EIGHTH BLOCK}"
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6
"""Kinds of pieces in a sentencepiece model."""

BYTE_PAIR = 2
"""Number of the kind of model, as sentencepiece writes it."""

PRINTED = r"!-~\u00c0-\u00ff\u2013-\u201d\u2026\u3001-\u3020\u4e00-\u9fff\uff01-\uff5e"
PLAIN = re.compile(f" *[{PRINTED}][ {PRINTED}]*")
"""Texts of these characters are encoded fast: Latin letters, usual punctuation, common ideographs. Combining marks,
joiners, emoji, control characters, blank texts and the rest go to sentencepiece, where normalising has corners."""

LONGEST = 4096
"""Longer texts, in characters, go to sentencepiece."""


class FastBytePair:
    """splintr with the vocabulary, merges and normalisation of a sentencepiece model."""

    def __init__(self, description: bytes, unknown: int):
        # One thread: the pipeline already runs one process a core. The pool reads this when it first starts.
        os.environ.setdefault("RAYON_NUM_THREADS", "1")
        import splintr

        self._engine = splintr.from_json_bytes(description)
        self._unknown = unknown

    def encode(self, texts: Sequence[str]) -> tuple[Ragged, np.ndarray]:
        """Ids of ``texts`` -> (uint32 rows, int64 numbers of the rows that sentencepiece must encode instead)."""
        safe = [len(text) <= LONGEST and PLAIN.fullmatch(text) is not None for text in texts]
        given = [text if good else "" for text, good in zip(texts, safe, strict=True)]
        values, offsets = self._engine.encode_batch_flat(given)
        rows = Ragged(np.frombuffer(values, np.uint32), np.frombuffer(offsets, np.uint64).astype(np.int64))
        left = ~np.array(safe, bool)
        # Runs of unknown characters are joined by rules of their own.
        places = np.flatnonzero(rows.values == self._unknown)
        left[np.searchsorted(rows.offsets, places, side="right") - 1] = True
        return rows, np.flatnonzero(left)


def fast_engine(model: bytes) -> FastBytePair | None:
    """The fast engine for a model, or None where splintr is not installed or the model is of another make."""
    proto: Any = sentencepiece_model_pb2.ModelProto.FromString(model)  # pyright: ignore[reportAttributeAccessIssue]
    if not _fits(proto):
        return None
    try:
        return FastBytePair(_description(proto), proto.trainer_spec.unk_id)
    except ImportError:
        return None


def _fits(proto: Any) -> bool:
    """Byte pairs with the usual spaces, no piece across words, and no piece that is matched before normalising."""
    normalizer, trainer = proto.normalizer_spec, proto.trainer_spec
    return (
        trainer.model_type == BYTE_PAIR
        and normalizer.name in ("nmt_nfkc", "nmt_nfkc_cf")
        and normalizer.add_dummy_prefix
        and normalizer.remove_extra_whitespaces
        and normalizer.escape_whitespaces
        and not trainer.treat_whitespace_as_suffix
        and all(piece.type in (NORMAL, UNKNOWN, CONTROL, BYTE) for piece in proto.pieces)
        and not any(WORD_START in piece.piece[1:] for piece in proto.pieces)
    )


def _description(proto: Any) -> bytes:
    """The model in the JSON of the `tokenizers` library. Control symbols are no added tokens: text never makes them."""
    vocabulary = {piece.piece: token for token, piece in enumerate(proto.pieces)}
    normalizers = [
        {
            "type": "Precompiled",
            "precompiled_charsmap": base64.b64encode(proto.normalizer_spec.precompiled_charsmap).decode(),
        },
        {"type": "Strip", "strip_left": True, "strip_right": True},
        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
        {"type": "Prepend", "prepend": WORD_START},
        {"type": "Replace", "pattern": {"String": " "}, "content": WORD_START},
    ]
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": proto.trainer_spec.unk_piece,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": proto.trainer_spec.byte_fallback,
        "ignore_merges": False,
        "vocab": vocabulary,
        "merges": _merges(proto),
    }
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [],
            "normalizer": {"type": "Sequence", "normalizers": normalizers},
            "pre_tokenizer": None,
            "post_processor": None,
            "decoder": None,
            "model": model,
        }
    ).encode()


def _merges(proto: Any) -> list[tuple[str, str]]:
    """Every pair of pieces that make a piece, best score of the whole first: sentencepiece merges in that order."""
    scores = {piece.piece: piece.score for piece in proto.pieces if piece.type == NORMAL}
    pairs = [
        (score, -cut, whole[:cut], whole[cut:])
        for whole, score in scores.items()
        for cut in range(1, len(whole))
        if whole[:cut] in scores and whole[cut:] in scores
    ]
    pairs.sort(reverse=True)
    return [(left, right) for _, _, left, right in pairs]
