"""WordPiece and byte-level BPE, run by Hugging Face's tokenizers; the only file of the pipeline that imports it.

The engine reads a ``tokenizer.json`` in which special tokens are ordinary pieces, so that text never makes them.
"""

import copy
import json
import os
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from sesame.configs.errors import ConfigError
from sesame.data_pipeline.ragged import Ragged
from sesame.data_pipeline.tokenizers.chunks import SpaceRules, texts_at
from sesame.data_pipeline.tokenizers.engine import Dtype, id_rows
from sesame.data_pipeline.tokenizers.special_tokens import END_OF_TEXT
from sesame.data_pipeline.tokenizers.word_boundaries import WORD_IDEOGRAPH, starts_word

SPACE = "\u0120"
"""A space in byte-level pieces, whose bytes are written as printable characters."""
RESERVED = re.compile(r"\[unused\d+\]|<\|(?:endof|startof)text\|>|<(?:s|/s|pad|unk|mask)>")
"""Pieces that never stand for text."""
BATCH_CHARACTERS = 1 << 20
"""Most text that is encoded in one call: the library's result is far larger than its ids."""

VISIBLE = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
"""Bytes that byte-level pieces write as the character of the same number."""
BYTE_OF_CHARACTER = {chr(byte): byte for byte in VISIBLE} | {
    chr(256 + place): byte for place, byte in enumerate(sorted({*range(256)} - {*VISIBLE}))
}
"""Every character of byte-level pieces -> its byte; the other bytes are written as the characters from 256 on."""

WORD_PIECES, BYTE_PAIRS = "word pieces", "byte pairs"
KINDS = {("WordPiece", "BertPreTokenizer"): WORD_PIECES, ("BPE", "ByteLevel"): BYTE_PAIRS}
"""(model, last pre-tokenizer) -> the kinds whose word starts are known."""


def steps(component: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the steps of a pre-tokenizer or a normalizer in the order in which they are applied."""
    if not component:
        return []
    inner = component.get("pretokenizers") or component.get("normalizers")
    if component.get("type") != "Sequence":
        return [component]
    return [step for each in inner or [] for step in steps(each)]


def kind_of(tokenizer_json: dict[str, Any]) -> str | None:
    """Return the kind of a ``tokenizer.json``; None for one that is not supported."""
    pre_tokenizers = steps(tokenizer_json.get("pre_tokenizer"))
    model = (tokenizer_json.get("model") or {}).get("type")
    return KINDS.get((str(model), str(pre_tokenizers[-1].get("type")) if pre_tokenizers else ""))


def library_ids(tokenizer_json: dict[str, Any], texts: Sequence[str]) -> list[list[int]]:
    """Return the ids that the library gives texts by a ``tokenizer.json``, without special tokens around them.

    Raises:
        Exception: the library cannot load it.
    """
    return [each.ids for each in _load(tokenizer_json).encode_batch(list(texts), add_special_tokens=False)]


def library_normalize(normalizer: dict[str, Any], texts: Sequence[str]) -> list[str]:
    """Return texts as the library's ``normalizer`` changes them."""
    model = {"type": "WordLevel", "vocab": {}, "unk_token": ""}
    loaded = _load({"version": "1.0", "added_tokens": [], "model": model, "normalizer": normalizer}).normalizer
    return [loaded.normalize_str(text) for text in texts]


class HuggingFaceEngine:
    """In the role ``Engine``."""

    def __init__(self, content: bytes, name: str):
        try:
            self._json = json.loads(content)
            self._kind = kind_of(self._json)
            if self._kind is None:
                raise ValueError("neither WordPiece nor byte-level BPE")
            self._pre_tokenizers = steps(self._json["pre_tokenizer"])
            self._loaded: dict[bool, Any] = {}
            self._library = self._with_prefix_space(self._adds_space)
        # The library raises bare Exception for whatever it does not support.
        except Exception as error:
            raise ConfigError(
                f"{name}: is no usable tokenizer ({type(error).__name__}: {error}); give BERT's vocab.txt, or a folder "
                "with GPT-2's encoder.json and vocab.bpe"
            ) from None
        model = self._json["model"]
        self._continues = model.get("continuing_subword_prefix") or ""
        self._suffix = model.get("end_of_word_suffix") or ""
        self._special = {token["content"] for token in self._json.get("added_tokens") or []}
        self._size = self._library.get_vocab_size(with_added_tokens=False)

    @property
    def space_rules(self) -> SpaceRules:
        return self._space_rules

    @cached_property
    def _space_rules(self) -> SpaceRules:
        if self._kind == WORD_PIECES:
            return SpaceRules(adds_space=False, keeps_spaces=False, keeps_newlines=False, splits_at_spaces=True)
        decoded = self.decode(self.encode(["a\nb"])[0])
        return SpaceRules(adds_space=self._adds_space, keeps_spaces=True, keeps_newlines="\n" in decoded)

    @property
    def encodes_every_character(self) -> bool:
        return self._kind == BYTE_PAIRS

    @property
    def drops_spaces(self) -> bool:
        return self._kind == WORD_PIECES or bool(self._suffix)

    @property
    def has_only_end_of_text(self) -> bool:
        return self._library.token_to_id(END_OF_TEXT) is not None

    @property
    def vocabulary_size(self) -> int:
        return self._size

    def encode(self, texts: Sequence[str], marked: Sequence[bool] | None = None) -> list[list[int]]:
        encoded: list[list[int]] = [[] for _ in texts]
        if marked is None or self._kind == WORD_PIECES:
            marked = [self._adds_space] * len(texts)
        for prefix_space in dict.fromkeys(map(bool, marked)):
            library = self._with_prefix_space(prefix_space)
            chosen = [number for number, each in enumerate(marked) if bool(each) == prefix_space]
            for numbers in _batches(chosen, texts):
                batch = library.encode_batch_fast([texts[number] for number in numbers], add_special_tokens=False)
                for number, each in zip(numbers, batch, strict=True):
                    encoded[number] = each.ids
        return encoded

    def encode_ranges(self, texts: Sequence[str]) -> list[tuple[list[int], list[tuple[int, int]]]]:
        numbers = range(len(texts))
        batches = [[texts[number] for number in batch] for batch in _batches(numbers, texts)]
        encoded = [each for batch in batches for each in self._library.encode_batch(batch, add_special_tokens=False)]
        return [(each.ids, each.offsets) for each in encoded]

    def encode_spans(self, data: np.ndarray, spans: np.ndarray, marked: np.ndarray, dtype: Dtype) -> Ragged:
        return id_rows(self.encode(texts_at(data, spans), marked.tolist()), dtype)

    def decode(self, ids: Sequence[int]) -> str:
        text = self._library.decode(list(ids), skip_special_tokens=False)
        return text.removesuffix(" ") if self._suffix else text

    def piece(self, token: int) -> str:
        piece = self._library.id_to_token(token)
        if piece is None:
            raise IndexError(f"piece id is out of range: {token}")
        return piece

    def piece_id(self, piece: str) -> int:
        return self._library.token_to_id(piece) or 0

    def piece_bytes(self, token: int) -> bytes:
        piece = self.piece(token)
        if self._kind == WORD_PIECES:
            space = " " if self.is_marked(token) and not WORD_IDEOGRAPH.match(piece) else ""
            return (space + piece.removeprefix(self._continues)).encode()
        text = piece.removesuffix(self._suffix)
        if not {*text} <= BYTE_OF_CHARACTER.keys():
            return piece.encode()
        return bytes(BYTE_OF_CHARACTER[character] for character in text) + b" " * (text != piece)

    def is_text(self, token: int) -> bool:
        piece = self.piece(token)
        return not (piece in self._special or piece == "[UNK]" or RESERVED.fullmatch(piece))

    def is_marked(self, token: int) -> bool:
        # WordPiece marks what continues a word (Chinese characters are words each), GPT-2 what begins one.
        piece = self.piece(token)
        return not piece.startswith(self._continues) if self._kind == WORD_PIECES else piece.startswith(SPACE)

    def starts_word(self, token: int) -> bool:
        return self.is_marked(token) or (self._kind == BYTE_PAIRS and starts_word(self.piece_bytes(token)))

    def ends_word(self, token: int) -> bool:
        return bool(self._suffix) and self.piece(token).endswith(self._suffix)

    def normalize(self, text: str) -> str:
        return self._library.normalizer.normalize_str(text) if self._library.normalizer else text

    @property
    def _adds_space(self) -> bool:
        return any(step.get("add_prefix_space", False) for step in self._pre_tokenizers)

    def _with_prefix_space(self, add: bool) -> Any:
        """The library's tokenizer with or without a space added before each text."""
        if add not in self._loaded:
            tokenizer_json = copy.deepcopy({**self._json, "added_tokens": [], "post_processor": None})
            for step in steps(tokenizer_json["pre_tokenizer"]):
                if "add_prefix_space" in step:
                    step["add_prefix_space"] = add
            self._loaded[add] = _load({**tokenizer_json, "truncation": None, "padding": None})
        return self._loaded[add]


def _batches(numbers: Sequence[int], texts: Sequence[str]) -> Iterator[list[int]]:
    """Numbers of texts in batches of at most ``BATCH_CHARACTERS``, unless a single text is longer."""
    batch: list[int] = []
    room = BATCH_CHARACTERS
    for number in numbers:
        if batch and len(texts[number]) > room:
            yield batch
            batch, room = [], BATCH_CHARACTERS
        batch.append(number)
        room -= len(texts[number])
    if batch:
        yield batch


def _load(tokenizer_json: dict[str, Any]) -> Any:
    # The pipeline already runs one process per core.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import tokenizers

    return tokenizers.Tokenizer.from_str(json.dumps(tokenizer_json))
