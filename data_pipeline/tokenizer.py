"""Train and apply sentencepiece models (Kudo & Richardson 2018); knows sentencepiece, as does fast_encoding.py."""

import io
import re
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import sentencepiece
from pydantic import Field

from configs import Section
from configs.errors import ConfigError, CorpusError
from data_pipeline.columns import Ragged, boundaries
from data_pipeline.fast_encoding import WORD_START, fast_engine

IDEOGRAPHS = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
BEGINS_WORD = re.compile(f"[{WORD_START}{IDEOGRAPHS}]")

PIECES = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
"""Special tokens of a model that is trained here, ids 0 to 4 in this order."""

OTHER_NAMES = {
    "pad": ("<pad>",),
    "unk": ("<unk>",),
    "cls": ("<cls>", "<s>"),
    "sep": ("<sep>", "</s>"),
    "mask": ("<mask>",),
}
"""What models from elsewhere call them."""

TRAINING_THREADS = 2
"""Fixed, because sums over threads make the model depend on their number; the bytes must not depend on the machine."""


SENTINEL = "<extra_id_{}>"
"""What stands for a hidden span, by its number in the row; T5's names."""


class TokenizerConfig(Section):
    """A given model, or how to train one on the corpus."""

    model: str | None = None
    """Path of a sentencepiece model to use as it is; the other fields then have no effect."""
    kind: Literal["unigram", "bpe"] = "unigram"
    """Algorithm (unigram: Kudo 2018; bpe: Sennrich et al. 2016)."""
    vocabulary_size: int = Field(default=8192, gt=16, le=2**20)
    """Pieces, special tokens included."""
    lowercase: bool = True
    """Fold case while normalising (NFKC); the model remembers it, so fine-tuning does the same."""
    character_coverage: float = Field(default=0.9995, gt=0, le=1)
    """Share of the characters of the sample that get a piece; 0.9995 for Chinese or Japanese."""
    byte_fallback: bool = False
    """Spell unknown characters as bytes instead of [UNK]; takes 256 pieces."""
    sentinels: int = Field(default=0, ge=0)
    """Special tokens <extra_id_0> ... that stand for hidden spans (T5: 100); at least the spans of the longest row."""
    sample_megabytes: float = Field(default=10.0, gt=0)
    """Text that the model is trained on, drawn evenly from the corpus; never the whole of it in memory."""


class Special(NamedTuple):
    """Ids of the special tokens."""

    pad: int
    unk: int
    cls: int
    sep: int
    mask: int


class Tokenizer:
    """A sentencepiece model with BERT's special tokens."""

    def __init__(self, model: bytes, name: str):
        self.name = name
        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(model)
        except RuntimeError:
            raise ConfigError(
                f"{name}: is not a sentencepiece model; give a .model file, or none to train one"
            ) from None
        self.special = Special(*(self._special_id(role) for role in PIECES))
        self._fast = fast_engine(model)

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Read a model file.

        Raises:
            ConfigError: the file is missing, is no sentencepiece model, or lacks a special token.
        """
        try:
            return cls(Path(path).read_bytes(), str(path))
        except OSError as error:
            raise ConfigError(f"{path}: the tokenizer model cannot be read ({error.strerror})") from None

    def __len__(self) -> int:
        return self._processor.GetPieceSize()

    @property
    def dtype(self) -> type[np.uint16] | type[np.uint32]:
        """The narrowest kind of number that holds every id."""
        return np.uint16 if len(self) <= 2**16 else np.uint32

    def encode(self, text: str) -> list[int]:
        """Ids of one text, without special tokens."""
        return self._processor.EncodeAsIds(text)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of many texts as lists."""
        rows = self.encode_flat(texts)
        return [part.tolist() for part in np.split(rows.values, rows.offsets[1:-1])] if len(texts) else []

    def encode_flat(self, texts: Sequence[str]) -> Ragged:
        """Ids of many texts end to end, in the narrowest kind of number, a row for each text.

        Runs on one thread, for the pipeline already runs one process a core. The fast engine encodes what it is shown
        to encode as sentencepiece does, and sentencepiece the rest.
        """
        if self._fast is None:
            return self._reference(texts)
        rows, left = self._fast.encode(texts)
        rows = Ragged(rows.values.astype(self.dtype), rows.offsets)
        if not len(left):
            return rows
        other = self._reference([texts[int(row)] for row in left])
        order = np.arange(len(texts))
        order[left] = len(texts) + np.arange(len(left))
        both = Ragged(
            np.concatenate([rows.values, other.values]),
            np.concatenate([rows.offsets, rows.offsets[-1] + other.offsets[1:]]),
        )
        return both.take(order)

    def _reference(self, texts: Sequence[str]) -> Ragged:
        """Ids as sentencepiece itself gives them."""
        encoded = self._processor.Encode(list(texts), num_threads=1)
        offsets = boundaries(np.fromiter(map(len, encoded), np.int64, len(encoded)))
        return Ragged(np.fromiter(chain.from_iterable(encoded), self.dtype, offsets[-1]), offsets)

    def decode(self, ids: Sequence[int]) -> str:
        return self._processor.DecodeIds([int(i) for i in ids])

    def piece(self, token: int) -> str:
        return self._processor.IdToPiece(int(token))

    @cached_property
    def starts_word(self) -> np.ndarray:
        """bool [V]: the piece begins a word. In sentencepiece that is a leading mark, not the lack of one as in
        WordPiece, so neither digits nor punctuation inside of words break a word. Chinese has no spaces: there each
        piece is a word of its own, or a whole sentence would be one."""
        return np.array([bool(BEGINS_WORD.match(self.piece(token))) for token in range(len(self))])

    @cached_property
    def ordinary(self) -> np.ndarray:
        """Ids that stand for text: what a random replacement is drawn from."""
        processor = self._processor
        text = [i for i in range(len(self)) if not (processor.IsControl(i) or processor.IsUnknown(i))]
        return np.array([i for i in text if i not in self.special], np.int64)

    @cached_property
    def sentinels(self) -> np.ndarray:
        """Ids of the pieces <extra_id_0>, <extra_id_1> ... in this order, up to the first that the model lacks."""
        found: list[int] = []
        while self.piece(token := self._processor.PieceToId(name := SENTINEL.format(len(found)))) == name:
            found.append(token)
        return np.array(found, np.int64)

    def _special_id(self, role: str) -> int:
        for piece in (PIECES[role], *OTHER_NAMES[role]):
            token = self._processor.PieceToId(piece)
            if self._processor.IdToPiece(token) == piece:
                return token
        names = ", ".join((PIECES[role], *OTHER_NAMES[role]))
        raise ConfigError(f"{self.name}: has no {role} token ({names}); train one here or add it as a control symbol")


@lru_cache(maxsize=2)
def loaded(model: bytes) -> Tokenizer:
    """The tokenizer of these bytes, made once in a process; its engine then remembers the words it has met."""
    return Tokenizer(model, "the tokenizer model")


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
