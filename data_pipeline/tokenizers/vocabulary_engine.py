"""The engine that runs the description of vocabulary files; the one file that knows `tokenizers`.

A description is a ``tokenizer.json`` in which special tokens are pieces like others, so that text never makes them.
"""

import copy
import json
import os
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from configs.errors import ConfigError
from data_pipeline.tokenizers.chunks import Joints
from data_pipeline.tokenizers.special_tokens import END_OF_TEXT
from data_pipeline.tokenizers.word_borders import WORD_IDEOGRAPH, starts_a_word

SPACE = "\u0120"
"""What byte-level pieces have for a space: its byte, moved to a letter."""
RESERVED = re.compile(r"\[unused\d+\]|<\|(?:endof|startof)text\|>|<(?:s|/s|pad|unk|mask)>")
"""Pieces that never stand for text."""
ENCODED_CHARACTERS = 1 << 20
"""Of texts that are encoded together; the library's answer for each is far larger than its ids."""

VISIBLE = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
"""Bytes that byte-level pieces show as themselves."""
BYTE_OF_LETTER = {chr(byte): byte for byte in VISIBLE} | {
    chr(256 + place): byte for place, byte in enumerate(sorted({*range(256)} - {*VISIBLE}))
}
"""Every letter of byte-level pieces -> its byte; the other bytes are moved to letters from 256 on."""

WORD_PIECES, BYTE_PAIRS = "word pieces", "byte pairs"
KINDS = {("WordPiece", "BertPreTokenizer"): WORD_PIECES, ("BPE", "ByteLevel"): BYTE_PAIRS}
"""(model, what cuts the text last before it) -> the kinds whose word starts are known."""


def is_description(model: bytes) -> bool:
    """Whether these bytes are a description; a sentencepiece model never begins so."""
    return model.startswith(b"{")


def steps(pre_tokenizer: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The parts of a pre-tokenizer or a normalizer in the order in which they are applied."""
    if not pre_tokenizer:
        return []
    inner = pre_tokenizer.get("pretokenizers") or pre_tokenizer.get("normalizers")
    if pre_tokenizer.get("type") != "Sequence":
        return [pre_tokenizer]
    return [step for each in inner or [] for step in steps(each)]


def kind_of(values: dict[str, Any]) -> str | None:
    """The kind of a description or ``tokenizer.json``; None for others."""
    cuts = steps(values.get("pre_tokenizer"))
    return KINDS.get((str((values.get("model") or {}).get("type")), str(cuts[-1].get("type")) if cuts else ""))


def library_ids(whole: dict[str, Any], texts: Sequence[str]) -> list[list[int]]:
    """Ids that the library gives texts by a ``tokenizer.json``, without special tokens around them.

    Raises:
        ConfigError: the library does not understand it.
    """
    return [each.ids for each in _library(whole).encode_batch(list(texts), add_special_tokens=False)]


def library_normalized(normalizer: dict[str, Any], texts: Sequence[str]) -> list[str]:
    """Texts as the library's ``normalizer`` changes them."""
    model = {"type": "WordLevel", "vocab": {}, "unk_token": ""}
    engine = _library({"version": "1.0", "added_tokens": [], "model": model, "normalizer": normalizer}).normalizer
    return [engine.normalize_str(text) for text in texts]


class VocabularyEngine:
    """Runs a description. Special tokens are no added tokens: text never makes them."""

    fast = None
    """There is no faster engine."""

    def __init__(self, description: bytes, name: str):
        try:
            self._values = json.loads(description)
            self._kind = kind_of(self._values)
            if self._kind is None:
                raise ValueError("neither word pieces nor byte-level byte pairs")
            self._cuts = steps(self._values["pre_tokenizer"])
            self._engines: dict[bool, Any] = {}
            self._engine = self._made(self._marks)
        # The library raises bare Exception for whatever it does not understand.
        except Exception as error:
            raise ConfigError(
                f"{name}: is no usable tokenizer ({type(error).__name__}: {error}); give BERT's vocab.txt, or a folder "
                "with GPT-2's encoder.json and vocab.bpe"
            ) from None
        model = self._values["model"]
        self._continues = model.get("continuing_subword_prefix") or ""
        self._suffix = model.get("end_of_word_suffix") or ""
        self._special = {token["content"] for token in self._values.get("added_tokens") or []}
        self._size = self._engine.get_vocab_size(with_added_tokens=False)

    @cached_property
    def joints(self) -> Joints:
        if self._kind == WORD_PIECES:
            return Joints(marks=False, keeps_spaces=False, keeps_newlines=False, cuts_at_spaces=True)
        newline = self.decode_ids(self.encode(["a\nb"])[0])
        return Joints(marks=self._marks, keeps_spaces=True, keeps_newlines="\n" in newline)

    @property
    def spells_everything(self) -> bool:
        return self._kind == BYTE_PAIRS

    @property
    def cuts_words_out(self) -> bool:
        """Nothing is left of white space but that a word ends there."""
        return self._kind == WORD_PIECES or bool(self._suffix)

    @property
    def has_only_end_of_text(self) -> bool:
        """A GPT-2 vocabulary, which has no mask."""
        return self._engine.token_to_id(END_OF_TEXT) is not None

    def get_piece_size(self) -> int:
        return self._size

    def encode(self, texts: Sequence[str], marked: Sequence[bool] | None = None) -> list[list[int]]:
        """Ids of each text.

        Args:
            marked: whether a text begins as if after a space; as the settings say where it is not said.
        """
        found: list[list[int]] = [[] for _ in texts]
        wanted = [
            self._marks if marked is None or self._kind == WORD_PIECES else bool(each) for each in marked or texts
        ]
        for kind in dict.fromkeys(wanted):
            engine = self._made(kind)
            for numbers in _in_batches([number for number, each in enumerate(wanted) if each == kind], texts):
                batch = engine.encode_batch_fast([texts[number] for number in numbers], add_special_tokens=False)
                for number, each in zip(numbers, batch, strict=True):
                    found[number] = each.ids
        return found

    def decode_ids(self, ids: Sequence[int]) -> str:
        text = self._engine.decode(list(ids), skip_special_tokens=False)
        return text.removesuffix(" ") if self._suffix else text

    def id_to_piece(self, token: int) -> str:
        piece = self._engine.id_to_token(token)
        if piece is None:
            raise IndexError(f"piece id is out of range: {token}")
        return piece

    def piece_to_id(self, piece: str) -> int:
        """The piece's id; that of another piece where there is none, as in sentencepiece."""
        return self._engine.token_to_id(piece) or 0

    def stands_for_text(self, token: int) -> bool:
        piece = self.id_to_piece(token)
        return not (piece in self._special or piece == "[UNK]" or RESERVED.fullmatch(piece))

    def is_marked(self, token: int) -> bool:
        """WordPiece marks what continues a word (Chinese characters are words each), GPT-2 what begins one."""
        piece = self.id_to_piece(token)
        return not piece.startswith(self._continues) if self._kind == WORD_PIECES else piece.startswith(SPACE)

    def starts_word(self, token: int) -> bool:
        return self.is_marked(token) or (self._kind == BYTE_PAIRS and starts_a_word(self.running_text(token)))

    def ends_word(self, token: int) -> bool:
        return bool(self._suffix) and self.id_to_piece(token).endswith(self._suffix)

    def running_text(self, token: int) -> bytes:
        """What a piece stands for in the middle of a text, in UTF-8."""
        piece = self.id_to_piece(token)
        if self._kind == WORD_PIECES:
            space = " " if self.is_marked(token) and not WORD_IDEOGRAPH.match(piece) else ""
            return (space + piece.removeprefix(self._continues)).encode()
        text = piece.removesuffix(self._suffix)
        if not {*text} <= BYTE_OF_LETTER.keys():
            return piece.encode()
        return bytes(BYTE_OF_LETTER[letter] for letter in text) + b" " * (text != piece)

    def normalized(self, text: str) -> str:
        """A text after the tokenizer's own normalisation."""
        return self._engine.normalizer.normalize_str(text) if self._engine.normalizer else text

    @property
    def _marks(self) -> bool:
        return any(cut.get("add_prefix_space", False) for cut in self._cuts)

    def _made(self, marks: bool) -> Any:
        """The library's tokenizer, with or without a space before each text."""
        if marks not in self._engines:
            values = copy.deepcopy({**self._values, "added_tokens": [], "post_processor": None})
            for cut in steps(values["pre_tokenizer"]):
                if "add_prefix_space" in cut:
                    cut["add_prefix_space"] = marks
            self._engines[marks] = _library({**values, "truncation": None, "padding": None})
        return self._engines[marks]


def _in_batches(numbers: Sequence[int], texts: Sequence[str]) -> Iterator[list[int]]:
    """Numbers of texts, so many together as are encoded at once."""
    batch: list[int] = []
    room = ENCODED_CHARACTERS
    for number in numbers:
        if batch and len(texts[number]) > room:
            yield batch
            batch, room = [], ENCODED_CHARACTERS
        batch.append(number)
        room -= len(texts[number])
    if batch:
        yield batch


def _library(values: dict[str, Any]) -> Any:
    # The pipeline already runs one process a core.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import tokenizers

    return tokenizers.Tokenizer.from_str(json.dumps(values))
