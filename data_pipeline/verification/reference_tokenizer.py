"""A dataset's tokenizer, read from its file by the library of its format.

Shares no code with ``data_pipeline/tokenizers``, whose output it checks. It has the text of each piece, and whether a
word begins there, by the white space in the text.
"""

import json
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import sentencepiece
import tokenizers
from sentencepiece import sentencepiece_model_pb2

from sesame.configs.errors import DatasetError
from sesame.data_pipeline.verification import PREPARE_AGAIN

SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
"""What sentencepiece writes for a space (Kudo and Richardson 2018)."""
CONTROL_PIECE, BYTE_PIECE, UNKNOWN_PIECE = 3, 6, 2
"""``ModelProto.SentencePiece.Type``."""
NO_SPACES = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")
"""Prefixes of the Unicode names of letters in scripts without spaces between words; there each piece is a word."""
EASTERN_LEAD_BYTES = bytes(range(0xE3, 0xEA))
"""First bytes of U+3000 to U+9FFF in UTF-8."""


class ReferenceTokenizer(NamedTuple):
    """The text of each id."""

    texts: tuple[bytes, ...]
    """[V] UTF-8, with white space; a piece of bytes may be a part of a character."""
    unknown: np.ndarray
    """bool [V]: stands for text that is not in the vocabulary."""
    begins_word: np.ndarray
    """bool [V]: a word begins with the piece."""
    ends_word: np.ndarray
    """bool [V]: a word begins after the piece."""
    visible: np.ndarray
    """int64 [V]: characters other than white space."""
    keeps_spaces: bool
    """Pieces contain white space. Those of WordPiece do not, because it also splits at punctuation."""
    normalize: Callable[[str], str]
    """Applies the tokenizer's normalization: case, Unicode form."""

    @classmethod
    def load(cls, path: Path, special: dict[str, int]) -> "ReferenceTokenizer":
        """Read the file of a dataset.

        Args:
            special: role -> id of the special tokens, from the manifest; they have no text.

        Raises:
            DatasetError: its library cannot read it.
        """
        content = path.read_bytes()
        try:
            read = _read_vocabulary if content.startswith(b"{") else _read_sentencepiece
            texts, unknown, spaces, normalize = read(content)
        except Exception as error:
            raise DatasetError(f"{path}: its library cannot read it ({error}); {PREPARE_AGAIN}") from None
        for role, token in special.items():
            if not 0 <= token < len(texts):
                raise DatasetError(f"{path}: has no id {token} ({role}); {PREPARE_AGAIN}")
            if role != "unk" or token in (special["cls"], special["sep"]):
                texts[token] = b""
                unknown[token] = False
        strings = [text.decode("utf-8", "replace") for text in texts]
        begins = np.array([_is_spaceless(string, text) for string, text in zip(strings, texts, strict=True)])
        ends = np.zeros(len(texts), bool)
        if spaces == "after":
            ends = np.array([string[-1:].isspace() for string in strings])
        else:
            begins |= np.array([string[:1].isspace() for string in strings])
        if spaces == "none":
            # WordPiece's unknown token is a whole word.
            begins |= np.array(unknown)
        visible = np.array([_visible(text) for text in texts], np.int64)
        return cls(tuple(texts), np.array(unknown), begins, ends, visible, spaces != "none", normalize)

    def text(self, ids: Sequence[int]) -> list[str]:
        """Return the text of some ids, split at unknown ones; incomplete characters are dropped."""
        fragments: list[list[bytes]] = [[]]
        for token in ids:
            if self.unknown[token]:
                fragments.append([])
            else:
                fragments[-1].append(self.texts[token])
        return [b"".join(each).decode("utf-8", "ignore") for each in fragments]


Spaces = Literal["before", "after", "none"]
"""On which side of a word its pieces have the white space; WordPiece's have none."""
Content = tuple[list[bytes], list[bool], Spaces, Callable[[str], str]]
"""Texts, which of them are unknown, position of white space, normalization."""


def _read_sentencepiece(content: bytes) -> Content:
    proto: Any = sentencepiece_model_pb2.ModelProto.FromString(content)  # pyright: ignore[reportAttributeAccessIssue]
    processor: Any = sentencepiece.SentencePieceProcessor(model_proto=content)
    decoders = {CONTROL_PIECE: lambda piece: b"", BYTE_PIECE: lambda piece: bytes([int(piece[3:5], 16)])}
    texts = [decoders.get(each.type, _with_spaces)(each.piece) for each in proto.pieces]
    unknown = [each.type == UNKNOWN_PIECE for each in proto.pieces]
    spaces = "after" if proto.trainer_spec.treat_whitespace_as_suffix else "before"
    return texts, unknown, spaces, lambda text: processor.normalize(text).replace(SPACE, " ")


def _with_spaces(piece: str) -> bytes:
    return piece.replace(SPACE, " ").encode()


def _read_vocabulary(content: bytes) -> Content:
    values = json.loads(content)
    model = values["model"]
    pieces: dict[int, str] = {token: piece for piece, token in model["vocab"].items()}
    pieces |= {token["id"]: token["content"] for token in values.get("added_tokens") or []}
    ordered = [pieces.get(token, "") for token in range(max(pieces) + 1)]
    normalizer = tokenizers.Tokenizer.from_str(content.decode()).normalizer
    normalize = normalizer.normalize_str if normalizer is not None else lambda text: text
    unknown = [piece == model.get("unk_token") for piece in ordered]
    if model["type"] == "WordPiece":
        prefix = model["continuing_subword_prefix"]
        texts = [piece.removeprefix(prefix) if piece.startswith(prefix) else f" {piece}" for piece in ordered]
        return [text.encode() for text in texts], unknown, "none", normalize
    byte_of_letter, suffix = _byte_of_letter(), model.get("end_of_word_suffix") or ""
    texts = []
    for piece in ordered:
        inside = piece.removesuffix(suffix) if suffix else piece
        is_bytes = all(letter in byte_of_letter for letter in inside)
        text = bytes(byte_of_letter[letter] for letter in inside) if is_bytes else inside.encode()
        texts.append(text + b" " * (inside != piece))
    return texts, unknown, "after" if suffix else "before", normalize


def _byte_of_letter() -> dict[str, int]:
    """Letter of a byte-level piece -> byte (Radford et al. 2019, ``bytes_to_unicode``).

    Printable characters of Latin-1 are the bytes of their code points; other bytes are letters from U+0100 on.
    """
    not_printable = [byte for byte in range(256) if byte <= 32 or 127 <= byte <= 160 or byte == 173]
    moved = {chr(256 + number): byte for number, byte in enumerate(not_printable)}
    return moved | {chr(byte): byte for byte in range(256) if byte not in not_printable}


def _is_spaceless(text: str, raw: bytes) -> bool:
    """Whether a piece begins with a character of a script without spaces."""
    if raw and raw[:1] in EASTERN_LEAD_BYTES:
        return True
    return unicodedata.name(text[:1] or " ", "").startswith(NO_SPACES)


def _visible(text: bytes) -> int:
    """Number of characters other than white space that begin in the piece."""
    try:
        return sum(not each.isspace() for each in text.decode())
    except UnicodeDecodeError:
        return sum(byte & 0xC0 != 0x80 and not bytes([byte]).isspace() for byte in text)
