"""Vocabulary files -> the parts of one JSON description, for ``vocabulary_engine.py``.

| given                                                | algorithm                                             |
|------------------------------------------------------|-------------------------------------------------------|
| ``vocab.txt`` (BERT: cased, uncased, Chinese)        | WordPiece (Devlin et al. 2019)                        |
| folder with ``encoder.json`` + ``vocab.bpe`` (GPT-2) | byte-level byte pairs (Radford et al. 2019)           |
| folder with ``vocab.json`` + ``merges.txt``          | the same under the names that RoBERTa's files have,   |
|                                                      | or CLIP's, whose words end in ``</w>``                |

The description is written here and not by the library, so that its bytes do not depend on the library's version.
"""

import json
from pathlib import Path
from typing import Any

from configs.errors import ConfigError
from data_pipeline.tokenizers.special_tokens import END_OF_TEXT
from data_pipeline.tokenizers.vocabulary_engine import SPACE

CONTINUES = "##"
"""In front of a WordPiece that goes on with a word."""
LONGEST_WORD = 100
"""Characters; BERT's published code makes a longer word [UNK]."""
END_OF_WORD = "</w>"
"""Behind a piece of CLIP's that ends a word."""
CLIP_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
"""What CLIP takes out of a text, as transformers' class has it."""
OTHER_MARKS = ("\u2581", "@@", SPACE, "_")
"""In front of or behind pieces of tokenizers that are no WordPiece of BERT's."""
FOLDERS = (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt"))
"""(pieces with their ids, merges): the two pairs of names in use."""


def written(parts: dict[str, Any]) -> bytes:
    """The bytes of a description, of what ``word_pieces`` or ``byte_pairs`` gives."""
    whole = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "post_processor": None, **parts}
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()


def read_rows(path: Path) -> dict[str, int]:
    """The pieces of a ``vocab.txt`` and their ids."""
    # Only line feeds end a line: multilingual vocabularies have other line separators as pieces.
    pieces = [line.removesuffix("\r") for line in _text(path).removesuffix("\n").split("\n")]
    ids: dict[str, int] = {}
    for number, piece in enumerate(pieces):
        if not piece or ids.setdefault(piece, number) != number:
            what = f"repeats '{piece}' of row {ids[piece] + 1}" if piece else "is empty"
            raise ConfigError(f"{path}: row {number + 1} {what}; BERT's vocab.txt has one piece in each row")
    if not any(piece.startswith(CONTINUES) for piece in ids):
        marked = {mark: sum(p.startswith(mark) or p.endswith(mark) for p in ids if p != mark) for mark in OTHER_MARKS}
        mark = max(marked, key=lambda each: marked[each])
        if marked[mark]:
            raise ConfigError(
                f"{path}: has no piece that begins with '{CONTINUES}', but {marked[mark]} with '{mark}', so it is no "
                "vocabulary of BERT's; give the tokenizer.json that says how it is used"
            )
    return ids


def word_pieces(
    ids: dict[str, int], normalizer: dict[str, Any] | None = None, model: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The parts of a description that makes BERT's WordPiece of these pieces.

    Args:
        ids: of the pieces.
        normalizer: settings of BertNormalizer that are not the usual ones.
        model: settings of the model that are not the usual ones.
    """
    usual = {
        "unk_token": "[UNK]",
        "continuing_subword_prefix": CONTINUES,
        "max_input_chars_per_word": LONGEST_WORD,
    }
    chosen = {key: (model or {}).get(key, value) for key, value in usual.items()}
    folding = {"clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}
    return {
        "normalizer": {
            "type": "BertNormalizer",
            **{key: (normalizer or {}).get(key, value) for key, value in folding.items()},
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "decoder": {"type": "WordPiece", "prefix": chosen["continuing_subword_prefix"], "cleanup": True},
        "model": {"type": "WordPiece", **chosen, "vocab": ids},
    }


def read_pairs(folder: Path) -> tuple[dict[str, int], list[list[str]]]:
    """(pieces with their ids, merges) of a folder's two files."""
    pieces_file, merges_file = _pair(folder)
    ids, merges = _pieces(pieces_file), []
    for number, line in enumerate(_text(merges_file).split("\n"), 1):
        if not line or (number == 1 and line.startswith("#version")):
            continue
        pair = line.removesuffix("\r").split(" ")
        if len(pair) != 2 or not {*pair, "".join(pair)} <= ids.keys():
            raise ConfigError(
                f"{merges_file}: row {number} is no merge of two pieces of {pieces_file.name}; copy both files anew"
            )
        merges.append(pair)
    return ids, merges


def is_pair(folder: Path) -> bool:
    """Whether a folder has one of the two files, or both."""
    return any((folder / name).is_file() for names in FOLDERS for name in names)


def clip(ids: dict[str, int], merges: list[list[str]]) -> dict[str, Any]:
    """The parts of a description of CLIP's byte pairs (Radford et al. 2021), which mark the end of a word."""
    parts = byte_pairs(ids, merges, leading_space=False)
    split = {"type": "Split", "pattern": {"Regex": CLIP_WORDS}, "behavior": "Removed", "invert": True}
    white = {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "}
    return {
        **parts,
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, white, {"type": "Lowercase"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, parts["pre_tokenizer"]]},
        "decoder": ends_decoder(END_OF_WORD, parts["decoder"]),
        "model": {**parts["model"], "unk_token": END_OF_TEXT, "end_of_word_suffix": END_OF_WORD},
    }


def ends_decoder(suffix: str, byte_level: dict[str, Any]) -> dict[str, Any]:
    """A decoder of byte pairs that makes spaces of the ends of words."""
    space = {"type": "Replace", "pattern": {"String": suffix}, "content": SPACE}
    return {"type": "Sequence", "decoders": [space, byte_level]}


def byte_pairs(ids: dict[str, int], merges: list[list[str]], leading_space: bool) -> dict[str, Any]:
    """The parts of a description that makes GPT-2's byte-level byte pairs of these pieces, the first merge first."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": leading_space, "trim_offsets": True, "use_regex": True}
    return {
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": ids,
            "merges": merges,
        },
    }


def _pair(folder: Path) -> tuple[Path, Path]:
    """The two files of a folder."""
    for names in FOLDERS:
        there = [(folder / name).is_file() for name in names]
        if all(there):
            return folder / names[0], folder / names[1]
        if any(there):
            raise ConfigError(f"{folder}: has {names[there.index(True)]} but no {names[there.index(False)]}; add it")
    raise ConfigError(f"{folder}: has no encoder.json and vocab.bpe; give a folder with both, or a tokenizer's file")


def _pieces(path: Path) -> dict[str, int]:
    """Pieces in the order of their ids, which are 0, 1, 2, ... without a gap; a piece for each byte."""
    try:
        found = json.loads(_text(path))
        ids = dict(sorted(found.items(), key=lambda item: item[1]))
        whole = list(ids.values()) == list(range(len(ids)))
    except (ValueError, AttributeError, TypeError) as error:
        raise ConfigError(f"{path}: is not the JSON of a vocabulary ({error}); copy it anew") from None
    if not whole:
        raise ConfigError(f"{path}: its ids are not 0 to {len(ids) - 1}, each once; copy it anew")
    letters = sum(len(piece) == 1 for piece in ids)
    if letters < 256:
        raise ConfigError(f"{path}: has {letters} pieces of one byte instead of 256; give GPT-2's encoder.json")
    return ids


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: the tokenizer model cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 at byte {error.start}; copy it anew") from None
