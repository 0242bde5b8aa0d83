"""sentencepiece models (Kudo & Richardson 2018), run with their own settings."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import sentencepiece

from sesame.configs.errors import ConfigError
from sesame.data_pipeline.ragged import Ragged
from sesame.data_pipeline.tokenizers.chunks import SpaceRules, texts_at
from sesame.data_pipeline.tokenizers.engine import Dtype, id_rows
from sesame.data_pipeline.tokenizers.fast_sentencepiece import FastEncoder, fast_encoder
from sesame.data_pipeline.tokenizers.sentencepiece_proto import (
    BYTE,
    CONTROL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    WORD_START,
    model_proto,
    with_ranges,
)
from sesame.data_pipeline.tokenizers.special_tokens import KNOWN_NAMES, is_sentinel
from sesame.data_pipeline.tokenizers.word_boundaries import starts_word


class SentencePieceEngine:
    """In the role ``Engine``. Spans are encoded by the fast encoder where it supports the model and the text."""

    has_only_end_of_text = drops_spaces = False

    def __init__(self, model: bytes, name: str):
        self._decoder = _processor(model, name)
        self._proto = model_proto(model)
        self._normalizer = self._proto.normalizer_spec
        self._suffix = self._proto.trainer_spec.treat_whitespace_as_suffix
        self._types = [piece.type for piece in self._proto.pieces]
        self._encoders: dict[bool, Any] = {}

    @cached_property
    def fast(self) -> FastEncoder | None:
        """Built on first use: a process that loads a tokenizer may never encode."""
        return fast_encoder(self._proto, self._encoder(True))

    @property
    def space_rules(self) -> SpaceRules:
        return self._space_rules

    @cached_property
    def _space_rules(self) -> SpaceRules:
        return SpaceRules(
            adds_space=self._normalizer.add_dummy_prefix,
            keeps_spaces=not self._normalizer.remove_extra_whitespaces,
            keeps_newlines=self._decoded_newline == "\n",
            suffix=self._suffix,
            splits_at_spaces=self.fast is not None,
        )

    @property
    def encodes_every_character(self) -> bool:
        return self._proto.trainer_spec.byte_fallback

    @cached_property
    def _decoded_newline(self) -> str:
        """What a newline between two words is decoded as; empty if nothing or unknown."""
        encoder = self._encoder(False)
        ids = encoder.encode("a\nb")
        text = "" if encoder.unk_id() in encoder.encode("\n") else encoder.decode(ids)
        return next((space for space in ("\n", " ") if space in text), "")

    @property
    def vocabulary_size(self) -> int:
        return len(self._types)

    def encode(self, texts: Sequence[str], marked: Sequence[bool] | None = None) -> list[list[int]]:
        texts = self._without_newlines(texts)
        if marked is None:
            return self._encoder(self._normalizer.add_dummy_prefix).encode(texts, num_threads=1)
        encoded: list[list[int]] = [[] for _ in texts]
        for kind in (True, False):
            numbers = [number for number, each in enumerate(marked) if bool(each) == kind]
            rows = self._encoder(kind).encode([texts[number] for number in numbers], num_threads=1) if numbers else []
            for number, row in zip(numbers, rows, strict=True):
                encoded[number] = row
        return encoded

    def encode_ranges(self, texts: Sequence[str]) -> list[tuple[list[int], list[tuple[int, int]]]]:
        encoder = self._encoder(self._normalizer.add_dummy_prefix)
        return [
            with_ranges(encoder.encode(text, out_type="serialized_proto"), text)
            for text in self._without_newlines(texts)
        ]

    def encode_spans(self, data: np.ndarray, spans: np.ndarray, marked: np.ndarray, dtype: Dtype) -> Ragged:
        if self.fast is None:
            return id_rows(self.encode(texts_at(data, spans), marked.tolist()), dtype)
        rows, skipped = self.fast.encode_spans(data, spans, marked, dtype)
        if not len(skipped):
            return rows
        order = np.arange(len(rows.lengths))
        order[skipped] = len(order) + np.arange(len(skipped))
        rest = id_rows(self.encode(texts_at(data, spans[skipped]), marked[skipped].tolist()), dtype)
        return Ragged.joined([rows, rest]).take(order)

    def decode(self, ids: Sequence[int]) -> str:
        text = self._decoder.decode_ids(list(ids))
        # sentencepiece removes the white space that it added before a text, but not that behind one.
        return text.removesuffix(" ") if self._suffix and self._normalizer.add_dummy_prefix else text

    def piece(self, token: int) -> str:
        try:
            return self._decoder.id_to_piece(token)
        except UnicodeDecodeError:
            raise ConfigError(f"the tokenizer model: its piece {token} is not UTF-8; copy the file again") from None

    def piece_id(self, piece: str) -> int:
        return self._decoder.piece_to_id(piece)

    def piece_bytes(self, token: int) -> bytes:
        piece = self.piece(token)
        if self._types[token] == BYTE:
            return bytes([int(piece[1:-1], 16)])
        return piece.replace(WORD_START, " ").encode("utf-8", "surrogatepass")

    def is_text(self, token: int) -> bool:
        return self._types[token] not in (UNKNOWN, CONTROL, UNUSED)

    def is_marked(self, token: int) -> bool:
        return not self._suffix and self.piece(token).startswith((WORD_START, " "))

    def starts_word(self, token: int) -> bool:
        text = self.piece_bytes(token)
        return self.is_marked(token) or starts_word(text.removesuffix(b" ") if self._suffix else text)

    def ends_word(self, token: int) -> bool:
        return self._suffix and self.piece(token).endswith((WORD_START, " "))

    def normalize(self, text: str) -> str:
        return self._encoder(False).normalize(text).replace(WORD_START, " ")

    def serialized_model_proto(self) -> bytes:
        return self._decoder.serialized_model_proto()

    def _without_newlines(self, texts: Sequence[str]) -> list[str]:
        return list(texts) if self._decoded_newline else [text.replace("\n", " ") for text in texts]

    def _encoder(self, add_dummy_prefix: bool) -> Any:
        """The processor with or without a dummy prefix, and with special tokens that text never makes."""
        if add_dummy_prefix not in self._encoders:
            proto = model_proto(self.serialized_model_proto())
            proto.normalizer_spec.add_dummy_prefix = add_dummy_prefix
            for piece in proto.pieces:
                if piece.type == USER_DEFINED and (piece.piece in KNOWN_NAMES or is_sentinel(piece.piece)):
                    piece.type = CONTROL
            self._encoders[add_dummy_prefix] = _processor(proto.SerializeToString(), "the tokenizer model")
        return self._encoders[add_dummy_prefix]


def _processor(model: bytes, name: str) -> Any:
    processor: Any = sentencepiece.SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(model)
    except RuntimeError:
        raise ConfigError(
            f"{name}: is not a sentencepiece model; give a .model file, a vocab.txt, a folder with encoder.json and "
            "vocab.bpe, or none to train one"
        ) from None
    return processor
