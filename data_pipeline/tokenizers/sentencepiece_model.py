"""sentencepiece models (Kudo & Richardson 2018): training them, and encoding as their own settings say."""

import io
import tempfile
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import sentencepiece

from configs.errors import ConfigError, CorpusError
from data_pipeline.tokenizers.chunks import Joints
from data_pipeline.tokenizers.config import TokenizerConfig
from data_pipeline.tokenizers.fast_encoding import (
    BYTE,
    CONTROL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    WORD_START,
    FastEngine,
    fast_engine,
    model_proto,
)
from data_pipeline.tokenizers.special_tokens import OTHER_NAMES, PIECES, SENTINEL
from data_pipeline.tokenizers.word_borders import starts_a_word

TRAINING_THREADS = 2
"""Fixed, because sums over threads make the model depend on their number; the bytes must not depend on the machine."""


class SentencePieceModel:
    """A model that encodes texts and stretches of texts."""

    has_only_end_of_text = cuts_words_out = False

    def __init__(self, model: bytes, name: str):
        self._reader = _processor(model, name)
        self._proto = model_proto(model)
        self._normalizer = self._proto.normalizer_spec
        self._suffix = self._proto.trainer_spec.treat_whitespace_as_suffix
        self._kinds = [piece.type for piece in self._proto.pieces]
        self._encoders: dict[bool, Any] = {}

    @cached_property
    def fast(self) -> FastEngine | None:
        """Made when first needed: many who load a tokenizer encode nothing."""
        return fast_engine(self._proto, self._encoder(True))

    @cached_property
    def joints(self) -> Joints:
        return Joints(
            marks=self._normalizer.add_dummy_prefix,
            keeps_spaces=not self._normalizer.remove_extra_whitespaces,
            keeps_newlines=self.newline == "\n",
            suffix=self._suffix,
            cuts_at_spaces=self.fast is not None,
        )

    @property
    def spells_everything(self) -> bool:
        return self._proto.trainer_spec.byte_fallback

    @cached_property
    def newline(self) -> str:
        """What a newline between two words is decoded as; empty where it is nothing or unknown."""
        encoder = self._encoder(False)
        ids = encoder.encode("a\nb")
        found = "" if encoder.unk_id() in encoder.encode("\n") else encoder.decode(ids)
        return next((space for space in ("\n", " ") if space in found), "")

    def get_piece_size(self) -> int:
        return len(self._kinds)

    def encode(self, texts: Sequence[str], marked: Sequence[bool] | None = None) -> list[list[int]]:
        """Ids of each text.

        Args:
            marked: whether white space is added to a text; as the model itself does where it is not said.
        """
        texts = list(texts) if self.newline else [text.replace("\n", " ") for text in texts]
        if marked is None:
            return self._encoder(self._normalizer.add_dummy_prefix).encode(texts, num_threads=1)
        found: list[list[int]] = [[] for _ in texts]
        for kind in (True, False):
            numbers = [number for number, each in enumerate(marked) if bool(each) == kind]
            rows = self._encoder(kind).encode([texts[number] for number in numbers], num_threads=1) if numbers else []
            for number, row in zip(numbers, rows, strict=True):
                found[number] = row
        return found

    def decode_ids(self, ids: Sequence[int]) -> str:
        text = self._reader.decode_ids(list(ids))
        # sentencepiece takes off the white space that it added before a text, but not that behind one.
        return text.removesuffix(" ") if self._suffix and self._normalizer.add_dummy_prefix else text

    def id_to_piece(self, token: int) -> str:
        try:
            return self._reader.id_to_piece(token)
        except UnicodeDecodeError:
            raise ConfigError(f"the tokenizer model: its piece {token} is not UTF-8; copy the file again") from None

    def piece_to_id(self, piece: str) -> int:
        return self._reader.piece_to_id(piece)

    def stands_for_text(self, token: int) -> bool:
        return self._kinds[token] not in (UNKNOWN, CONTROL, UNUSED)

    def is_marked(self, token: int) -> bool:
        return not self._suffix and self.id_to_piece(token).startswith((WORD_START, " "))

    def starts_word(self, token: int) -> bool:
        text = self.running_text(token)
        return self.is_marked(token) or starts_a_word(text.removesuffix(b" ") if self._suffix else text)

    def ends_word(self, token: int) -> bool:
        return self._suffix and self.id_to_piece(token).endswith((WORD_START, " "))

    def running_text(self, token: int) -> bytes:
        """What a piece stands for in the middle of a text, in UTF-8."""
        piece = self.id_to_piece(token)
        if self._kinds[token] == BYTE:
            return bytes([int(piece[1:-1], 16)])
        return piece.replace(WORD_START, " ").encode("utf-8", "surrogatepass")

    def normalized(self, text: str) -> str:
        """A text after the model's own normalisation."""
        return self._encoder(False).normalize(text).replace(WORD_START, " ")

    def serialized_model_proto(self) -> bytes:
        return self._reader.serialized_model_proto()

    def _encoder(self, marks: bool) -> Any:
        """The model with or without its dummy prefix, and with special tokens that no text makes."""
        if marks not in self._encoders:
            proto = model_proto(self.serialized_model_proto())
            proto.normalizer_spec.add_dummy_prefix = marks
            for piece in proto.pieces:
                if piece.type == USER_DEFINED and _is_special(piece.piece):
                    piece.type = CONTROL
            self._encoders[marks] = _processor(proto.SerializeToString(), "the tokenizer model")
        return self._encoders[marks]


def _is_special(piece: str) -> bool:
    known = {*PIECES.values(), *(name for names in OTHER_NAMES.values() for name in names)}
    return piece in known or piece.startswith(SENTINEL.partition("{")[0])


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


def train(sentences: Iterable[str], config: TokenizerConfig) -> bytes:
    """The bytes of a model trained on ``sentences``; equal sentences give equal bytes.

    Raises:
        CorpusError: the text is too small for the vocabulary.
    """
    model = io.BytesIO()
    roles = list(PIECES)
    try:
        sentencepiece.SentencePieceTrainer.Train(
            sentence_iterator=iter(sentences),
            model_writer=model,
            model_type=config.kind,
            vocab_size=config.vocabulary_size,
            character_coverage=config.character_coverage,
            byte_fallback=config.byte_fallback,
            normalization_rule_name="nmt_nfkc_cf" if config.lowercase else "nmt_nfkc",
            num_threads=TRAINING_THREADS,
            max_sentence_length=16384,
            minloglevel=2,
            bos_id=-1,
            eos_id=-1,
            pad_id=0,
            unk_id=1,
            pad_piece=PIECES["pad"],
            unk_piece=PIECES["unk"],
            control_symbols=[
                *(PIECES[role] for role in roles[2:]),
                *(SENTINEL.format(number) for number in range(config.sentinels)),
            ],
        )
    except RuntimeError as error:
        raise CorpusError(
            f"the corpus is too small for tokenizer.vocabulary_size {config.vocabulary_size}; lower it or give more "
            f"text (sentencepiece: {str(error).splitlines()[-1].strip()})"
        ) from None
    return model.getvalue()


def compiled_rules(rules: dict[str, str]) -> bytes:
    """sentencepiece's ``precompiled_charsmap`` of replacements, the longest first."""

    def points(text: str) -> str:
        return " ".join(f"{ord(each):X}" for each in text)

    sentencepiece.set_min_log_level(2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rules.tsv"
        path.write_text("".join(f"{points(old)}\t{points(new)}\n" for old, new in sorted(rules.items())))
        made: Any = sentencepiece.SentencePieceNormalizer(rule_tsv=str(path))
    return model_proto(made.serialized_model_proto()).normalizer_spec.precompiled_charsmap
