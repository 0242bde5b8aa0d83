"""Decontamination: documents that contain text of evaluation sets.

As for GPT-3 (Brown et al. 2020, appendix C), a document is contaminated if it contains 13 consecutive words of an
evaluation text, or all words of a shorter one. In scripts without spaces a letter counts as half a word: Chinese words
have 1.5 to 2 letters on average.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sesame.configs.errors import CorpusError
from sesame.configs.storage import atomic_file
from sesame.data_pipeline.cleaning.ngrams import ngram_hashes
from sesame.data_pipeline.cleaning.words import is_spaceless, words
from sesame.data_pipeline.sources.files import File, Range
from sesame.data_pipeline.sources.lines import iterate_lines
from sesame.data_pipeline.sources.paths import matching
from sesame.data_pipeline.sources.streams import DAMAGED, UTF8_BOM, open_text
from sesame.data_pipeline.sources.text_formats import JSON

SETTING = "clean.evaluation_paths"
LONGEST = 13
"""Words of a sequence, at most (GPT-3: 13)."""
MAXIMUM_LINE_BYTES = 1 << 40
SHORTEST = 6
"""Evaluation texts of fewer words are ignored, because documents contain them by chance."""
LETTERS_OF_WORD = 2
"""In a text most of whose letters are of a script without spaces."""


class Overlap:
    """Hashes of the word sequences of evaluation texts, by their number of words (``cleaning/words.py``)."""

    def __init__(self, sequences: dict[int, np.ndarray]):
        self.sequences = sequences

    @classmethod
    def of(cls, paths: tuple[str, ...], normal: Callable[[str], str]) -> "Overlap":
        """Read the evaluation texts: the cells of .tsv, all strings of .json and .jsonl, the lines of other files.

        Args:
            normal: normalizes a text as cleaning does the text of a document.

        Raises:
            CorpusError: a file is missing or cannot be read.
        """
        hashes: dict[int, list[np.ndarray]] = {}
        for pattern in paths:
            for file in matching(pattern, SETTING):
                for text in _texts(file):
                    found = _words(normal(text))
                    factor = LETTERS_OF_WORD if 2 * sum(map(is_spaceless, found)) > len(found) else 1
                    if len(found) >= factor * SHORTEST:
                        length = min(len(found), factor * LONGEST)
                        hashes.setdefault(length, []).append(ngram_hashes(_hashes(found), length))
        return cls({length: np.unique(np.concatenate(each)) for length, each in hashes.items()})

    def is_in(self, text: str) -> bool:
        """Whether ``text`` contains one of the sequences."""
        hashes = _hashes(_words(text))
        return any(_are_any_in(ngram_hashes(hashes, length), known) for length, known in self.sequences.items())

    def save(self, path: Path) -> None:
        arrays = {str(length): known for length, known in self.sequences.items()}
        with atomic_file(path, durable=False) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> "Overlap":
        with np.load(path, allow_pickle=False) as arrays:
            return cls({int(length): arrays[length] for length in arrays})


def _are_any_in(hashes: np.ndarray, known: np.ndarray) -> bool:
    """Whether one of ``hashes`` is in ``known``, which is sorted; np.isin would sort both again for each document."""
    places = np.searchsorted(known, hashes).clip(max=len(known) - 1)
    return bool((known[places] == hashes).any())


def _words(text: str) -> list[str]:
    """Without case and punctuation."""
    return words(text.lower())


def _hashes(found: Sequence[str]) -> np.ndarray:
    """uint64 [words]: the hash of each word."""
    return np.array([zlib.crc32(word.encode()) for word in found], np.uint64)


def _texts(file: File) -> Iterator[str]:
    split = {".tsv": _cells, ".jsonl": _row}.get(file.suffix, _line)
    try:
        if file.suffix == ".json":
            with open_text(file.path) as content:
                yield from _strings(JSON.decode(content.read().removeprefix(UTF8_BOM).decode()))
            return
        for line in iterate_lines(file.path, Range(), MAXIMUM_LINE_BYTES):
            yield from split(line.content.decode())
    except (*DAMAGED, ValueError, RecursionError) as error:
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
