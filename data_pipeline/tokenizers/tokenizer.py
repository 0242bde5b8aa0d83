"""Tokenizer of the pipeline: ids of documents, special tokens, and word starts, whatever engine runs it."""

from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from sesame.configs import storage
from sesame.configs.errors import ConfigError, DatasetError
from sesame.data_pipeline.ragged import Ragged
from sesame.data_pipeline.tokenizers.chunks import document_chunks, sentence_chunks
from sesame.data_pipeline.tokenizers.config import TokenizerConfig
from sesame.data_pipeline.tokenizers.engine import Dtype, Engine
from sesame.data_pipeline.tokenizers.given_model import given_model
from sesame.data_pipeline.tokenizers.load_engine import load_engine
from sesame.data_pipeline.tokenizers.special_tokens import OTHER_NAMES, PIECES, SENTINEL, Special


class Tokenizer:
    """An engine with BERT's special tokens."""

    def __init__(self, engine: Engine, name: str):
        """
        Args:
            engine: encodes and decodes.
            name: of the tokenizer's file, for messages.

        Raises:
            ConfigError: the vocabulary lacks a special token.
        """
        self.name = name
        self._engine = engine
        pad, unk, sep = (self._special_id(role) for role in ("pad", "unk", "sep"))
        self.special = Special(pad, unk, self._first_id(sep), sep, self._mask_id())

    @classmethod
    def from_bytes(cls, content: bytes, name: str) -> "Tokenizer":
        """Return the tokenizer with the content of a dataset's or checkpoint's ``tokenizer.model``.

        Raises:
            ConfigError: it is not a tokenizer or lacks a special token.
        """
        return cls(load_engine(content, name), name)

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Read a model file, or vocabulary files with the default settings.

        Raises:
            ConfigError: a file is missing or not a tokenizer, or the vocabulary lacks a special token.
        """
        return cls.from_bytes(given_model(TokenizerConfig(model=str(path))), str(path))

    def __len__(self) -> int:
        return self._engine.vocabulary_size

    @property
    def dtype(self) -> Dtype:
        """The narrowest dtype that holds every id."""
        return np.uint16 if len(self) <= 2**16 else np.uint32

    def encode(self, text: str) -> list[int]:
        """Return the ids of one text, without special tokens."""
        return self._engine.encode([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of many texts as lists."""
        rows = self.encode_flat(texts)
        return [part.tolist() for part in np.split(rows.values, rows.offsets[1:-1])] if len(texts) else []

    def encode_ranges(self, texts: Sequence[str]) -> list[tuple[list[int], np.ndarray]]:
        """Return the ids of each text as ``encode_batch`` does, and int32 [ids, 2]: the first character that each was
        made of and the one after the last. A piece for a space that is added is made of none."""
        encoded = self._engine.encode_ranges(texts)
        return [(ids, np.array(ranges, np.int32).reshape(-1, 2)) for ids, ranges in encoded]

    def encode_flat(self, texts: Sequence[str]) -> Ragged:
        """Return the ids of many texts, a row for each, in ``dtype``.

        Runs on one thread: the pipeline already runs one process per core.
        """
        encoded = Ragged.of_bytes(text.encode("utf-8", "surrogatepass") for text in texts)
        marked = np.full(len(texts), self._engine.space_rules.adds_space)
        return self._engine.encode_spans(encoded.values, encoded.spans, marked, self.dtype)

    def encode_documents(
        self, data: np.ndarray, documents: np.ndarray, sentences: Ragged, *, whole: bool = False
    ) -> tuple[Ragged, np.ndarray]:
        """Encode documents sentence by sentence, so that the concatenated ids are those of the whole document.

        Args:
            data: uint8 UTF-8 of all documents.
            documents: int64 [documents + 1]: where each starts.
            sentences: int64 [sentences, 2] first byte and the one after the last, a row of them for each document.
            whole: ignore sentences and encode the documents in as few chunks as possible.

        Returns:
            (a row of ids for each sentence or chunk, int64 [documents] rows of each).
        """
        rules = self._engine.space_rules
        if whole:
            chunks = document_chunks(documents, sentences, rules)
        else:
            chunks = sentence_chunks(data, documents, sentences, rules)
        return self._engine.encode_spans(data, chunks.spans, chunks.marked, self.dtype), chunks.counts

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        return self._engine.decode([int(i) for i in ids])

    def piece(self, token: int) -> str:
        return self._engine.piece(int(token))

    def piece_bytes(self, token: int) -> bytes:
        """Return the UTF-8 of a piece in the middle of a text, its white space included; of a special token its name.
        A piece of byte-level BPE may end within a character."""
        return self._engine.piece_bytes(int(token))

    def is_marked(self, token: int) -> bool:
        """Return whether the piece itself shows that a word begins with it."""
        return self._engine.is_marked(int(token))

    def running_text(self, ids: Sequence[int]) -> str:
        """Return the text of ids in the middle of a text: white space at the ends is kept."""
        return b"".join(map(self.piece_bytes, ids)).decode("utf-8", "replace")

    def shown(self, token: int) -> tuple[bool, str]:
        """Return whether a space stands before a piece when it is read, and the piece without its mark."""
        text = self.running_text([token])
        return text.startswith(" "), text.removeprefix(" ")

    @property
    def keeps_line_breaks(self) -> bool:
        """Whether a line break can be read from the ids."""
        return self._engine.space_rules.keeps_newlines

    @cached_property
    def losses(self) -> list[str]:
        """Phrases for what of a text cannot be read from its ids."""
        normalize = self._engine.normalize
        is_lost = {
            "line breaks and indentation": not self.keeps_line_breaks,
            "capital letters": normalize("A") != "A",
            "accents": normalize("\u00e9") not in ("\u00e9", "e\u0301"),
            "other forms of a character (\u2460, \ufb01)": normalize("\u2460\ufb01") != "\u2460\ufb01",
            "white space beside punctuation": self._engine.drops_spaces,
            "characters that are in no piece": not self._engine.encodes_every_character,
        }
        return [phrase for phrase, lost in is_lost.items() if lost]

    @cached_property
    def starts_word(self) -> np.ndarray:
        """bool [V]: the piece begins a word wherever it stands. In sentencepiece that is a leading mark (as in GPT-2),
        not the lack of one as in WordPiece, so neither digits nor punctuation inside words split a word. Chinese has
        no spaces: there each piece counts as a word, or a whole sentence would be one."""
        return np.array([self._engine.starts_word(token) for token in range(len(self))])

    @cached_property
    def ends_word(self) -> np.ndarray:
        """bool [V]: the token after the piece begins a word: for tokenizers that mark the end of words
        (treat_whitespace_as_suffix, CLIP's ``</w>``)."""
        return np.array([self._engine.ends_word(token) for token in range(len(self))])

    @cached_property
    def ordinary(self) -> np.ndarray:
        """int64: ids that stand for text, from which random replacements are drawn."""
        text = [token for token in range(len(self)) if self._engine.is_text(token)]
        return np.array([token for token in text if token not in self.special], np.int64)

    @cached_property
    def sentinels(self) -> np.ndarray:
        """int64: ids of the pieces <extra_id_0>, <extra_id_1>, ... up to the first that the vocabulary lacks."""
        ids: list[int] = []
        while self.piece(token := self._engine.piece_id(name := SENTINEL.format(len(ids)))) == name:
            ids.append(token)
        return np.array(ids, np.int64)

    def _first_id(self, sep: int) -> int:
        """Return the id that rows begin with. A model with sentinels but no such token (T5's own) gets its end of text
        there, although it was not trained with it in that place: fine-tuning reads the first state of a row."""
        try:
            return self._special_id("cls")
        except ConfigError:
            if len(self.sentinels):
                return sep
            raise

    def _mask_id(self) -> int | None:
        try:
            return self._special_id("mask")
        except ConfigError:
            if self._engine.has_only_end_of_text or len(self.sentinels):
                return None
            raise

    def _special_id(self, role: str) -> int:
        names = (PIECES[role], *OTHER_NAMES[role])
        for piece in names:
            token = self._engine.piece_id(piece)
            if self._engine.piece(token) == piece:
                return token
        raise ConfigError(
            f"{self.name}: has no {role} token ({', '.join(names)}); train one here or add it to the model"
        )


@lru_cache(maxsize=2)
def load_cached(path: Path, sha256: str) -> Tokenizer:
    """Return the tokenizer in a file, loaded once per process; its engine caches the words that it has encoded.

    Raises:
        DatasetError: the file is missing or has another digest.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error}); run the same command again") from None
    if storage.digest_of(content) != sha256:
        raise DatasetError(f"{path}: has changed since this run wrote it; run the same command again")
    return Tokenizer.from_bytes(content, str(path))
