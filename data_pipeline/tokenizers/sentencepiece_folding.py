"""Folding that transformers does before a sentencepiece model (AlbertTokenizer's case and accents), put into it."""

import base64
import unicodedata
from functools import cache
from typing import Any

from data_pipeline.tokenizers.fast_encoding import model_proto
from data_pipeline.tokenizers.sentencepiece_model import compiled_rules
from data_pipeline.tokenizers.vocabulary_engine import library_normalized, steps

FOLDING = ("Lowercase", "StripAccents")
"""Steps of a normalizer that a sentencepiece model beside it does not know of."""
OF_CHARACTERS = (*FOLDING, "NFD", "NFKD", "NFC", "NFKC", "Nmt", "Precompiled")
"""Steps that change characters and not the white space between words."""
QUOTES = tuple({"type": "Replace", "pattern": {"String": each}, "content": '"'} for each in ("``", "''"))
"""What AlbertTokenizer makes of LaTeX's quotation marks."""
NAME = "nfkc_folded"


def folded(model: bytes, whole: dict[str, Any], settings: dict[str, Any]) -> bytes:
    """``model`` with the folding that its ``tokenizer.json``, or else its ``tokenizer_config.json``, asks for; itself
    where that is none."""
    parts = steps(whole.get("normalizer")) if "model" in whole else _alberts(model, settings)
    if not any(part["type"] in FOLDING for part in parts):
        return model
    single = [part for part in parts if part["type"] in OF_CHARACTERS]
    assigned = _assigned()
    found = library_normalized({"type": "Sequence", "normalizers": single}, assigned)
    rules = {old: new for old, new in zip(assigned, found, strict=True) if old != new}
    # Written apart they are the same characters.
    rules |= {apart: new for old, new in zip(assigned, found, strict=True) if (apart := _apart(old)) != new}
    strings = [part for part in parts if part["type"] == "Replace" and len(part["pattern"].get("String", "")) > 1]
    proto = model_proto(model)
    proto.normalizer_spec.name = NAME
    proto.normalizer_spec.precompiled_charsmap = compiled_rules(
        rules | {part["pattern"]["String"]: part["content"] for part in strings}
    )
    return proto.SerializeToString(deterministic=True)


@cache
def _assigned() -> list[str]:
    """All assigned characters. A function, because finding them takes 0.1 s."""
    return [chr(point) for point in range(0x110000) if unicodedata.category(chr(point)) not in ("Cn", "Cs", "Co")]


def _apart(character: str) -> str:
    return unicodedata.normalize("NFD", character)


def _alberts(model: bytes, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """The steps of AlbertTokenizer, where that is the class."""
    if not str(settings.get("tokenizer_class")).startswith("Albert"):
        return []
    accents = [] if settings.get("keep_accents") else [{"type": "NFKD"}, {"type": "StripAccents"}]
    case = [{"type": "Lowercase"}] if settings.get("do_lower_case", True) else []
    table = base64.b64encode(model_proto(model).normalizer_spec.precompiled_charsmap).decode()
    return [*QUOTES, *accents, *case, {"type": "Precompiled", "precompiled_charsmap": table}]
