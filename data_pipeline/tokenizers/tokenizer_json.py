"""Converts a tokenizer to Hugging Face's ``tokenizer.json``.

Written here and not by the library, so that its bytes do not depend on the library's version.
"""

import base64
import json
import unicodedata
from collections.abc import Sequence
from typing import Any

from google.protobuf.message import DecodeError

from sesame.configs.errors import ConfigError
from sesame.data_pipeline.tokenizers.load_engine import is_tokenizer_json
from sesame.data_pipeline.tokenizers.sentencepiece_proto import (
    BYTE,
    BYTE_PAIR,
    CONTROL,
    NORMAL,
    UNIGRAM,
    UNKNOWN,
    USER_DEFINED,
    WORD_START,
    model_proto,
)

MARKED = {"type": "Metaspace", "replacement": WORD_START, "prepend_scheme": "never", "split": True}
"""Splits before each word; the mark is already there."""
UNMARKED = {**MARKED, "prepend_scheme": "always"}
"""Decodes marks as spaces, without the first."""
KNOWN = {
    UNIGRAM: (NORMAL, UNKNOWN, CONTROL, BYTE, USER_DEFINED),
    BYTE_PAIR: (NORMAL, UNKNOWN, CONTROL, BYTE),
}
"""Type of model -> types of pieces that Hugging Face's library supports."""
VOICED = {
    kana + mark: whole
    for kana in map(chr, range(0xFF66, 0xFF9E))
    for mark in "\uff9e\uff9f"
    if len(whole := unicodedata.normalize("NFKC", kana + mark)) == 1
}
"""Half-width kana with a mark -> one character. The library applies sentencepiece's table to grapheme clusters, and to
the characters of long ones, so sequences of several characters are composed before."""
BYTES = ({"type": "ByteFallback"}, {"type": "Fuse"})


def base(model: bytes, name: str) -> dict[str, Any]:
    """Return the parts of a ``tokenizer.json``, without special tokens or template.

    Raises:
        ConfigError: the model is of a type that Hugging Face's library does not support.
    """
    if is_tokenizer_json(model):
        return json.loads(model)
    try:
        proto = model_proto(model)
    except DecodeError:
        raise ConfigError(f"{name}: is no tokenizer; give a sentencepiece model or a prepared dataset's file") from None
    known = KNOWN.get(proto.trainer_spec.model_type, ())
    if not proto.pieces or any(piece.type not in known for piece in proto.pieces):
        raise ConfigError(
            f"{name}: is neither a unigram nor a BPE model of ordinary pieces; train one here (tokenizer.kind) to "
            "export it"
        )
    _check_settings(proto, name)
    byte_fallback = proto.trainer_spec.byte_fallback
    across = any(WORD_START in piece.piece[1:] for piece in proto.pieces if piece.type == NORMAL)
    marked = {**MARKED, "split": not across}
    unmarked = UNMARKED if proto.normalizer_spec.add_dummy_prefix else MARKED
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {"type": "Sequence", "normalizers": _normalizers(proto.normalizer_spec)},
        "pre_tokenizer": marked,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": [*BYTES, unmarked]} if byte_fallback else unmarked,
        "model": (_unigram if proto.trainer_spec.model_type == UNIGRAM else _byte_pairs)(proto),
    }


def _check_settings(proto: Any, name: str) -> None:
    """Refuse settings that the library does not support."""
    settings = {
        "treat_whitespace_as_suffix": proto.trainer_spec.treat_whitespace_as_suffix,
        "escape_whitespaces = false": not proto.normalizer_spec.escape_whitespaces,
    }
    for setting, used in settings.items():
        if used:
            raise ConfigError(
                f"{name}: has {setting}, which Hugging Face's tokenizers cannot do; train one here (tokenizer.kind) to "
                "export it"
            )


def pieces(parts: dict[str, Any]) -> list[str]:
    """Return the pieces in the order of their ids."""
    vocabulary = parts["model"]["vocab"]
    return list(vocabulary) if isinstance(vocabulary, dict) else [piece for piece, _ in vocabulary]


def with_special(
    parts: dict[str, Any], special: dict[str, int], stripping: Sequence[str], template: Sequence[tuple[str, int]]
) -> dict[str, Any]:
    """Add special tokens and the template.

    Args:
        parts: from ``base``.
        special: special piece -> id.
        stripping: those of them that strip the space before them.
        template: (special piece, or ``A`` or ``B`` for a text; its type id) of a pair. The template of a single text
            is the part before ``B``.
    """
    unusual = {token["content"]: token["id"] for token in parts["added_tokens"]}
    order = sorted((unusual | special).items(), key=lambda item: item[1])
    pair = [
        {"Sequence" if piece in ("A", "B") else "SpecialToken": {"id": piece, "type_id": kind}}
        for piece, kind in template
    ]
    used = {piece: special[piece] for piece, _ in template if piece in special}
    return {
        **parts,
        "added_tokens": [
            {
                "id": token,
                "content": piece,
                "single_word": False,
                "lstrip": piece in stripping,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for piece, token in order
        ],
        "post_processor": {
            "type": "TemplateProcessing",
            "single": pair[: [piece for piece, _ in template].index("B")],
            "pair": pair,
            "special_tokens": {
                piece: {"id": piece, "ids": [token], "tokens": [piece]} for piece, token in used.items()
            },
        },
    }


def _normalizers(settings: Any) -> list[dict[str, Any]]:
    """The replacement of characters, then sentencepiece's rules for spaces."""
    steps: list[dict[str, Any]] = []
    if settings.precompiled_charsmap:
        if "nfkc" in settings.name:
            steps = [{"type": "NFC"}, *(_replace({"String": kana}, whole) for kana, whole in VOICED.items())]
        table = base64.b64encode(settings.precompiled_charsmap).decode()
        steps.append({"type": "Precompiled", "precompiled_charsmap": table})
    if settings.remove_extra_whitespaces:
        steps += [_replace({"Regex": r"\A +| +\z"}, ""), _replace({"Regex": " {2,}"}, " ")]
    if settings.add_dummy_prefix:
        steps.append({"type": "Prepend", "prepend": WORD_START})
    return [*steps, _replace({"String": " "}, WORD_START)]


def _replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def _unigram(proto: Any) -> dict[str, Any]:
    best = max((piece.score for piece in proto.pieces if piece.type == NORMAL), default=0.0)

    def score(piece: Any) -> float:
        # sentencepiece replaces the score of user-defined pieces by this one.
        return len(piece.piece.encode()) * best - 0.1 if piece.type == USER_DEFINED else piece.score

    return {
        "type": "Unigram",
        "unk_id": proto.trainer_spec.unk_id,
        "vocab": [[piece.piece, score(piece)] for piece in proto.pieces],
        "byte_fallback": proto.trainer_spec.byte_fallback,
    }


def _byte_pairs(proto: Any) -> dict[str, Any]:
    """Each piece can be a merge of any two others; sentencepiece merges to the piece of the highest score first."""
    scores = {piece.piece: piece.score for piece in proto.pieces if piece.type == NORMAL}
    merges = [
        [piece[:cut], piece[cut:]]
        for piece in sorted(scores, key=lambda piece: -scores[piece])
        for cut in range(1, len(piece))
        if piece[:cut] in scores and piece[cut:] in scores
    ]
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": next(piece.piece for piece in proto.pieces if piece.type == UNKNOWN),
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": proto.trainer_spec.byte_fallback,
        "ignore_merges": False,
        "vocab": {piece.piece: token for token, piece in enumerate(proto.pieces)},
        "merges": merges,
    }
