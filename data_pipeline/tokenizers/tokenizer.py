"""A tokenizer as the pipeline sees it, whatever it is made of: ids of documents, special tokens, where words begin."""

import hashlib
from collections.abc import Sequence
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path

import numpy as np

from configs.errors import ConfigError, DatasetError
from data_pipeline.ragged import Ragged, boundaries
from data_pipeline.tokenizers import chunks
from data_pipeline.tokenizers.config import TokenizerConfig
from data_pipeline.tokenizers.folder import is_vocabulary, read_folder
from data_pipeline.tokenizers.sentencepiece_model import SentencePieceModel, train
from data_pipeline.tokenizers.special_tokens import OTHER_NAMES, PIECES, SENTINEL, Special
from data_pipeline.tokenizers.vocabulary_engine import VocabularyEngine, is_description
from data_pipeline.tokenizers.word_borders import WORD_IDEOGRAPHS

__all__ = [
    "OTHER_NAMES",
    "PIECES",
    "SENTINEL",
    "WORD_IDEOGRAPHS",
    "Special",
    "Tokenizer",
    "TokenizerConfig",
    "given_model",
    "loaded",
    "train",
]

BEGIN_OF_TEXT, END_OF_TEXT_CHARACTER, BEGIN_OF_WORD, END_OF_WORD, PADDING_CHARACTER = range(256, 261)
"""What ELMo has behind the 256 bytes."""


class Tokenizer:
    """A sentencepiece model, or vocabulary files, with BERT's special tokens."""

    def __init__(self, model: bytes, name: str):
        self.name = name
        self._engine = VocabularyEngine(model, name) if is_description(model) else SentencePieceModel(model, name)
        pad, unk, sep = (self._special_id(role) for role in ("pad", "unk", "sep"))
        self.special = Special(pad, unk, self._first(sep), sep, self._mask())

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Read a model file, or vocabulary files with the usual settings.

        Raises:
            ConfigError: something is missing, is no tokenizer, or lacks a special token.
        """
        return cls(given_model(TokenizerConfig(model=str(path))), str(path))

    def __len__(self) -> int:
        return self._engine.get_piece_size()

    @property
    def dtype(self) -> type[np.uint16] | type[np.uint32]:
        """The narrowest kind of number that holds every id."""
        return np.uint16 if len(self) <= 2**16 else np.uint32

    def encode(self, text: str) -> list[int]:
        """Ids of one text, without special tokens."""
        return self._engine.encode([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of many texts as lists."""
        rows = self.encode_flat(texts)
        return [part.tolist() for part in np.split(rows.values, rows.offsets[1:-1])] if len(texts) else []

    def encode_flat(self, texts: Sequence[str]) -> Ragged:
        """Ids of many texts end to end, in the narrowest kind of number, a row for each text.

        Runs on one thread, for the pipeline already runs one process a core. The fast engine encodes what it is shown
        to encode as sentencepiece does, and sentencepiece the rest.
        """
        if self._engine.fast is None:
            return self._reference(texts)
        given = Ragged.of_bytes(text.encode("utf-8", "surrogatepass") for text in texts)
        marks = np.full(len(texts), self._engine.joints.marks)
        return self._encoded(given.values, given.spans, marks)

    def encode_documents(
        self, data: np.ndarray, documents: np.ndarray, sentences: Ragged, *, whole: bool = False
    ) -> tuple[Ragged, np.ndarray]:
        """Ids of documents, so that those of neighbouring sentences end to end are those of the text that they are in.

        Args:
            data: uint8 UTF-8 of all documents.
            documents: int64 [documents + 1]: where each starts.
            sentences: int64 [sentences, 2] first byte and the one after the last, a row of them for each document.
            whole: sentences do not matter; the ids are those of the documents as wholes.

        Returns:
            (a row of ids for each sentence, or for each of as few stretches as give the ids of the whole, int64
            [documents] rows of each).
        """
        joints = self._engine.joints
        if whole:
            found = chunks.of_documents(documents, sentences, joints)
        else:
            found = chunks.of_sentences(data, documents, sentences, joints)
        if self._engine.fast is None:
            return self._reference(chunks.texts_at(data, found.spans), found.marked.tolist()), found.counts
        return self._encoded(data, found.spans, found.marked), found.counts

    def _encoded(self, data: np.ndarray, spans: np.ndarray, marked: np.ndarray) -> Ragged:
        """Ids by the fast engine, and by sentencepiece where that has none."""
        assert self._engine.fast is not None
        rows, left = self._engine.fast.encode(data, spans, marked, self.dtype)
        if not len(left):
            return rows
        order = np.arange(len(rows.lengths))
        order[left] = len(order) + np.arange(len(left))
        rest = self._reference(chunks.texts_at(data, spans[left]), marked[left].tolist())
        return Ragged.joined([rows, rest]).take(order)

    def _reference(self, texts: Sequence[str], marked: Sequence[bool] | None = None) -> Ragged:
        """Ids as sentencepiece itself, or the engine of the vocabulary files, gives them."""
        encoded = self._engine.encode(texts, marked)
        offsets = boundaries(np.fromiter(map(len, encoded), np.int64, len(encoded)))
        return Ragged(np.fromiter(chain.from_iterable(encoded), self.dtype, offsets[-1]), offsets)

    def decode(self, ids: Sequence[int]) -> str:
        return self._engine.decode_ids([int(i) for i in ids])

    def piece(self, token: int) -> str:
        return self._engine.id_to_piece(int(token))

    def running_text(self, ids: Sequence[int]) -> str:
        """What ids stand for in the middle of a text: a mark is a space at the ends too, a special token its name."""
        return b"".join(self._engine.running_text(int(i)) for i in ids).decode("utf-8", "replace")

    def shown(self, token: int) -> tuple[bool, str]:
        """Whether a space stands before a piece when it is read, and the piece without its mark."""
        text = self.running_text([token])
        return text.startswith(" "), text.removeprefix(" ")

    @property
    def keeps_line_breaks(self) -> bool:
        """Whether a line break can be read from the ids."""
        return self._engine.joints.keeps_newlines

    @cached_property
    def losses(self) -> list[str]:
        """What of a text cannot be read from its ids, a phrase for each."""
        found = {
            "line breaks and indentation": not self.keeps_line_breaks,
            "capital letters": self._engine.normalized("A") != "A",
            "accents": self._engine.normalized("\u00e9") not in ("\u00e9", "e\u0301"),
            "other forms of a character (\u2460, \ufb01)": self._engine.normalized("\u2460\ufb01") != "\u2460\ufb01",
            "white space beside punctuation": self._engine.cuts_words_out,
            "characters that are in no piece": not self._engine.spells_everything,
        }
        return [what for what, lost in found.items() if lost]

    @cached_property
    def starts_word(self) -> np.ndarray:
        """bool [V]: the piece begins a word wherever it stands. In sentencepiece that is a leading mark (as in GPT-2),
        not the lack of one as in WordPiece, so neither digits nor punctuation inside of words break a word. Chinese
        has no spaces: there each piece is a word of its own, or a whole sentence would be one."""
        return np.array([self._engine.starts_word(token) for token in range(len(self))])

    @cached_property
    def ends_word(self) -> np.ndarray:
        """bool [V]: what follows the piece begins a word: where the mark is at the end of words
        (treat_whitespace_as_suffix, CLIP's ``</w>``)."""
        return np.array([self._engine.ends_word(token) for token in range(len(self))])

    @cached_property
    def ordinary(self) -> np.ndarray:
        """Ids that stand for text: what a random replacement is drawn from."""
        text = [token for token in range(len(self)) if self._engine.stands_for_text(token)]
        return np.array([token for token in text if token not in self.special], np.int64)

    def spelling(self, longest: int) -> np.ndarray:
        """uint16 [V, ``longest``]: the characters of every piece as ELMo numbers them (Peters et al. 2018): its bytes
        in UTF-8 between marks, a mark in front only where it begins a word; [CLS] and [SEP] are begin and end of text.
        """
        marks = {self.special.cls: [BEGIN_OF_TEXT], self.special.sep: [END_OF_TEXT_CHARACTER]}
        spelled = np.full((len(self), longest), PADDING_CHARACTER, np.uint16)
        for token in range(len(self)):
            marked = self._engine.is_marked(token)
            begins = [BEGIN_OF_WORD] if token in marks or marked else []
            # Several pieces of lone bytes show as the same character, so it is not taken from what they show.
            text = marks.get(token) or list(self._engine.running_text(token).removeprefix(b" " * marked))
            row = [*begins, *text[: longest - len(begins) - 1], END_OF_WORD]
            spelled[token, : len(row)] = row
        return spelled

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
            if self._engine.has_only_end_of_text or len(self.sentinels):
                return None
            raise

    @cached_property
    def sentinels(self) -> np.ndarray:
        """Ids of the pieces <extra_id_0>, <extra_id_1> ... in this order, up to the first that the model lacks."""
        found: list[int] = []
        while self.piece(token := self._engine.piece_to_id(name := SENTINEL.format(len(found)))) == name:
            found.append(token)
        return np.array(found, np.int64)

    def _special_id(self, role: str) -> int:
        for piece in (PIECES[role], *OTHER_NAMES[role]):
            token = self._engine.piece_to_id(piece)
            if self._engine.id_to_piece(token) == piece:
                return token
        names = ", ".join((PIECES[role], *OTHER_NAMES[role]))
        raise ConfigError(f"{self.name}: has no {role} token ({names}); train one here or add it to the model")


def given_model(config: TokenizerConfig) -> bytes:
    """The bytes of the tokenizer that ``config.model`` names: one file's content, whatever was given.

    Raises:
        ConfigError: something is missing or broken, or asks for what is not done here.
    """
    assert config.model is not None
    path = Path(config.model)
    if is_vocabulary(path):
        said = config.lowercase if "lowercase" in config.model_fields_set else None
        return read_folder(path, lowercase=said, leading_space=config.leading_space)
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: the tokenizer model cannot be read ({error.strerror})") from None


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
