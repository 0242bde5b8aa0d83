"""Writes and reads a tokenizer as files of Hugging Face's transformers.

Both give text the same ids, but for these limits of the tokenizers library:

- A special token's name in a text ("[MASK]") is that token in transformers, which fill-mask needs; here it is text. The
  names of bytes ("<0x41>", with tokenizer.byte_fallback) are those bytes in transformers.
- Combining marks in an order that Unicode does not compose ("a", grave, dot below) are composed differently: 4326 of
  the 13824 pairs of marks (U+0300 to U+032F) on a, e, i, o, u and s, or only the first of the two is kept. Of all
  139453 characters one normalizes differently (U+0344), and of the 13233 that have a decomposition, one (U+11938).
- Of unigram segmentations with equal scores, sums of another precision may choose another, and of two merges to one
  piece another may come first.
- ALBERT's own model file is used unchanged; in a folder with transformers' settings, their folding of case and accents
  is compiled into it.

Counted over 33888 paragraphs of English and Chinese books (2.2 million characters), with four models of 6000 pieces:
unigram and BPE, each lowercase without byte fallback and cased with it. Two paragraphs differ, both with the cased
unigram model, in a near tie ("l" "op" here, "lo" "p" there).
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from sesame.configs.errors import ConfigError
from sesame.data_pipeline.tokenizers.files import read_bytes
from sesame.data_pipeline.tokenizers.load_engine import is_tokenizer_json
from sesame.data_pipeline.tokenizers.pretrained_files import read_pretrained
from sesame.data_pipeline.tokenizers.special_tokens import OTHER_NAMES, PIECES, SENTINEL
from sesame.data_pipeline.tokenizers.tokenizer_json import base, pieces, with_special

ENCODER = ("cls", "A", "sep", "B", "sep")
"""Template of a pair of texts; the second has type 1."""
ROLES = {"pad": "pad", "unk": "unk", "cls": "cls", "sep": "sep", "mask": "mask"}
"""Name of a token in transformers -> role here."""
ENDS = {"bos": "cls", "eos": "sep"}


class Kind(NamedTuple):
    """Tokenizer settings of one model type of transformers."""

    template: tuple[str, ...]
    roles: dict[str, str]
    config: dict[str, str]
    """Key of ``config.json`` -> role."""
    typed: bool = False
    """The model has token types for the first and the second segment."""
    strips: bool = True
    """[MASK] strips the space before it, as in the model type's own class."""
    sentencepiece: str = "tokenizer.model"
    """File name of a sentencepiece model in transformers' class."""
    optional: tuple[str, ...] = ()
    """Roles of the template that a vocabulary may lack."""


KINDS = {
    "bert": Kind(ENCODER, ROLES, {"pad_token_id": "pad"}, typed=True, strips=False),
    "albert": Kind(
        ENCODER,
        ROLES | ENDS,
        {"pad_token_id": "pad", "bos_token_id": "cls", "eos_token_id": "sep"},
        typed=True,
        sentencepiece="spiece.model",
    ),
    "roberta": Kind(
        ENCODER, ROLES | ENDS, {"pad_token_id": "pad", "bos_token_id": "cls", "eos_token_id": "sep"}, typed=True
    ),
    "modernbert": Kind(
        ENCODER,
        ROLES,
        {
            "pad_token_id": "pad",
            "bos_token_id": "cls",
            "eos_token_id": "sep",
            "cls_token_id": "cls",
            "sep_token_id": "sep",
        },
    ),
    "gpt2": Kind(
        ("cls", "A", "B"),
        {"pad": "pad", "unk": "unk"} | ENDS,
        {"pad_token_id": "pad", "bos_token_id": "cls", "eos_token_id": "sep"},
    ),
    "t5": Kind(
        ("cls", "A", "sep", "B", "sep"),
        {"pad": "pad", "unk": "unk", "eos": "sep"},
        {"pad_token_id": "pad", "eos_token_id": "sep", "decoder_start_token_id": "pad"},
        sentencepiece="spiece.model",
        optional=("cls",),
    ),
}
KINDS["switch_transformers"] = KINDS["t5"]
"""By model type of transformers. Rows of T5 begin with [CLS] here; T5's own vocabulary has no such piece, so rows made
with it begin with its </s>, although it was not trained so. Targets have no [CLS]: remove it from the result of
``text_target``."""


def write_tokenizer(
    tokenizer_file: Path, folder: Path, model_type: str, positions: int | None, segments: int = 2
) -> dict[str, int]:
    """Write files for ``transformers.AutoTokenizer.from_pretrained(folder)``.

    Args:
        tokenizer_file: a dataset's or a run's ``tokenizer.model``.
        folder: output; created if it is missing.
        model_type: as in ``config.json``, a key of ``KINDS``.
        positions: longest input in tokens; None for no limit.
        segments: rows of the model's segment embedding; with one, there are no token types.

    Returns:
        The special ids for a ``config.json``, by its keys.

    Raises:
        ConfigError: the file is not a tokenizer or lacks a special token, or the model type is not supported.
    """
    if model_type not in KINDS:
        raise ConfigError(f"model type '{model_type}' is not supported; the types are {', '.join(KINDS)}")
    kind = KINDS[model_type]
    model = read_bytes(tokenizer_file)
    parts = base(model, str(tokenizer_file))
    ids = {piece: token for token, piece in enumerate(pieces(parts))}
    named = _named(ids)
    _check(named, kind, model_type, tokenizer_file)
    sentinels = _sentinels(ids) if kind is KINDS["t5"] else []
    special = {piece: ids[piece] for piece in (*named.values(), *sentinels)}
    typed = kind.typed and segments > 1
    template = [
        (named.get(part, part), int(typed and place > 2))
        for place, part in enumerate(kind.template)
        if part in named or part in ("A", "B")
    ]
    stripping = [named["mask"]] if kind.strips and "mask" in named else []
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "tokenizer.json", with_special(parts, special, stripping, template))
    tokens = {f"{name}_token": named[role] for name, role in kind.roles.items() if role in named}
    _write(folder / "special_tokens_map.json", {**tokens, **_additional(sentinels)})
    inputs = ["input_ids", *(["token_type_ids"] if typed else []), "attention_mask"]
    _write(
        folder / "tokenizer_config.json",
        {
            **tokens,
            **_additional(sentinels),
            **_settings(parts),
            "clean_up_tokenization_spaces": False,
            "model_input_names": inputs,
            "tokenizer_class": "PreTrainedTokenizerFast",
            **({"model_max_length": positions} if positions else {}),
        },
    )
    _write_vocabulary(folder, model, parts, kind)
    return {key: ids[named[role]] for key, role in kind.config.items() if role in named}


def read_tokenizer(folder: Path) -> bytes:
    """Return the bytes of a ``tokenizer.model`` from a folder of transformers; the inverse of ``write_tokenizer``.

    Special tokens are checked when it is loaded.

    Raises:
        ConfigError: the folder has no tokenizer of a supported kind.
    """
    return read_pretrained(folder)


def _named(ids: dict[str, int]) -> dict[str, str]:
    """Role -> the piece that has it."""
    named = {}
    for role, default in PIECES.items():
        present = [piece for piece in (default, *OTHER_NAMES[role]) if piece in ids]
        named |= {role: present[0]} if present else {}
    return named


def _check(named: dict[str, str], kind: Kind, model_type: str, path: Path) -> None:
    needed = {*kind.config.values(), *kind.template} - {"A", "B", *kind.optional}
    for role in sorted(needed - named.keys()):
        names = ", ".join((PIECES[role], *OTHER_NAMES[role]))
        raise ConfigError(f"{path}: has no {role} token ({names}), which a {model_type} needs; add it to the model")


def _sentinels(ids: dict[str, int]) -> list[str]:
    names: list[str] = []
    while (name := SENTINEL.format(len(names))) in ids:
        names.append(name)
    return names


def _additional(sentinels: list[str]) -> dict[str, list[str]]:
    return {"additional_special_tokens": sentinels} if sentinels else {}


def _settings(parts: dict[str, Any]) -> dict[str, Any]:
    """Settings of transformers' classes for vocabulary files."""
    model, normalizer = parts["model"]["type"], parts["normalizer"] or {}
    if normalizer.get("type") == "BertNormalizer" and model == "WordPiece":
        return {
            "do_lower_case": normalizer["lowercase"],
            "strip_accents": normalizer["strip_accents"],
            "tokenize_chinese_chars": normalizer["handle_chinese_chars"],
        }
    pre_tokenizer = parts["pre_tokenizer"]
    return {"add_prefix_space": pre_tokenizer["add_prefix_space"]} if pre_tokenizer.get("type") == "ByteLevel" else {}


def _write_vocabulary(folder: Path, model: bytes, parts: dict[str, Any], kind: Kind) -> None:
    """Write the tokenizer's original files."""
    if not is_tokenizer_json(model):
        (folder / kind.sentencepiece).write_bytes(model)
    elif parts["model"]["type"] == "WordPiece":
        _write_lines(folder / "vocab.txt", pieces(parts))
    else:
        _write(folder / "vocab.json", parts["model"]["vocab"])
        _write_lines(folder / "merges.txt", ["#version: 0.2", *map(" ".join, parts["model"]["merges"])])


def _write(path: Path, values: dict[str, Any]) -> None:
    path.write_bytes(json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode())


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
