"""What a folder of transformers says of its tokenizer -> a sentencepiece model, or the parts of a description."""

import json
from pathlib import Path
from typing import Any

from configs.errors import ConfigError
from data_pipeline.fast_encoding import CONTROL, model_proto
from data_pipeline.tokenizer import SENTINEL
from data_pipeline.tokenizer_json import base, pieces
from data_pipeline.vocabulary_files import CONTINUES, byte_pairs, word_pieces, written

MODELS = ("spiece.model", "tokenizer.model", "sentencepiece.bpe.model")
"""Names of sentencepiece models in such folders."""
ACCEPTED = "a sentencepiece model, vocab.txt, vocab.json with merges.txt, or a tokenizer.json of one of the last two"


def json_object(path: Path) -> dict[str, Any]:
    """An object, empty where there is no file."""
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_bytes())
    except ValueError as error:
        raise ConfigError(f"{path}: is not JSON ({error}); copy it anew") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: is not a JSON object; copy it anew")
    return values


def sentencepiece_model(path: Path, whole: dict[str, Any], settings: dict[str, Any]) -> bytes:
    """A model whose pieces have the ids that transformers gives them, T5's sentinels among them."""
    model = path.read_bytes()
    names = pieces(base(model, str(path)))
    # XLM-R and its kin count the pieces of this file from another number.
    known = "model" in whole or path.name != MODELS[-1]
    if not known or ("model" in whole and pieces(whole)[: len(names)] != names):
        raise ConfigError(
            f"{path}: numbers its pieces otherwise than transformers does for this model, so its ids would not fit the "
            f"weights; give a folder with {ACCEPTED} that agrees with its tokenizer.json"
        )
    return _with_sentinels(model, names, pieces(whole)[len(names) :] if "model" in whole else _extra(settings))


def _extra(settings: dict[str, Any]) -> list[str]:
    """The sentinels that transformers puts behind the pieces of a T5 model, the last one first."""
    added = [*(settings.get("additional_special_tokens") or []), *(settings.get("added_tokens_decoder") or {}).values()]
    names = {token.get("content") if isinstance(token, dict) else token for token in added}
    count = settings.get("extra_ids") or sum(map(_is_sentinel, names))
    return [SENTINEL.format(number) for number in reversed(range(count))]


def _is_sentinel(name: Any) -> bool:
    return isinstance(name, str) and name.startswith(SENTINEL.partition("{")[0])


def _with_sentinels(model: bytes, names: list[str], behind: list[str]) -> bytes:
    """``model`` with the sentinels among ``behind`` as control pieces; itself where it has them or there are none."""
    new = [name for name in behind if _is_sentinel(name) and name not in names]
    if not new:
        return model
    proto = model_proto(model)
    for name in new:
        proto.pieces.add(piece=name, score=0.0, type=CONTROL)
    return proto.SerializeToString(deterministic=True)


def with_normalizer(
    parts: dict[str, Any], normalizer: dict[str, Any], settings: dict[str, Any], folder: Path
) -> dict[str, Any]:
    """A vocab.txt's description with the folding of ``tokenizer.json``, or else of ``tokenizer_config.json``."""
    if normalizer and normalizer.get("type") != "BertNormalizer":
        raise ConfigError(
            f"{folder}: tokenizer.json normalises as '{normalizer.get('type')}', and with word pieces only "
            "BertNormalizer is known; give a model that normalises as BERT's"
        )
    given = normalizer or {
        "lowercase": settings.get("do_lower_case", True),
        "strip_accents": settings.get("strip_accents"),
        "handle_chinese_chars": settings.get("tokenize_chinese_chars", True),
    }
    usual = parts["normalizer"]
    return {**parts, "normalizer": {key: given.get(key, value) for key, value in usual.items()}}


def composed(parts: dict[str, Any], normalizer: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Byte pairs with their normalisation: none, or characters composed (ModernBERT)."""
    if normalizer and normalizer.get("type") != "NFC":
        raise ConfigError(
            f"{folder}: tokenizer.json normalises as '{normalizer.get('type')}', and with byte pairs only NFC is "
            "known; give a model that normalises so, or not at all"
        )
    return {**parts, "normalizer": normalizer or None}


def from_json(whole: dict[str, Any], leading: bool, settings: dict[str, Any], folder: Path) -> bytes:
    """The description of a ``tokenizer.json`` that stands alone."""
    model, cut = whole.get("model") or {}, whole.get("pre_tokenizer") or {}
    normalizer = whole.get("normalizer") or {}
    kind = model.get("type"), cut.get("type")
    if kind == ("WordPiece", "BertPreTokenizer") and model.get("continuing_subword_prefix", CONTINUES) == CONTINUES:
        return written(with_normalizer(word_pieces(_whole(whole, folder), True), normalizer, settings, folder))
    if kind == ("BPE", "ByteLevel") and cut.get("use_regex", True) and not model.get("ignore_merges"):
        merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
        return written(composed(byte_pairs(_whole(whole, folder), merges, leading), normalizer, folder))
    raise ConfigError(
        f"{folder}: tokenizer.json has the model '{kind[0]}' cut by '{kind[1]}', which has no counterpart here; give "
        f"{ACCEPTED}"
    )


def _whole(whole: dict[str, Any], folder: Path) -> dict[str, int]:
    """Pieces in the order of their ids, with the tokens that were added behind them."""
    found = dict(whole["model"]["vocab"])
    for token in whole.get("added_tokens", []):
        if not token.get("special") and token["content"] not in found:
            raise ConfigError(
                f"{folder}: tokenizer.json adds {token['content']!r} to its vocabulary, which is found in a text "
                "before it is cut, and has no counterpart here; give a model whose added tokens are special ones"
            )
    found |= {token["content"]: token["id"] for token in whole.get("added_tokens", [])}
    ids = dict(sorted(found.items(), key=lambda item: item[1]))
    if list(ids.values()) != list(range(len(ids))):
        raise ConfigError(f"{folder}: tokenizer.json's ids are not 0 to {len(ids) - 1}, each once; copy it anew")
    return ids
