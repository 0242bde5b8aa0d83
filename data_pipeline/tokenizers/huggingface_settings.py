"""Settings in transformers' tokenizer files, converted to parts of a tokenizer JSON; unsupported ones are refused."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from sesame.configs.errors import ConfigError
from sesame.data_pipeline.tokenizers.files import read_optional_object
from sesame.data_pipeline.tokenizers.huggingface_engine import BYTE_PAIRS, WORD_PIECES, kind_of, steps
from sesame.data_pipeline.tokenizers.special_tokens import KNOWN_NAMES, is_sentinel
from sesame.data_pipeline.tokenizers.vocabulary_files import byte_pairs, suffix_decoder, word_pieces

CLASSES = {
    "WordPiece": "Bert DistilBert Electra MobileBert SqueezeBert Funnel LayoutLM LayoutLMv2 Lxmert ConvBert Retribert "
    "Realm Splinter DPRQuestionEncoder DPRContextEncoder DPRReader PreTrained",
    "byte-level BPE": "GPT2 Roberta Bart Longformer LED Blenderbot MVP Deberta CLIP PreTrained",
}
"""Kind of vocabulary files -> transformers' classes that read them alike, without Tokenizer(Fast)."""
NORMALIZERS = {
    WORD_PIECES: "BertNormalizer NFC NFD NFKC NFKD Lowercase StripAccents Nmt Replace Precompiled Strip",
    BYTE_PAIRS: "BertNormalizer NFC NFD NFKC NFKD Lowercase StripAccents Nmt Replace Precompiled",
}
"""Supported normalizers: none that depends on where a text begins or ends, because a document is encoded in chunks
(WordPiece drops white space)."""
PRE_TOKENIZERS = {
    WORD_PIECES: "BertPreTokenizer Whitespace WhitespaceSplit Punctuation Digits Split",
    BYTE_PAIRS: "ByteLevel Split Digits Punctuation Whitespace WhitespaceSplit",
}
REFUSED = {"do_basic_tokenize": False, "split_special_tokens": True}
"""Settings of ``tokenizer_config.json`` with a value that is not supported."""
CLASS = "tokenizer_class"


class Added(NamedTuple):
    """A token added to a vocabulary."""

    content: str
    id: int
    special: bool


def from_json(tokenizer_json: dict[str, Any], file: Path, leading_space: bool | None) -> dict[str, Any]:
    """Return the parts of the engine's tokenizer JSON from a ``tokenizer.json`` of transformers.

    Args:
        tokenizer_json: its content.
        file: for messages.
        leading_space: each text begins as if after a space (only byte-level BPE); None for the file's own setting.

    Raises:
        ConfigError: it has a setting that is not supported.
    """
    kind, pre_tokenizers = kind_of(tokenizer_json), steps(tokenizer_json.get("pre_tokenizer"))
    if kind is None:
        model, last = tokenizer_json["model"].get("type"), pre_tokenizers[-1].get("type") if pre_tokenizers else None
        raise ConfigError(
            f"{file.parent}: {file.name} has the model '{model}' behind the pre-tokenizer '{last}', which is not "
            "supported; give a sentencepiece model, or a tokenizer of WordPiece or byte-level BPE"
        )
    _check_steps("normalizer", steps(tokenizer_json.get("normalizer")), NORMALIZERS[kind], kind, file)
    _check_steps("pre_tokenizer", pre_tokenizers, PRE_TOKENIZERS[kind], kind, file)
    _check_post_processor(tokenizer_json.get("post_processor"), file)
    ids, extra = with_added(dict(tokenizer_json["model"]["vocab"]), added_by_json(tokenizer_json), file)
    parts = (_word_pieces if kind == WORD_PIECES else _byte_pairs)(tokenizer_json, ids, file)
    if leading_space is not None and kind == BYTE_PAIRS:
        for step in steps(parts["pre_tokenizer"]):
            if "add_prefix_space" in step:
                step["add_prefix_space"] = bool(leading_space)
    if any(step.get("add_prefix_space") for step in steps(parts["pre_tokenizer"])[1:]):
        raise ConfigError(
            f"{file}: pre_tokenizer adds a space to every part of a text (add_prefix_space behind another step), which "
            "cannot be decoded; set add_prefix_space to false there"
        )
    return {**parts, **extra}


def _word_pieces(tokenizer_json: dict[str, Any], ids: dict[str, int], file: Path) -> dict[str, Any]:
    normalizer, model = tokenizer_json.get("normalizer"), tokenizer_json["model"]
    parts = word_pieces(ids, normalizer, model)
    if not parts["model"]["continuing_subword_prefix"]:
        raise ConfigError(
            f"{file}: continuing_subword_prefix is empty, so word starts are unknown; give a model that marks what "
            "continues a word"
        )
    if parts["model"]["unk_token"] not in ids:
        raise ConfigError(f"{file}: unk_token {parts['model']['unk_token']!r} is no piece; copy it again")
    is_default = (normalizer or {}).get("type") == "BertNormalizer"
    return {
        **parts,
        "normalizer": parts["normalizer"] if is_default else normalizer,
        "pre_tokenizer": tokenizer_json["pre_tokenizer"],
    }


def _byte_pairs(tokenizer_json: dict[str, Any], ids: dict[str, int], file: Path) -> dict[str, Any]:
    model = tokenizer_json["model"]
    refused = {"dropout": model.get("dropout"), "continuing_subword_prefix": model.get("continuing_subword_prefix")}
    for key, value in refused.items():
        if value:
            raise ConfigError(f"{file}: {key} is {value!r}, which is not supported; give a model without it")
    merges = [merge.split(" ") if isinstance(merge, str) else list(merge) for merge in model["merges"]]
    parts = byte_pairs(ids, merges, leading_space=False)
    suffix = model.get("end_of_word_suffix") or None
    own = {key: model[key] for key in ("unk_token", "fuse_unk", "ignore_merges") if key in model}
    parts["model"] = {**parts["model"], **own, "end_of_word_suffix": suffix, "vocab": ids, "merges": merges}
    if suffix:
        parts["decoder"] = suffix_decoder(suffix, parts["decoder"])
    pre_tokenizer = tokenizer_json["pre_tokenizer"]
    if pre_tokenizer["type"] == "ByteLevel" and pre_tokenizer.get("use_regex", True):
        adds_space = bool(pre_tokenizer.get("add_prefix_space", True))
        pre_tokenizer = {**parts["pre_tokenizer"], "add_prefix_space": adds_space}
        # The same object, so that leading_space changes both; the bytes of earlier datasets have it so.
        parts["decoder"] = parts["decoder"] if suffix else pre_tokenizer
    return {**parts, "pre_tokenizer": pre_tokenizer, "normalizer": tokenizer_json.get("normalizer") or None}


def added_by_json(tokenizer_json: dict[str, Any]) -> list[Added]:
    """Return the tokens that a ``tokenizer.json`` adds."""
    tokens = tokenizer_json.get("added_tokens") or []
    return [Added(token["content"], token["id"], bool(token.get("special"))) for token in tokens]


def added_by_settings(folder: Path, settings: dict[str, Any]) -> list[Added]:
    """Return the tokens that ``added_tokens.json`` and ``tokenizer_config.json`` add where there is no
    ``tokenizer.json``."""
    decoder = settings.get("added_tokens_decoder") or {}
    added = [Added(each["content"], int(token), bool(each.get("special"))) for token, each in decoder.items()]
    named = {*_named(settings), *_named(read_optional_object(folder / "special_tokens_map.json"))}
    more = read_optional_object(folder / "added_tokens.json").items()
    known = {each.content for each in added}
    return [*added, *(Added(content, token, content in named) for content, token in more if content not in known)]


def with_added(ids: dict[str, int], added: Iterable[Added], file: Path) -> tuple[dict[str, int], dict[str, Any]]:
    """Add special tokens to a vocabulary.

    Returns:
        (pieces in the order of their ids, the part of a tokenizer JSON that lists special tokens of unknown names).

    Raises:
        ConfigError: an added token is not a special one, so that text may contain it.
    """
    pieces, unknown = dict(ids), []
    for token in added:
        is_special = token.special or token.content in KNOWN_NAMES or is_sentinel(token.content)
        if not is_special:
            raise ConfigError(
                f"{file.parent}: {file.name} adds {token.content!r} to its vocabulary, which is not a special token; "
                "matching it in text is not supported; give a model whose added tokens are special ones"
            )
        pieces[token.content] = token.id
        if token.special and token.content not in KNOWN_NAMES:
            unknown.append({"id": token.id, "content": token.content, "special": True})
    ordered = dict(sorted(pieces.items(), key=lambda item: item[1]))
    if list(ordered.values()) != list(range(len(ordered))):
        raise ConfigError(f"{file}: its ids are not 0 to {len(ordered) - 1}, each once; copy it again")
    return ordered, {"added_tokens": unknown} if unknown else {}


def check_class(settings: dict[str, Any], kind: str, file: Path) -> None:
    """Refuse vocabulary files whose class in transformers has its own rules, and settings that change the rules."""
    name = str(settings.get(CLASS) or "").removesuffix("Fast").removesuffix("Tokenizer")
    if name and name != "TokenizersBackend" and name not in CLASSES[kind].split():
        raise ConfigError(f"{file}: {CLASS} is '{settings[CLASS]}', whose rules are unknown; give its tokenizer.json")
    for key, value in REFUSED.items():
        if settings.get(key) == value:
            raise ConfigError(f"{file}: {key} is {json.dumps(value)}, which is not supported; give a model without")


def _check_steps(key: str, found: list[dict[str, Any]], allowed: str, kind: str, file: Path) -> None:
    for step in found:
        if step.get("type") not in allowed.split():
            raise ConfigError(
                f"{file.parent}: {file.name} has the {key} '{step.get('type')}', but with {kind} only "
                f"{', '.join(allowed.split())} are supported; give a model without it"
            )


def _check_post_processor(post_processor: dict[str, Any] | None, file: Path) -> None:
    """Refuse special tokens around a text that have no role here."""
    for step in (post_processor or {}).get("processors") or [post_processor or {}]:
        names = [*(step.get("special_tokens") or {}), *(step[key][0] for key in ("cls", "sep") if key in step)]
        for name in names:
            if name not in KNOWN_NAMES:
                raise ConfigError(
                    f"{file}: post_processor adds {name!r} to a text, which is none of "
                    f"{', '.join(sorted(KNOWN_NAMES))}; give a model that begins and ends rows with those"
                )


def _named(values: dict[str, Any]) -> list[str]:
    """The special tokens that a settings file names."""
    single = [value for key, value in values.items() if key.endswith("_token")]
    more = values.get("additional_special_tokens") or values.get("extra_special_tokens") or []
    listed = [*single, *(more.values() if isinstance(more, dict) else more)]
    return [token.get("content", "") if isinstance(token, dict) else str(token) for token in listed]
