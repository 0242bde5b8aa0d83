"""Existing vocabulary files -> one JSON description, and the engine that runs it; the one file that knows `tokenizers`.

| given                                                | algorithm                                             |
|------------------------------------------------------|-------------------------------------------------------|
| ``vocab.txt`` (BERT: cased, uncased, Chinese)        | WordPiece (Devlin et al. 2019)                        |
| folder with ``encoder.json`` + ``vocab.bpe`` (GPT-2) | byte-level byte pairs (Radford et al. 2019)           |
| folder with ``vocab.json`` + ``merges.txt``          | the same under the names that RoBERTa's files have    |

The description is written here and not by the library, so that its bytes do not depend on the library's version.
"""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configs.errors import ConfigError

CONTINUES = "##"
"""In front of a WordPiece that goes on with a word."""
SPACE = "\u0120"
"""What GPT-2's pieces have for a space: its byte, moved to a letter."""
END_OF_TEXT = "<|endoftext|>"
"""GPT-2's only special token."""
LONGEST_WORD = 100
"""Characters; BERT's published code makes a longer word [UNK]."""
FOLDERS = (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt"))
"""(pieces with their ids, merges): the two pairs of names in use."""
RESERVED = re.compile(r"\[unused\d+\]|<\|endoftext\|>|<(?:s|/s|pad|unk|mask)>")
"""Pieces that never stand for text."""
ENCODED_TOGETHER = 1024
"""Texts; the library's answer for each is far larger than its ids."""


VISIBLE = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
"""Bytes that GPT-2's pieces show as themselves."""
BYTE_OF_LETTER = {chr(byte): byte for byte in VISIBLE} | {
    chr(256 + place): byte for place, byte in enumerate(sorted({*range(256)} - {*VISIBLE}))
}
"""Every letter of GPT-2's pieces -> its byte; the other bytes are moved to letters from 256 on."""


def is_vocabulary(path: Path) -> bool:
    """Whether ``path`` names vocabulary files and not a model that is complete in itself."""
    return path.is_dir() or path.suffix == ".txt"


def is_description(model: bytes) -> bool:
    """Whether these bytes are a description; a sentencepiece model never begins so."""
    return model.startswith(b"{")


def described(path: Path, *, lowercase: bool, leading_space: bool) -> bytes:
    """The description of vocabulary files; equal files and settings give equal bytes.

    Args:
        path: a ``vocab.txt``, or a folder with GPT-2's two files.
        lowercase: fold case and strip accents (only ``vocab.txt``).
        leading_space: each text begins as if after a space (only GPT-2's files).

    Raises:
        ConfigError: a file is missing or broken.
    """
    return written(_byte_pairs(path, leading_space) if path.is_dir() else word_pieces(_rows(path), lowercase))


def written(parts: dict[str, Any]) -> bytes:
    """The bytes of a description, of what ``word_pieces`` or ``byte_pairs`` gives."""
    whole = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "post_processor": None, **parts}
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()


class VocabularyProcessor:
    """Runs a description, under the names of sentencepiece's processor. Special tokens are no added tokens: text never
    makes them."""

    def __init__(self, description: bytes, name: str):
        # The pipeline already runs one process a core.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        import tokenizers

        try:
            values = json.loads(description)
            self._kind = KINDS[values["model"]["type"], values["pre_tokenizer"]["type"]]
            plain = {**values, "added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
            self._engine = tokenizers.Tokenizer.from_str(json.dumps(plain))
        # The library raises bare Exception for whatever it does not understand.
        except Exception as error:
            raise ConfigError(
                f"{name}: is no usable tokenizer ({type(error).__name__}: {error}); give BERT's vocab.txt, or a folder "
                "with GPT-2's encoder.json and vocab.bpe"
            ) from None
        self._size = self._engine.get_vocab_size(with_added_tokens=False)

    @property
    def has_only_end_of_text(self) -> bool:
        """A GPT-2 vocabulary, which has no mask."""
        return self._engine.token_to_id(END_OF_TEXT) is not None

    def get_piece_size(self) -> int:
        return self._size

    def encode_as_ids(self, text: str) -> list[int]:
        return self._engine.encode(text, add_special_tokens=False).ids

    def encode(self, texts: Sequence[str], num_threads: int = 1) -> list[list[int]]:
        """Ids of each text; ``num_threads`` is always one."""
        rows = []
        for start in range(0, len(texts), ENCODED_TOGETHER):
            some = list(texts[start : start + ENCODED_TOGETHER])
            rows += [each.ids for each in self._engine.encode_batch_fast(some, add_special_tokens=False)]
        return rows

    def decode_ids(self, ids: Sequence[int]) -> str:
        return self._engine.decode(list(ids), skip_special_tokens=False)

    def id_to_piece(self, token: int) -> str:
        piece = self._engine.id_to_token(token)
        if piece is None:
            raise IndexError(f"piece id is out of range: {token}")
        return piece

    def piece_to_id(self, piece: str) -> int:
        """The piece's id; that of another piece where there is none, as in sentencepiece."""
        return self._engine.token_to_id(piece) or 0

    def is_control(self, token: int) -> bool:
        return RESERVED.fullmatch(self.id_to_piece(token)) is not None

    def is_unknown(self, token: int) -> bool:
        return self.id_to_piece(token) == "[UNK]"

    def without_mark(self, token: int) -> str:
        """The piece as it is read; bytes that are no character alone show as the replacement character."""
        if self._kind == "word pieces":
            return self.id_to_piece(token).removeprefix(CONTINUES)
        return self.decode_ids([token]).removeprefix(" ")

    def bytes_of(self, token: int) -> bytes:
        """The bytes of the text that a piece stands for, without its mark."""
        if self._kind == "word pieces":
            return self.without_mark(token).encode()
        return bytes(BYTE_OF_LETTER[letter] for letter in self.id_to_piece(token).removeprefix(SPACE))

    def begins_word(self, piece: str) -> bool:
        """WordPiece marks what continues a word (Chinese characters are words each), GPT-2 what begins one."""
        return not piece.startswith(CONTINUES) if self._kind == "word pieces" else piece.startswith(SPACE)


KINDS = {("WordPiece", "BertPreTokenizer"): "word pieces", ("BPE", "ByteLevel"): "byte pairs"}
"""(model, what cuts the text before it) -> the kinds whose word starts are known."""


def _rows(path: Path) -> dict[str, int]:
    """The pieces of a ``vocab.txt`` and their ids."""
    # Only line feeds end a line: multilingual vocabularies have other line separators as pieces.
    pieces = [line.removesuffix("\r") for line in _text(path).removesuffix("\n").split("\n")]
    ids: dict[str, int] = {}
    for number, piece in enumerate(pieces):
        if not piece or ids.setdefault(piece, number) != number:
            what = f"repeats '{piece}' of row {ids[piece] + 1}" if piece else "is empty"
            raise ConfigError(f"{path}: row {number + 1} {what}; BERT's vocab.txt has one piece in each row")
    return ids


def word_pieces(ids: dict[str, int], lowercase: bool) -> dict[str, Any]:
    """The parts of a description that makes BERT's WordPiece of these pieces."""
    return {
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": lowercase,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "decoder": {"type": "WordPiece", "prefix": CONTINUES, "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": CONTINUES,
            "max_input_chars_per_word": LONGEST_WORD,
            "vocab": ids,
        },
    }


def _byte_pairs(folder: Path, leading_space: bool) -> dict[str, Any]:
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
    return byte_pairs(ids, merges, leading_space)


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
