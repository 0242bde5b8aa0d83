"""What transformers' files say of a tokenizer's settings -> the parts of a description, or a refusal that names one."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from configs.errors import ConfigError
from data_pipeline.tokenizers.special_tokens import OTHER_NAMES, PIECES, SENTINEL
from data_pipeline.tokenizers.vocabulary_engine import BYTE_PAIRS, WORD_PIECES, kind_of, steps
from data_pipeline.tokenizers.vocabulary_files import byte_pairs, ends_decoder, word_pieces

KNOWN_NAMES = {*PIECES.values(), *(name for names in OTHER_NAMES.values() for name in names)}
CLASSES = {
    "WordPiece": "Bert DistilBert Electra MobileBert SqueezeBert Funnel LayoutLM LayoutLMv2 Lxmert ConvBert Retribert "
    "Realm Splinter DPRQuestionEncoder DPRContextEncoder DPRReader PreTrained",
    "byte-level BPE": "GPT2 Roberta Bart Longformer LED Blenderbot MVP Deberta CLIP PreTrained",
}
"""Kind of vocabulary files -> transformers' classes that use such files alike, without Tokenizer(Fast)."""
NORMALIZERS = {
    WORD_PIECES: "BertNormalizer NFC NFD NFKC NFKD Lowercase StripAccents Nmt Replace Precompiled Strip",
    BYTE_PAIRS: "BertNormalizer NFC NFD NFKC NFKD Lowercase StripAccents Nmt Replace Precompiled",
}
"""What may be done to a text before it is cut: nothing that depends on where a text begins or ends, for a document is
encoded in stretches (of WordPiece's white space nothing is left)."""
CUTS = {
    WORD_PIECES: "BertPreTokenizer Whitespace WhitespaceSplit Punctuation Digits Split",
    BYTE_PAIRS: "ByteLevel Split Digits Punctuation Whitespace WhitespaceSplit",
}
REFUSED = {"do_basic_tokenize": False, "split_special_tokens": True}
"""Settings of ``tokenizer_config.json`` with a value that has no counterpart here."""
CLASS = "tokenizer_class"


class Added(NamedTuple):
    """A token that was put behind a vocabulary."""

    content: str
    id: int
    special: bool


def from_json(whole: dict[str, Any], file: Path, leading_space: bool | None) -> dict[str, Any]:
    """The parts of a description of a ``tokenizer.json``.

    Args:
        whole: its content.
        file: for messages.
        leading_space: each text begins as if after a space (only byte pairs); None for what it says itself.

    Raises:
        ConfigError: it asks for what is not done here.
    """
    kind, cuts = kind_of(whole), steps(whole.get("pre_tokenizer"))
    if kind is None:
        model, cut = whole["model"].get("type"), cuts[-1].get("type") if cuts else None
        raise ConfigError(
            f"{file.parent}: {file.name} has the model '{model}' cut by '{cut}', which has no counterpart here; give a "
            "sentencepiece model, or a tokenizer of WordPiece or byte-level BPE"
        )
    _check_steps("normalises", steps(whole.get("normalizer")), NORMALIZERS[kind], kind, file)
    _check_steps("cuts", cuts, CUTS[kind], kind, file)
    _check_around(steps_after(whole.get("post_processor")), file)
    ids, extra = with_added(dict(whole["model"]["vocab"]), added_by_json(whole), file)
    parts = (_word_pieces if kind == WORD_PIECES else _byte_pairs)(whole, ids, file)
    if leading_space is not None and kind == BYTE_PAIRS:
        for cut in steps(parts["pre_tokenizer"]):
            if "add_prefix_space" in cut:
                cut["add_prefix_space"] = bool(leading_space)
    if any(cut.get("add_prefix_space") for cut in steps(parts["pre_tokenizer"])[1:]):
        raise ConfigError(
            f"{file}: pre_tokenizer puts a space before every part of a text (add_prefix_space behind another step), "
            "which cannot be read back; set add_prefix_space to false there"
        )
    return {**parts, **extra}


def _word_pieces(whole: dict[str, Any], ids: dict[str, int], file: Path) -> dict[str, Any]:
    normalizer, model = whole.get("normalizer"), whole["model"]
    parts = word_pieces(ids, normalizer, model)
    if not parts["model"]["continuing_subword_prefix"]:
        raise ConfigError(
            f"{file}: continuing_subword_prefix is empty, so where words begin cannot be told; give a model that marks "
            "what continues a word"
        )
    if parts["model"]["unk_token"] not in ids:
        raise ConfigError(f"{file}: unk_token {parts['model']['unk_token']!r} is no piece; copy it anew")
    usual = (normalizer or {}).get("type") == "BertNormalizer"
    return {
        **parts,
        "normalizer": parts["normalizer"] if usual else normalizer,
        "pre_tokenizer": whole["pre_tokenizer"],
    }


def _byte_pairs(whole: dict[str, Any], ids: dict[str, int], file: Path) -> dict[str, Any]:
    model = whole["model"]
    refused = {"dropout": model.get("dropout"), "continuing_subword_prefix": model.get("continuing_subword_prefix")}
    for key, value in refused.items():
        if value:
            raise ConfigError(f"{file}: {key} is {value!r}, which has no counterpart here; give a model without it")
    merges = [merge.split(" ") if isinstance(merge, str) else list(merge) for merge in model["merges"]]
    parts = byte_pairs(ids, merges, leading_space=False)
    suffix = model.get("end_of_word_suffix") or None
    own = {key: model[key] for key in ("unk_token", "fuse_unk", "ignore_merges") if key in model}
    parts["model"] = {**parts["model"], **own, "end_of_word_suffix": suffix, "vocab": ids, "merges": merges}
    if suffix:
        parts["decoder"] = ends_decoder(suffix, parts["decoder"])
    cut, usual = whole["pre_tokenizer"], parts["pre_tokenizer"]
    if cut["type"] == "ByteLevel" and cut.get("use_regex", True):
        # The decoder of an engine of before is the same object, and its bytes have to stay.
        cut = usual = {**usual, "add_prefix_space": bool(cut.get("add_prefix_space", True))}
        parts["decoder"] = parts["decoder"] if suffix else usual
    return {**parts, "pre_tokenizer": cut, "normalizer": whole.get("normalizer") or None}


def added_by_json(whole: dict[str, Any]) -> list[Added]:
    tokens = whole.get("added_tokens") or []
    return [Added(token["content"], token["id"], bool(token.get("special"))) for token in tokens]


def added_by_settings(folder: Path, settings: dict[str, Any]) -> list[Added]:
    """What ``added_tokens.json`` and ``tokenizer_config.json`` add, where there is no ``tokenizer.json``."""
    decoder = settings.get("added_tokens_decoder") or {}
    found = [Added(each["content"], int(token), bool(each.get("special"))) for token, each in decoder.items()]
    named = {*_named(settings), *_named(_object(folder / "special_tokens_map.json"))}
    more = _object(folder / "added_tokens.json").items()
    known = {each.content for each in found}
    return [*found, *(Added(content, token, content in named) for content, token in more if content not in known)]


def with_added(ids: dict[str, int], added: Iterable[Added], file: Path) -> tuple[dict[str, int], dict[str, Any]]:
    """(pieces in the order of their ids, special tokens that were added behind them among them; the part of a
    description that names those of unusual names).

    Raises:
        ConfigError: a token is added that text may contain.
    """
    found, unusual = dict(ids), []
    for token in added:
        is_named = token.special or token.content in KNOWN_NAMES or token.content.startswith(SENTINEL.split("{")[0])
        if not is_named:
            raise ConfigError(
                f"{file.parent}: {file.name} adds {token.content!r} to its vocabulary, which is found in a text before "
                "it is cut, and has no counterpart here; give a model whose added tokens are special ones"
            )
        found[token.content] = token.id
        if token.special and token.content not in KNOWN_NAMES:
            unusual.append({"id": token.id, "content": token.content, "special": True})
    ordered = dict(sorted(found.items(), key=lambda item: item[1]))
    if list(ordered.values()) != list(range(len(ordered))):
        raise ConfigError(f"{file}: its ids are not 0 to {len(ordered) - 1}, each once; copy it anew")
    return ordered, {"added_tokens": unusual} if unusual else {}


def check_class(settings: dict[str, Any], kind: str, file: Path) -> None:
    """Refuse vocabulary files that transformers reads by other rules than the usual ones, and settings that change
    them."""
    name = str(settings.get(CLASS) or "").removesuffix("Fast").removesuffix("Tokenizer")
    if name and name != "TokenizersBackend" and name not in CLASSES[kind].split():
        raise ConfigError(
            f"{file}: {CLASS} is '{settings[CLASS]}', whose rules are not known here; give its tokenizer.json"
        )
    for key, value in REFUSED.items():
        if settings.get(key) == value:
            raise ConfigError(
                f"{file}: {key} is {json.dumps(value)}, which has no counterpart here; give a model without"
            )


def steps_after(post_processor: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The parts of a post-processor."""
    if not post_processor:
        return []
    return list(post_processor.get("processors") or [post_processor])


def _check_steps(verb: str, found: list[dict[str, Any]], allowed: str, kind: str, file: Path) -> None:
    for step in found:
        if step.get("type") not in allowed.split():
            raise ConfigError(
                f"{file.parent}: {file.name} {verb} as '{step.get('type')}', and with {kind} only "
                f"{', '.join(allowed.split())} are known; give a model that does without"
            )


def _check_around(found: list[dict[str, Any]], file: Path) -> None:
    """Refuse special tokens around a text that no role here has."""
    for step in found:
        names = [*(step.get("special_tokens") or {}), *(step[key][0] for key in ("cls", "sep") if key in step)]
        for name in names:
            if name not in KNOWN_NAMES:
                raise ConfigError(
                    f"{file}: post_processor puts {name!r} around a text, which is none of "
                    f"{', '.join(sorted(KNOWN_NAMES))}; give a model that begins and ends rows with those"
                )


def _named(values: dict[str, Any]) -> list[str]:
    """Contents of the special tokens that a file names."""
    single = [value for key, value in values.items() if key.endswith("_token")]
    more = values.get("additional_special_tokens") or values.get("extra_special_tokens") or []
    listed = [*single, *(more.values() if isinstance(more, dict) else more)]
    return [token.get("content", "") if isinstance(token, dict) else str(token) for token in listed]


def _object(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes()) if path.is_file() else {}
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is not JSON ({error}); copy it anew") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: is not a JSON object; copy it anew")
    return values
