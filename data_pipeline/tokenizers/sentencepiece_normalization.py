"""Normalization that transformers applies before a sentencepiece model (AlbertTokenizer's case and accents), compiled
into the model's own rules."""

import base64
import tempfile
import unicodedata
from functools import cache
from pathlib import Path
from typing import Any

import sentencepiece

from sesame.data_pipeline.tokenizers.huggingface_engine import library_normalize, steps
from sesame.data_pipeline.tokenizers.sentencepiece_proto import model_proto

FOLDING = ("Lowercase", "StripAccents")
"""Steps of a normalizer that are not in a sentencepiece model beside it."""
CHARACTER_STEPS = (*FOLDING, "NFD", "NFKD", "NFC", "NFKC", "Nmt", "Precompiled")
"""Steps that change characters and not the white space between words."""
QUOTES = tuple({"type": "Replace", "pattern": {"String": each}, "content": '"'} for each in ("``", "''"))
"""AlbertTokenizer's replacement of LaTeX quotation marks."""
NAME = "nfkc_folded"


def with_folding(model: bytes, tokenizer_json: dict[str, Any], settings: dict[str, Any]) -> bytes:
    """Return ``model`` with the folding of its ``tokenizer.json``, or of its ``tokenizer_config.json`` without one;
    ``model`` itself if there is none."""
    has_json = "model" in tokenizer_json
    parts = steps(tokenizer_json.get("normalizer")) if has_json else _albert_steps(model, settings)
    if not any(part["type"] in FOLDING for part in parts):
        return model
    single = [part for part in parts if part["type"] in CHARACTER_STEPS]
    assigned = _assigned_characters()
    normalized = library_normalize({"type": "Sequence", "normalizers": single}, assigned)
    rules = {old: new for old, new in zip(assigned, normalized, strict=True) if old != new}
    # Decomposed, they are the same characters.
    rules |= {
        decomposed: new
        for old, new in zip(assigned, normalized, strict=True)
        if (decomposed := unicodedata.normalize("NFD", old)) != new
    }
    strings = [part for part in parts if part["type"] == "Replace" and len(part["pattern"].get("String", "")) > 1]
    proto = model_proto(model)
    proto.normalizer_spec.name = NAME
    proto.normalizer_spec.precompiled_charsmap = compile_rules(
        rules | {part["pattern"]["String"]: part["content"] for part in strings}
    )
    return proto.SerializeToString(deterministic=True)


def _albert_steps(model: bytes, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """The normalizer steps of AlbertTokenizer if that is the class of the folder."""
    if not str(settings.get("tokenizer_class")).startswith("Albert"):
        return []
    accents = [] if settings.get("keep_accents") else [{"type": "NFKD"}, {"type": "StripAccents"}]
    case = [{"type": "Lowercase"}] if settings.get("do_lower_case", True) else []
    table = base64.b64encode(model_proto(model).normalizer_spec.precompiled_charsmap).decode()
    return [*QUOTES, *accents, *case, {"type": "Precompiled", "precompiled_charsmap": table}]


def compile_rules(rules: dict[str, str]) -> bytes:
    """Return sentencepiece's ``precompiled_charsmap`` of replacements, in which the longest match wins."""

    def points(text: str) -> str:
        return " ".join(f"{ord(each):X}" for each in text)

    sentencepiece.set_min_log_level(2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rules.tsv"
        path.write_text("".join(f"{points(old)}\t{points(new)}\n" for old, new in sorted(rules.items())))
        normalizer: Any = sentencepiece.SentencePieceNormalizer(rule_tsv=str(path))
    return model_proto(normalizer.serialized_model_proto()).normalizer_spec.precompiled_charsmap


@cache
def _assigned_characters() -> list[str]:
    return [chr(point) for point in range(0x110000) if unicodedata.category(chr(point)) not in ("Cn", "Cs", "Co")]
