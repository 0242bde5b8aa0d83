"""Train sentencepiece models (Kudo & Richardson 2018) and apply them, or vocabulary files from elsewhere.

Knows sentencepiece, as does fast_encoding.py.
"""

import hashlib
import io
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import sentencepiece
from pydantic import Field

from configs import Section
from configs.errors import ConfigError, CorpusError, DatasetError
from data_pipeline.columns import Ragged, boundaries
from data_pipeline.fast_encoding import WORD_START, FastEngine, fast_engine
from data_pipeline.sentences import as_text
from data_pipeline.vocabulary_files import (
    END_OF_TEXT,
    VocabularyProcessor,
    described,
    is_description,
    is_vocabulary,
)

IDEOGRAPHS = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
BEGINS_WORD = re.compile(f"[{WORD_START}{IDEOGRAPHS}]")

PIECES = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
"""Special tokens of a model that is trained here, ids 0 to 4 in this order."""

OTHER_NAMES = {
    "pad": ("<pad>", END_OF_TEXT),
    "unk": ("<unk>", END_OF_TEXT),
    "cls": ("<cls>", "<s>", END_OF_TEXT),
    "sep": ("<sep>", "</s>", END_OF_TEXT),
    "mask": ("<mask>",),
}
"""What models from elsewhere call them, the usual name first. GPT-2 has one for all, and no mask."""

TRAINING_THREADS = 2
"""Fixed, because sums over threads make the model depend on their number; the bytes must not depend on the machine."""


BEGIN_OF_TEXT, END_OF_TEXT_CHARACTER, BEGIN_OF_WORD, END_OF_WORD, PADDING_CHARACTER = range(256, 261)
"""What ELMo has behind the 256 bytes."""

SENTINEL = "<extra_id_{}>"
"""What stands for a hidden span, by its number in the row; T5's names."""


class TokenizerConfig(Section):
    """A given model, or how to train one on the corpus."""

    model: str | None = None
    """A tokenizer to use as it is: a sentencepiece model, BERT's ``vocab.txt`` (known by its ending), or a folder with
    GPT-2's ``encoder.json`` and ``vocab.bpe``. Of the other fields only ``lowercase`` and ``leading_space`` then have
    an effect, and each only where it says so."""
    kind: Literal["unigram", "bpe"] = "unigram"
    """Algorithm (unigram: Kudo 2018; bpe: Sennrich et al. 2016)."""
    vocabulary_size: int = Field(default=8192, gt=16, le=2**20)
    """Pieces, special tokens included."""
    lowercase: bool = True
    """Fold case while normalising (NFKC); the model remembers it, so fine-tuning does the same. A ``vocab.txt`` does
    not say whether it is uncased, so this decides it: true for an uncased one (accents are then stripped too), false
    for a cased one."""
    leading_space: bool = True
    """Only GPT-2's files: each sentence begins as if after a space, as in running text (GPT2Tokenizer's
    add_prefix_space); sentences are encoded one by one and would otherwise be glued together."""
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
    mask: int | None
    """None in a vocabulary without one (GPT-2, T5)."""

    def ids(self) -> dict[str, int]:
        """Role -> id, without a role that there is not."""
        return {role: token for role, token in self._asdict().items() if token is not None}


class Tokenizer:
    """A sentencepiece model, or vocabulary files, with BERT's special tokens."""

    def __init__(self, model: bytes, name: str):
        self.name = name
        given = is_description(model)
        self._processor: Any = VocabularyProcessor(model, name) if given else _sentencepiece(model, name)
        pad, unk, sep = (self._special_id(role) for role in ("pad", "unk", "sep"))
        self.special = Special(pad, unk, self._first(sep), sep, self._mask())

    @cached_property
    def _fast(self) -> FastEngine | None:
        """Made when first needed: many who load a tokenizer encode nothing."""
        given = isinstance(self._processor, VocabularyProcessor)
        return None if given else fast_engine(self._processor)

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Read a model file, or vocabulary files with the usual settings.

        Raises:
            ConfigError: something is missing, is no tokenizer, or lacks a special token.
        """
        return cls(given_model(TokenizerConfig(model=str(path))), str(path))

    def __len__(self) -> int:
        return self._processor.get_piece_size()

    @property
    def dtype(self) -> type[np.uint16] | type[np.uint32]:
        """The narrowest kind of number that holds every id."""
        return np.uint16 if len(self) <= 2**16 else np.uint32

    def encode(self, text: str) -> list[int]:
        """Ids of one text, without special tokens."""
        return self._processor.encode_as_ids(text)

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
        given = Ragged.of_bytes(text.encode("utf-8", "surrogatepass") for text in texts)
        encoded = self._fast.encode(given.values, given.spans, self.dtype)
        return self._completed(*encoded, lambda rows: [texts[int(row)] for row in rows])

    def encode_sentences(self, data: np.ndarray, spans: np.ndarray) -> Ragged:
        """Ids of sentences that lie in a longer text, as :meth:`encode_flat` has them.

        Args:
            data: uint8 UTF-8.
            spans: int64 [sentences, 2]: first byte of each, and the one after the last.
        """
        if self._fast is None:
            return self._reference(as_text(data, spans))
        return self._completed(*self._fast.encode(data, spans, self.dtype), lambda rows: as_text(data, spans[rows]))

    def _completed(self, rows: Ragged, left: np.ndarray, texts: Callable[[np.ndarray], Sequence[str]]) -> Ragged:
        """The rows with those that the fast engine ``left``, whose ``texts`` are asked for only then."""
        if not len(left):
            return rows
        order = np.arange(len(rows.lengths))
        order[left] = len(order) + np.arange(len(left))
        return Ragged.joined([rows, self._reference(texts(left))]).take(order)

    def _reference(self, texts: Sequence[str]) -> Ragged:
        """Ids as sentencepiece itself, or the engine of the vocabulary files, gives them."""
        encoded = self._processor.encode(list(texts), num_threads=1)
        offsets = boundaries(np.fromiter(map(len, encoded), np.int64, len(encoded)))
        return Ragged(np.fromiter(chain.from_iterable(encoded), self.dtype, offsets[-1]), offsets)

    def decode(self, ids: Sequence[int]) -> str:
        return self._processor.decode_ids([int(i) for i in ids])

    def piece(self, token: int) -> str:
        return self._processor.id_to_piece(int(token))

    def shown(self, token: int) -> tuple[bool, str]:
        """Whether a space stands before a piece when it is read, and the piece without its mark."""
        piece = self.piece(token)
        if isinstance(self._processor, VocabularyProcessor):
            begins = self._processor.begins_word(piece) and not BEGINS_WORD.match(piece)
            return begins, self._processor.without_mark(token)
        return piece.startswith(WORD_START), piece.removeprefix(WORD_START)

    @cached_property
    def starts_word(self) -> np.ndarray:
        """bool [V]: the piece begins a word. In sentencepiece that is a leading mark (as in GPT-2), not the lack of one
        as in WordPiece, so neither digits nor punctuation inside of words break a word. Chinese has no spaces: there
        each piece is a word of its own, or a whole sentence would be one."""
        given = isinstance(self._processor, VocabularyProcessor)
        begins = self._processor.begins_word if given else BEGINS_WORD.match
        return np.array([bool(begins(self.piece(token))) for token in range(len(self))])

    @cached_property
    def ordinary(self) -> np.ndarray:
        """Ids that stand for text: what a random replacement is drawn from."""
        processor = self._processor
        text = [i for i in range(len(self)) if not (processor.is_control(i) or processor.is_unknown(i))]
        return np.array([i for i in text if i not in self.special], np.int64)

    def spelling(self, longest: int) -> np.ndarray:
        """uint16 [V, ``longest``]: the characters of every piece as ELMo numbers them (Peters et al. 2018): its bytes
        in UTF-8 between marks, a mark in front only where it begins a word; [CLS] and [SEP] are begin and end of text.
        """
        marks = {self.special.cls: [BEGIN_OF_TEXT], self.special.sep: [END_OF_TEXT_CHARACTER]}
        spelled = np.full((len(self), longest), PADDING_CHARACTER, np.uint16)
        for token in range(len(self)):
            begins = [BEGIN_OF_WORD] if token in marks or self._marked(token) else []
            text = marks.get(token) or list(self._bytes_of(token))
            row = [*begins, *text[: longest - len(begins) - 1], END_OF_WORD]
            spelled[token, : len(row)] = row
        return spelled

    def _marked(self, token: int) -> bool:
        """Whether a piece is written as the beginning of a word."""
        piece = self.piece(token)
        if isinstance(self._processor, VocabularyProcessor):
            return self._processor.begins_word(piece)
        return piece.startswith(WORD_START)

    def _bytes_of(self, token: int) -> bytes:
        """Of the text that a piece stands for, without its mark. Several pieces of lone bytes show as the same
        character, so it is not taken from what they show."""
        if isinstance(self._processor, VocabularyProcessor):
            return self._processor.bytes_of(token)
        if self._processor.is_byte(token):
            return bytes([int(self.piece(token)[1:-1], 16)])
        return self.shown(token)[1].encode()

    def _first(self, sep: int) -> int:
        """What a row begins with. A model with sentinels but nothing for that (T5's own) gets its end of text there,
        which it has not met in that place: rows here always begin with something that fine-tuning can look at."""
        try:
            return self._special_id("cls")
        except ConfigError:
            if len(self.sentinels):
                return sep
            raise

    def _mask(self) -> int | None:
        try:
            return self._special_id("mask")
        except ConfigError:
            given = isinstance(self._processor, VocabularyProcessor) and self._processor.has_only_end_of_text
            if given or len(self.sentinels):
                return None
            raise

    @cached_property
    def sentinels(self) -> np.ndarray:
        """Ids of the pieces <extra_id_0>, <extra_id_1> ... in this order, up to the first that the model lacks."""
        found: list[int] = []
        while self.piece(token := self._processor.piece_to_id(name := SENTINEL.format(len(found)))) == name:
            found.append(token)
        return np.array(found, np.int64)

    def _special_id(self, role: str) -> int:
        for piece in (PIECES[role], *OTHER_NAMES[role]):
            token = self._processor.piece_to_id(piece)
            if self._processor.id_to_piece(token) == piece:
                return token
        names = ", ".join((PIECES[role], *OTHER_NAMES[role]))
        raise ConfigError(f"{self.name}: has no {role} token ({names}); train one here or add it to the model")


def given_model(config: TokenizerConfig) -> bytes:
    """The bytes of the tokenizer that ``config.model`` names: one file's content, whatever was given.

    Raises:
        ConfigError: something is missing or broken.
    """
    assert config.model is not None
    path = Path(config.model)
    if is_vocabulary(path):
        return described(path, lowercase=config.lowercase, leading_space=config.leading_space)
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: the tokenizer model cannot be read ({error.strerror})") from None


def _sentencepiece(model: bytes, name: str) -> sentencepiece.SentencePieceProcessor:
    processor = sentencepiece.SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(model)
    except RuntimeError:
        raise ConfigError(
            f"{name}: is not a sentencepiece model; give a .model file, a vocab.txt, a folder with encoder.json and "
            "vocab.bpe, or none to train one"
        ) from None
    return processor


@lru_cache(maxsize=2)
def loaded(path: Path, sha256: str) -> Tokenizer:
    """The tokenizer in a file, made once in a process; its engine remembers the words it has met.

    Raises:
        DatasetError: the file is gone, or is another than that of this digest.
    """
    try:
        model = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error}); run the same command again") from None
    if hashlib.sha256(model).hexdigest() != sha256:
        raise DatasetError(f"{path}: has changed since this run wrote it; run the same command again")
    return Tokenizer(model, str(path))


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
