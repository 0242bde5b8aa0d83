"""Files of a tokenizer as they lie in a folder -> a sentencepiece model, or a description.

What a ``tokenizer.json`` or ``tokenizer_config.json`` says of the others is obeyed, or refused by its name.
"""

import json
from pathlib import Path
from typing import Any

from configs.errors import ConfigError
from data_pipeline.tokenizers import vocabulary_files
from data_pipeline.tokenizers.fast_encoding import CONTROL, USER_DEFINED, model_proto
from data_pipeline.tokenizers.sentencepiece_folding import folded
from data_pipeline.tokenizers.sentencepiece_model import SentencePieceModel
from data_pipeline.tokenizers.settings import added_by_json, added_by_settings, check_class, from_json, with_added
from data_pipeline.tokenizers.special_tokens import SENTINEL, START_OF_TEXT
from data_pipeline.tokenizers.tokenizer_json import base, pieces
from data_pipeline.tokenizers.vocabulary_engine import library_ids
from data_pipeline.tokenizers.vocabulary_files import (
    END_OF_WORD,
    byte_pairs,
    clip,
    read_pairs,
    read_rows,
    word_pieces,
    written,
)

MODELS = ("spiece.model", "tokenizer.model", "sentencepiece.bpe.model")
"""Names of sentencepiece models in such folders."""
JSON, SETTINGS, ROWS = "tokenizer.json", "tokenizer_config.json", "vocab.txt"
ACCEPTED = "a sentencepiece model, vocab.txt, vocab.json with merges.txt, or a tokenizer.json of one of the last two"
COMPARED = ("Hello world", "the cat sat, then 12 left.", "HELLO", "Caf\u00e9")
"""Texts that both files of a sentencepiece tokenizer must agree on."""


def is_vocabulary(path: Path) -> bool:
    """Whether ``path`` names vocabulary files and not a model that is complete in itself."""
    return path.is_dir() or path.suffix in (".txt", ".json")


def read_folder(path: Path, *, lowercase: bool | None = None, leading_space: bool | None = None) -> bytes:
    """The model or description of a folder, or of one file in it; equal files and settings give equal bytes.

    Args:
        path: a folder, a ``vocab.txt``, or a ``tokenizer.json``.
        lowercase: fold case and strip accents (only a vocab.txt): decides where the files do not say; None for yes.
        leading_space: each text begins as if after a space (only byte pairs); None for what the files say, or not.

    Raises:
        ConfigError: a file is missing or broken, or asks for what is not done here.
    """
    try:
        return _read(path, lowercase, leading_space)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, RecursionError) as error:
        raise ConfigError(
            f"{path}: its tokenizer's files hold other values than they should ({error!r}); copy them anew"
        ) from None


def _read(path: Path, lowercase: bool | None, leading_space: bool | None) -> bytes:
    folder = path if path.is_dir() else path.parent
    alone = not path.is_dir() and path.name not in (ROWS, JSON)
    settings = {} if alone else json_object(folder / SETTINGS)
    whole = {} if alone else json_object(folder / JSON)
    if path.suffix == ".json":
        _check_there(path)
        return _by_json(json_object(path), settings, path, None, lowercase, leading_space)
    if path.is_dir():
        for name in MODELS:
            if (path / name).is_file():
                return sentencepiece_model(path / name, whole, settings)
    rows = path if path.suffix == ".txt" else folder / ROWS
    if whole:
        beside = rows if rows.is_file() else folder if vocabulary_files.is_pair(folder) else None
        return _by_json(whole, settings, folder / JSON, beside, lowercase, leading_space)
    if path.suffix == ".txt" or rows.is_file():
        return _by_rows(rows, settings, lowercase)
    if vocabulary_files.is_pair(folder):
        return _by_pairs(folder, settings, leading_space)
    raise ConfigError(f"{folder}: has no tokenizer; add {ACCEPTED}")


def json_object(path: Path) -> dict[str, Any]:
    """An object, empty where there is no file."""
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is not JSON ({error}); copy it anew") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); copy it anew") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: is not a JSON object; copy it anew")
    return values


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise ConfigError(f"{path}: the tokenizer model cannot be read (No such file or directory)")


def _by_json(
    whole: dict[str, Any],
    settings: dict[str, Any],
    file: Path,
    beside: Path | None,
    lowercase: bool | None,
    leading_space: bool | None,
) -> bytes:
    """The description that a ``tokenizer.json`` asks for, whose vocabulary the files ``beside`` it must have too."""
    if leading_space is None:
        leading_space = settings.get("add_prefix_space")
    try:
        parts = from_json(whole, file, leading_space)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ConfigError(f"{file}: is incomplete ({error!r}); copy it anew") from None
    if beside is not None:
        _check_agreement(parts, file, beside)
    _check_case(parts, lowercase, file)
    return written(parts)


def _by_rows(path: Path, settings: dict[str, Any], lowercase: bool | None) -> bytes:
    """The description of a ``vocab.txt`` and its ``tokenizer_config.json``."""
    file = path.parent / SETTINGS
    check_class(settings, "WordPiece", file)
    ids, extra = with_added(read_rows(path), added_by_settings(path.parent, settings), file)
    parts = word_pieces(
        ids,
        {
            "lowercase": settings.get("do_lower_case", True if lowercase is None else lowercase),
            "strip_accents": settings.get("strip_accents"),
            "handle_chinese_chars": settings.get("tokenize_chinese_chars", True),
        },
        {"continuing_subword_prefix": settings.get("wordpieces_prefix", vocabulary_files.CONTINUES)},
    )
    _check_case(parts, lowercase, file)
    return written({**parts, **extra})


def _by_pairs(folder: Path, settings: dict[str, Any], leading_space: bool | None) -> bytes:
    """The description of two files of byte pairs and their ``tokenizer_config.json``."""
    check_class(settings, "byte-level BPE", folder / SETTINGS)
    pieces, merges = read_pairs(folder)
    ids, extra = with_added(pieces, added_by_settings(folder, settings), folder / SETTINGS)
    if any(piece.endswith(END_OF_WORD) for piece in ids):
        if START_OF_TEXT not in ids:
            raise ConfigError(
                f"{folder}: has pieces that end in '{END_OF_WORD}' and is not CLIP's (no '{START_OF_TEXT}'), so how "
                "its texts are cut into words is not known; give the tokenizer.json that says it"
            )
        return written({**clip(ids, merges), **extra})
    leading = settings.get("add_prefix_space", False) if leading_space is None else leading_space
    return written({**byte_pairs(ids, merges, bool(leading)), **extra})


def _check_agreement(parts: dict[str, Any], file: Path, beside: Path) -> None:
    vocabulary = parts["model"]["vocab"]
    ids, merges = (read_rows(beside), None) if beside.is_file() else read_pairs(beside)
    for piece, token in ids.items():
        if vocabulary.get(piece) != token:
            raise ConfigError(
                f"{file}: gives {piece!r} the id {vocabulary.get(piece)}, and {beside.name} the id {token}; remove the "
                "file that is not meant"
            )
    if merges is not None and merges != parts["model"].get("merges"):
        raise ConfigError(f"{file}: has other merges than {beside.name}; remove the file that is not meant")


def _check_case(parts: dict[str, Any], lowercase: bool | None, file: Path) -> None:
    normalizer = parts["normalizer"] or {}
    if lowercase is not None and normalizer.get("type") == "BertNormalizer" and normalizer["lowercase"] != lowercase:
        folds = "folds case" if normalizer["lowercase"] else "keeps case"
        raise ConfigError(
            f"{file}: {folds}, but tokenizer.lowercase is {str(lowercase).lower()}; leave tokenizer.lowercase out"
        )


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
    added = added_by_json(whole) if whole else added_by_settings(path.parent, settings)
    with_added({name: token for token, name in enumerate(names)}, added, path.parent / (JSON if whole else SETTINGS))
    model = folded(model, whole, settings)
    if "model" in whole:
        _check_same_ids(model, whole, path)
    return _with_sentinels(model, names, pieces(whole)[len(names) :] if "model" in whole else _extra(settings))


def _check_same_ids(model: bytes, whole: dict[str, Any], path: Path) -> None:
    listed = [piece.piece for piece in model_proto(model).pieces if piece.type == USER_DEFINED]
    texts = [*COMPARED, *(f"a {piece} b{piece}c" for piece in listed)]
    try:
        theirs = library_ids({**whole, "truncation": None, "padding": None}, texts)
    # The library raises bare Exception for whatever it does not understand.
    except Exception as error:
        raise ConfigError(f"{path.parent / JSON}: is not understood ({error}); copy it anew") from None
    for text, ids, expected in zip(texts, SentencePieceModel(model, str(path)).encode(texts), theirs, strict=True):
        if ids != expected:
            raise ConfigError(
                f"{path.parent / JSON}: its settings make other ids of {text!r} than {path.name} does; remove "
                "tokenizer.json, if the model is meant to be used as it is"
            )


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
