"""Reads the tokenizer of a pretrained model's folder as a sentencepiece model or a tokenizer JSON.

Settings in ``tokenizer.json`` or ``tokenizer_config.json`` are applied, or refused by name if they are not supported.
"""

from pathlib import Path
from typing import Any, NamedTuple

from sesame.configs.errors import ConfigError
from sesame.data_pipeline.tokenizers import vocabulary_files
from sesame.data_pipeline.tokenizers.files import read_object, read_optional_object
from sesame.data_pipeline.tokenizers.huggingface_engine import library_ids
from sesame.data_pipeline.tokenizers.huggingface_settings import (
    added_by_json,
    added_by_settings,
    check_class,
    from_json,
    with_added,
)
from sesame.data_pipeline.tokenizers.sentencepiece_engine import SentencePieceEngine
from sesame.data_pipeline.tokenizers.sentencepiece_normalization import with_folding
from sesame.data_pipeline.tokenizers.sentencepiece_proto import CONTROL, USER_DEFINED, model_proto
from sesame.data_pipeline.tokenizers.special_tokens import SENTINEL, START_OF_TEXT, is_sentinel
from sesame.data_pipeline.tokenizers.tokenizer_json import base, pieces
from sesame.data_pipeline.tokenizers.vocabulary_files import (
    END_OF_WORD,
    byte_pairs,
    clip,
    read_pairs,
    read_rows,
    to_bytes,
    word_pieces,
)

MODELS = ("spiece.model", "tokenizer.model", "sentencepiece.bpe.model")
"""Names of sentencepiece models in such folders."""
JSON, SETTINGS, ROWS = "tokenizer.json", "tokenizer_config.json", "vocab.txt"
ACCEPTED = "a sentencepiece model, vocab.txt, vocab.json with merges.txt, or a tokenizer.json of one of the last two"
COMPARED_TEXTS = ("Hello world", "the cat sat, then 12 left.", "HELLO", "Caf\u00e9")
"""Texts that both files of a sentencepiece tokenizer must encode alike."""


class Overrides(NamedTuple):
    """Settings of the run for tokenizer files that do not have them."""

    lowercase: bool | None
    leading_space: bool | None


def read_pretrained(path: Path, *, lowercase: bool | None = None, leading_space: bool | None = None) -> bytes:
    """Return the sentencepiece model or tokenizer JSON of a folder, or of one file in it. Equal files and settings give
    equal bytes.

    Args:
        path: a folder, a ``vocab.txt``, or a ``tokenizer.json``.
        lowercase: fold case and strip accents (only vocab.txt) unless the files say so themselves; None: yes.
        leading_space: each text begins as if after a space (only byte-level BPE); None: as the files say, else no.

    Raises:
        ConfigError: a file is missing or damaged, or has a setting that is not supported.
    """
    try:
        return _read(path, Overrides(lowercase, leading_space))
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, RecursionError) as error:
        raise ConfigError(f"{path}: its tokenizer files have invalid values ({error!r}); copy them again") from None


def _read(path: Path, overrides: Overrides) -> bytes:
    folder = path if path.is_dir() else path.parent
    alone = not path.is_dir() and path.name not in (ROWS, JSON)
    settings = {} if alone else read_optional_object(folder / SETTINGS)
    tokenizer_json = {} if alone else read_optional_object(folder / JSON)
    if path.suffix == ".json":
        return _from_json(read_object(path), settings, path, None, overrides)
    if path.is_dir():
        for name in MODELS:
            if (path / name).is_file():
                return _from_sentencepiece(path / name, tokenizer_json, settings)
    rows = path if path.suffix == ".txt" else folder / ROWS
    if tokenizer_json:
        beside = rows if rows.is_file() else folder if vocabulary_files.is_pair(folder) else None
        return _from_json(tokenizer_json, settings, folder / JSON, beside, overrides)
    if path.suffix == ".txt" or rows.is_file():
        return _from_rows(rows, settings, overrides.lowercase)
    if vocabulary_files.is_pair(folder):
        return _from_pairs(folder, settings, overrides.leading_space)
    raise ConfigError(f"{folder}: has no tokenizer; add {ACCEPTED}")


def _from_json(
    tokenizer_json: dict[str, Any], settings: dict[str, Any], file: Path, beside: Path | None, overrides: Overrides
) -> bytes:
    """Convert a ``tokenizer.json``; the vocabulary files ``beside`` it must have the same vocabulary."""
    leading_space = overrides.leading_space
    if leading_space is None:
        leading_space = settings.get("add_prefix_space")
    try:
        parts = from_json(tokenizer_json, file, leading_space)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ConfigError(f"{file}: is incomplete ({error!r}); copy it again") from None
    if beside is not None:
        _check_same_vocabulary(parts, file, beside)
    _check_case(parts, overrides.lowercase, file)
    return to_bytes(parts)


def _from_rows(path: Path, settings: dict[str, Any], lowercase: bool | None) -> bytes:
    """Convert a ``vocab.txt`` with its ``tokenizer_config.json``."""
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
    return to_bytes({**parts, **extra})


def _from_pairs(folder: Path, settings: dict[str, Any], leading_space: bool | None) -> bytes:
    """Convert two files of byte-level BPE with their ``tokenizer_config.json``."""
    check_class(settings, "byte-level BPE", folder / SETTINGS)
    vocabulary, merges = read_pairs(folder)
    ids, extra = with_added(vocabulary, added_by_settings(folder, settings), folder / SETTINGS)
    if any(piece.endswith(END_OF_WORD) for piece in ids):
        if START_OF_TEXT not in ids:
            raise ConfigError(
                f"{folder}: has pieces that end in '{END_OF_WORD}' but is not CLIP's (no '{START_OF_TEXT}'); "
                "its rules for splitting text into words are unknown; give its tokenizer.json"
            )
        return to_bytes({**clip(ids, merges), **extra})
    add_space = settings.get("add_prefix_space", False) if leading_space is None else leading_space
    return to_bytes({**byte_pairs(ids, merges, bool(add_space)), **extra})


def _check_same_vocabulary(parts: dict[str, Any], file: Path, beside: Path) -> None:
    vocabulary = parts["model"]["vocab"]
    ids, merges = (read_rows(beside), None) if beside.is_file() else read_pairs(beside)
    for piece, token in ids.items():
        if vocabulary.get(piece) != token:
            raise ConfigError(
                f"{file}: gives {piece!r} the id {vocabulary.get(piece)}, and {beside.name} the id {token}; remove the "
                "wrong file"
            )
    if merges is not None and merges != parts["model"].get("merges"):
        raise ConfigError(f"{file}: has other merges than {beside.name}; remove the wrong file")


def _check_case(parts: dict[str, Any], lowercase: bool | None, file: Path) -> None:
    normalizer = parts["normalizer"] or {}
    if lowercase is not None and normalizer.get("type") == "BertNormalizer" and normalizer["lowercase"] != lowercase:
        folds = "folds case" if normalizer["lowercase"] else "keeps case"
        raise ConfigError(
            f"{file}: {folds}, but tokenizer.lowercase is {str(lowercase).lower()}; leave tokenizer.lowercase out"
        )


def _from_sentencepiece(path: Path, tokenizer_json: dict[str, Any], settings: dict[str, Any]) -> bytes:
    """Return a model whose pieces have the ids that transformers gives them, T5's sentinels included."""
    model = path.read_bytes()
    names = pieces(base(model, str(path)))
    has_json = "model" in tokenizer_json
    # XLM-R and its relatives shift the ids of this file's pieces.
    known = has_json or path.name != MODELS[-1]
    if not known or (has_json and pieces(tokenizer_json)[: len(names)] != names):
        raise ConfigError(
            f"{path}: transformers gives the pieces of this model other ids, which the weights are for; give a folder "
            f"with {ACCEPTED} that agrees with its tokenizer.json"
        )
    added = added_by_json(tokenizer_json) if tokenizer_json else added_by_settings(path.parent, settings)
    file = path.parent / (JSON if tokenizer_json else SETTINGS)
    with_added({name: token for token, name in enumerate(names)}, added, file)
    model = with_folding(model, tokenizer_json, settings)
    if has_json:
        _check_same_ids(model, tokenizer_json, path)
    behind = pieces(tokenizer_json)[len(names) :] if has_json else _added_sentinels(settings)
    return _with_sentinels(model, names, behind)


def _check_same_ids(model: bytes, tokenizer_json: dict[str, Any], path: Path) -> None:
    user_defined = [piece.piece for piece in model_proto(model).pieces if piece.type == USER_DEFINED]
    texts = [*COMPARED_TEXTS, *(f"a {piece} b{piece}c" for piece in user_defined)]
    try:
        expected = library_ids({**tokenizer_json, "truncation": None, "padding": None}, texts)
    # The library raises bare Exception for whatever it does not support.
    except Exception as error:
        raise ConfigError(f"{path.parent / JSON}: cannot be loaded ({error}); copy it again") from None
    ours = SentencePieceEngine(model, str(path)).encode(texts)
    for text, ids, expected_ids in zip(texts, ours, expected, strict=True):
        if ids != expected_ids:
            raise ConfigError(
                f"{path.parent / JSON}: encodes {text!r} to other ids than {path.name} does; remove tokenizer.json to "
                "use the model alone"
            )


def _added_sentinels(settings: dict[str, Any]) -> list[str]:
    """The sentinels that transformers adds behind the pieces of a T5 model, the last one first."""
    added = [*(settings.get("additional_special_tokens") or []), *(settings.get("added_tokens_decoder") or {}).values()]
    names = {token.get("content") if isinstance(token, dict) else token for token in added}
    count = settings.get("extra_ids") or sum(map(is_sentinel, names))
    return [SENTINEL.format(number) for number in reversed(range(count))]


def _with_sentinels(model: bytes, names: list[str], behind: list[str]) -> bytes:
    """Return ``model`` with the sentinels among ``behind`` that it lacks as control pieces."""
    missing = [name for name in behind if is_sentinel(name) and name not in names]
    if not missing:
        return model
    proto = model_proto(model)
    for name in missing:
        proto.pieces.add(piece=name, score=0.0, type=CONTROL)
    return proto.SerializeToString(deterministic=True)
