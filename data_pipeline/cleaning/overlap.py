"""Text of evaluation sets inside of documents: shared word sequences, as GPT-3 looked for them (Brown et al. 2020,
appendix C). A document that holds 13 words of an evaluation text in a row, or all of a shorter one, is left out."""

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from configs.errors import CorpusError
from data_pipeline.cleaning.ngrams import ngram_hashes
from data_pipeline.cleaning.words import words
from data_pipeline.sources.files import File, Range, lines
from data_pipeline.sources.paths import matching
from data_pipeline.sources.streams import BROKEN, UTF8_MARK, open_text
from data_pipeline.sources.text_formats import JSON

SETTING = "clean.evaluation_paths"
LONGEST = 13
"""Words of a sequence (GPT-3: 13)."""
LONGEST_LINE = 1 << 40
SHORTEST = 6
"""Evaluation texts of fewer words say too little to be told from chance, and are not looked for."""


class Overlap:
    """Hashes of the word sequences of evaluation texts, by their length in words."""

    def __init__(self, sequences: dict[int, np.ndarray]):
        self.sequences = sequences

    @classmethod
    def of(cls, paths: tuple[str, ...], normal: Callable[[str], str]) -> "Overlap":
        """Read the texts of files: the cells of .tsv, all strings of .json and .jsonl, the lines of anything else.

        Args:
            normal: what cleaning makes of the text of a document.

        Raises:
            CorpusError: a file is missing or cannot be read.
        """
        found: dict[int, list[np.ndarray]] = {}
        for pattern in paths:
            for file in matching(pattern, SETTING):
                for text in _texts(file):
                    words = _words(normal(text))
                    if len(words) >= SHORTEST:
                        length = min(len(words), LONGEST)
                        found.setdefault(length, []).append(ngram_hashes(words, length))
        return cls({length: np.unique(np.concatenate(each)) for length, each in found.items()})

    def meets(self, text: str) -> bool:
        """Does ``text`` hold one of the sequences?"""
        words = _words(text)
        return any(
            np.isin(ngram_hashes(words, length), known, kind="sort").any() for length, known in self.sequences.items()
        )

    def save(self, path: Path) -> None:
        np.savez(path, **{str(length): known for length, known in self.sequences.items()})  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> "Overlap":
        with np.load(path, allow_pickle=False) as arrays:
            return cls({int(length): arrays[length] for length in arrays})


def _words(text: str) -> np.ndarray:
    """uint64 hash of each word, without case and punctuation."""
    return np.array([zlib.crc32(word.encode()) for word in words(text.lower())], np.uint64)


def _texts(file: File) -> Iterator[str]:
    split = {".tsv": _cells, ".jsonl": _row}.get(file.kind, _line)
    try:
        if file.kind == ".json":
            with open_text(file.path) as content:
                yield from _strings(JSON.decode(content.read().removeprefix(UTF8_MARK).decode()))
            return
        for line in lines(file.path, Range(), LONGEST_LINE):
            yield from split(line.content.decode())
    except (*BROKEN, ValueError, RecursionError) as error:
        raise CorpusError(f"{file.name}: cannot be read ({error}); correct {SETTING}") from None


def _cells(line: str) -> list[str]:
    return line.split("\t")


def _row(line: str) -> list[str]:
    return list(_strings(JSON.decode(line))) if line.strip() else []


def _line(line: str) -> list[str]:
    return [line]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _strings(each)
