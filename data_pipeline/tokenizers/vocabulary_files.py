"""Vocabulary files, converted to a tokenizer JSON for ``huggingface_engine.py``.

| files                                                | algorithm                                             |
|------------------------------------------------------|-------------------------------------------------------|
| ``vocab.txt`` (BERT: cased, uncased, Chinese)        | WordPiece (Devlin et al. 2019)                        |
| folder with ``encoder.json`` + ``vocab.bpe`` (GPT-2) | byte-level BPE (Radford et al. 2019)                  |
| folder with ``vocab.json`` + ``merges.txt``          | the same with RoBERTa's file names, or CLIP's BPE,    |
|                                                      | whose words end in ``</w>``                           |

The JSON is written here and not by the library, so that its bytes do not depend on the library's version.
"""

import json
from pathlib import Path
from typing import Any

from sesame.configs.errors import ConfigError
from sesame.data_pipeline.tokenizers.files import read_object, read_text
from sesame.data_pipeline.tokenizers.huggingface_engine import SPACE
from sesame.data_pipeline.tokenizers.special_tokens import END_OF_TEXT

CONTINUES = "##"
"""Prefix of a WordPiece that continues a word."""
LONGEST_WORD = 100
"""Characters; BERT's published code makes a longer word [UNK]."""
END_OF_WORD = "</w>"
"""Suffix of a piece of CLIP's that ends a word."""
CLIP_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
"""Pattern of CLIP's words, from transformers' class."""
OTHER_AFFIXES = ("\u2581", "@@", SPACE, "_")
"""Prefixes and suffixes of pieces in vocabularies that are not BERT's WordPiece."""
FOLDERS = (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt"))
"""(vocabulary, merges): the two pairs of file names in use."""


def to_bytes(parts: dict[str, Any]) -> bytes:
    """Return the bytes of a tokenizer JSON from the parts that ``word_pieces`` or ``byte_pairs`` returns."""
    whole = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "post_processor": None, **parts}
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()


def read_rows(path: Path) -> dict[str, int]:
    """Return the pieces of a ``vocab.txt`` and their ids."""
    # Only line feeds end a line: multilingual vocabularies have other line separators as pieces.
    pieces = [line.removesuffix("\r") for line in read_text(path).removesuffix("\n").split("\n")]
    ids: dict[str, int] = {}
    for number, piece in enumerate(pieces):
        if not piece or ids.setdefault(piece, number) != number:
            what = f"repeats '{piece}' of row {ids[piece] + 1}" if piece else "is empty"
            raise ConfigError(f"{path}: row {number + 1} {what}; BERT's vocab.txt has one piece in each row")
    if not any(piece.startswith(CONTINUES) for piece in ids):
        counts = {
            affix: sum(piece.startswith(affix) or piece.endswith(affix) for piece in ids if piece != affix)
            for affix in OTHER_AFFIXES
        }
        affix = max(counts, key=lambda each: counts[each])
        if counts[affix]:
            raise ConfigError(
                f"{path}: has no piece that begins with '{CONTINUES}', but {counts[affix]} with '{affix}', so it is no "
                "vocabulary of BERT's; give its tokenizer.json"
            )
    return ids


def word_pieces(
    ids: dict[str, int], normalizer: dict[str, Any] | None = None, model: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return the parts of a tokenizer JSON for BERT's WordPiece.

    Args:
        ids: of the pieces.
        normalizer: settings of BertNormalizer that differ from the default.
        model: settings of the model that differ from the default.
    """
    defaults = {
        "unk_token": "[UNK]",
        "continuing_subword_prefix": CONTINUES,
        "max_input_chars_per_word": LONGEST_WORD,
    }
    settings = {key: (model or {}).get(key, value) for key, value in defaults.items()}
    folding = {"clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}
    return {
        "normalizer": {
            "type": "BertNormalizer",
            **{key: (normalizer or {}).get(key, value) for key, value in folding.items()},
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "decoder": {"type": "WordPiece", "prefix": settings["continuing_subword_prefix"], "cleanup": True},
        "model": {"type": "WordPiece", **settings, "vocab": ids},
    }


def read_pairs(folder: Path) -> tuple[dict[str, int], list[list[str]]]:
    """Return (pieces with their ids, merges) of a folder's two files."""
    pieces_file, merges_file = _pair(folder)
    ids, merges = _vocabulary(pieces_file), []
    for number, line in enumerate(read_text(merges_file).split("\n"), 1):
        if not line or (number == 1 and line.startswith("#version")):
            continue
        pair = line.removesuffix("\r").split(" ")
        if len(pair) != 2 or not {*pair, "".join(pair)} <= ids.keys():
            raise ConfigError(
                f"{merges_file}: row {number} is no merge of two pieces of {pieces_file.name}; copy both files again"
            )
        merges.append(pair)
    return ids, merges


def is_pair(folder: Path) -> bool:
    """Return whether a folder has one of the two files, or both."""
    return any((folder / name).is_file() for names in FOLDERS for name in names)


def clip(ids: dict[str, int], merges: list[list[str]]) -> dict[str, Any]:
    """Return the parts of a tokenizer JSON for CLIP's BPE (Radford et al. 2021), which marks the end of a word."""
    parts = byte_pairs(ids, merges, leading_space=False)
    split = {"type": "Split", "pattern": {"Regex": CLIP_WORDS}, "behavior": "Removed", "invert": True}
    spaces = {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "}
    return {
        **parts,
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, spaces, {"type": "Lowercase"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, parts["pre_tokenizer"]]},
        "decoder": suffix_decoder(END_OF_WORD, parts["decoder"]),
        "model": {**parts["model"], "unk_token": END_OF_TEXT, "end_of_word_suffix": END_OF_WORD},
    }


def suffix_decoder(suffix: str, byte_level: dict[str, Any]) -> dict[str, Any]:
    """Return a decoder of byte-level BPE that replaces the suffix of words by a space."""
    space = {"type": "Replace", "pattern": {"String": suffix}, "content": SPACE}
    return {"type": "Sequence", "decoders": [space, byte_level]}


def byte_pairs(ids: dict[str, int], merges: list[list[str]], leading_space: bool) -> dict[str, Any]:
    """Return the parts of a tokenizer JSON for GPT-2's byte-level BPE; the first merge is applied first."""
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
        exists = [(folder / name).is_file() for name in names]
        if all(exists):
            return folder / names[0], folder / names[1]
        if any(exists):
            raise ConfigError(f"{folder}: has {names[exists.index(True)]} but no {names[exists.index(False)]}; add it")
    raise ConfigError(f"{folder}: has no encoder.json and vocab.bpe; give a folder with both, or a tokenizer file")


def _vocabulary(path: Path) -> dict[str, int]:
    """Pieces in the order of their ids, which are 0, 1, 2, ... without a gap; a piece for each byte."""
    values = read_object(path)
    try:
        ids = dict(sorted(values.items(), key=lambda item: item[1]))
    except TypeError as error:
        raise ConfigError(f"{path}: is not the JSON of a vocabulary ({error}); copy it again") from None
    if list(ids.values()) != list(range(len(ids))):
        raise ConfigError(f"{path}: its ids are not 0 to {len(ids) - 1}, each once; copy it again")
    characters = sum(len(piece) == 1 for piece in ids)
    if characters < 256:
        raise ConfigError(f"{path}: has {characters} pieces of one byte instead of 256; give GPT-2's encoder.json")
    return ids
