"""A dataset's tokenizer as ``sesame verify`` reads it: from its file, by the library that the file is for.

Shares nothing with ``tokenizer.py``, whose work is checked with it. What matters is the text that each piece stands
for: where white space is in it, a word begins.
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

from configs.errors import DatasetError

SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
"""What sentencepiece writes for a space (Kudo and Richardson 2018)."""
CONTROL_PIECE, BYTE_PIECE, UNKNOWN_PIECE = 3, 6, 2
"""``ModelProto.SentencePiece.Type``."""
NO_SPACES = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")
"""How the Unicode names of letters begin in scripts that put no spaces between words; there each piece is a word."""
EASTERN_LEADS = bytes(range(0xE3, 0xEA))
"""First bytes of U+3000 to U+9FFF in UTF-8."""


class ReferenceTokenizer(NamedTuple):
    """What each id stands for."""

    texts: tuple[bytes, ...]
    """[V] UTF-8 in running text, white space included; a piece of bytes may end inside of a character."""
    unknown: np.ndarray
    """bool [V]: stands for text that the vocabulary does not have."""
    begins_word: np.ndarray
    """bool [V]: a word begins with the piece."""
    ends_word: np.ndarray
    """bool [V]: a word begins after the piece."""
    visible: np.ndarray
    """int64 [V]: characters that are not white space."""
    keeps_spaces: bool
    """The pieces say where white space is; WordPiece's do not, for it parts punctuation too."""
    normalize: Callable[[str], str]
    """A text as the tokenizer sees it: case, Unicode form."""

    @classmethod
    def load(cls, path: Path, special: dict[str, int]) -> "ReferenceTokenizer":
        """Read the file of a dataset.

        Args:
            special: ids by role, from the manifest; they stand for no text.

        Raises:
            DatasetError: no library can read it.
        """
        content = path.read_bytes()
        try:
            read = _vocabulary if content.startswith(b"{") else _sentencepiece
            texts, unknown, spaces, normalize = read(content)
        except Exception as error:
            raise DatasetError(f"{path}: its library cannot read it ({error}); prepare the dataset again") from None
        for role, token in special.items():
            if not 0 <= token < len(texts):
                raise DatasetError(f"{path}: has no id {token} ({role}); prepare the dataset again")
            if role != "unk" or token in (special["cls"], special["sep"]):
                texts[token] = b""
                unknown[token] = False
        shown = [text.decode("utf-8", "replace") for text in texts]
        begins = np.array([_without_spaces(text, raw) for text, raw in zip(shown, texts, strict=True)])
        ends = np.zeros(len(texts), bool)
        if spaces == "behind":
            ends = np.array([text[-1:].isspace() for text in shown])
        else:
            begins |= np.array([text[:1].isspace() for text in shown])
        if spaces == "unsaid":
            # WordPiece's unknown word is a whole one.
            begins |= np.array(unknown)
        visible = np.array([_visible(text) for text in texts], np.int64)
        return cls(tuple(texts), np.array(unknown), begins, ends, visible, spaces != "unsaid", normalize)

    def text(self, ids: Sequence[int]) -> list[str]:
        """The text of some ids, in the stretches between those that are unknown; half a character at an end is left
        out."""
        stretches, held = [], []
        for token in ids:
            if self.unknown[token]:
                stretches.append(held)
                held = []
            else:
                held.append(self.texts[token])
        return [b"".join(each).decode("utf-8", "ignore") for each in (*stretches, held)]


Spaces = Literal["before", "behind", "unsaid"]
"""Where a word's pieces have the white space beside it; WordPiece's do not say where it was."""
Read = tuple[list[bytes], list[bool], Spaces, Callable[[str], str]]
"""Texts, which are unknown, where white space is, how a text is normalised."""


def _sentencepiece(content: bytes) -> Read:
    proto: Any = sentencepiece_model_pb2.ModelProto.FromString(content)  # pyright: ignore[reportAttributeAccessIssue]
    processor: Any = sentencepiece.SentencePieceProcessor(model_proto=content)
    makers = {CONTROL_PIECE: lambda piece: b"", BYTE_PIECE: lambda piece: bytes([int(piece[3:5], 16)])}
    texts = [
        makers.get(each.type, lambda piece: piece.replace(SPACE, " ").encode())(each.piece) for each in proto.pieces
    ]
    unknown = [each.type == UNKNOWN_PIECE for each in proto.pieces]
    spaces = "behind" if proto.trainer_spec.treat_whitespace_as_suffix else "before"
    return texts, unknown, spaces, lambda text: processor.normalize(text).replace(SPACE, " ")


def _with_spaces(piece: str) -> bytes:
    return piece.replace(SPACE, " ").encode()


def _vocabulary(content: bytes) -> Read:
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
        return [text.encode() for text in texts], unknown, "unsaid", normalize
    letters, suffix = _letters(), model.get("end_of_word_suffix") or ""
    texts = []
    for piece in ordered:
        inside = piece.removesuffix(suffix) if suffix else piece
        known = all(letter in letters for letter in inside)
        text = bytes(letters[letter] for letter in inside) if known else inside.encode()
        texts.append(text + b" " * (inside != piece))
    return texts, unknown, "behind" if suffix else "before", normalize


def _letters() -> dict[str, int]:
    """Letter of a byte-level piece -> byte: printable ones of Latin-1 as they are, the others from U+0100 on (Radford
    et al. 2019, ``bytes_to_unicode``)."""
    hidden = [byte for byte in range(256) if byte <= 32 or 127 <= byte <= 160 or byte == 173]
    moved = {chr(256 + place): byte for place, byte in enumerate(hidden)}
    return moved | {chr(byte): byte for byte in range(256) if byte not in hidden}


def _without_spaces(text: str, raw: bytes) -> bool:
    """Whether a piece begins with a character of a script without spaces."""
    return (raw[:1] in EASTERN_LEADS and len(raw) > 0) or unicodedata.name(text[:1] or " ", "").startswith(NO_SPACES)


def _visible(text: bytes) -> int:
    """Characters that are not white space; one that begins in the piece counts."""
    try:
        return sum(not each.isspace() for each in text.decode())
    except UnicodeDecodeError:
        return sum(byte & 0xC0 != 0x80 and not bytes([byte]).isspace() for byte in text)
