"""Text of evaluation sets inside of documents: shared word sequences, as GPT-3 looked for them (Brown et al. 2020,
appendix C). A document that holds 13 words of an evaluation text in a row, or all of a shorter one, is left out."""

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from configs.errors import CorpusError
from data_pipeline.files import BROKEN, matching, open_binary
from data_pipeline.near_duplicates import WORD

LONGEST = 13
"""Words of a sequence (GPT-3: 13)."""
SHORTEST = 6
"""Evaluation texts of fewer words say too little to be told from chance, and are not looked for."""
BASE = np.uint64(0x9E3779B97F4A7C15)


class Overlap:
    """Hashes of the word sequences of evaluation texts, by their length in words."""

    def __init__(self, sequences: dict[int, np.ndarray]):
        self.sequences = sequences

    @classmethod
    def of(cls, paths: tuple[str, ...]) -> "Overlap":
        """Read the texts of files: the cells of .tsv, all strings of .json and .jsonl, the lines of anything else.

        Raises:
            CorpusError: a file is missing or cannot be read.
        """
        found: dict[int, list[np.ndarray]] = {}
        for pattern in paths:
            for file in matching(pattern):
                for text in _texts(file.name, file.path):
                    words = _words(text)
                    if len(words) >= SHORTEST:
                        length = min(len(words), LONGEST)
                        found.setdefault(length, []).append(_sequences(words, length))
        return cls({length: np.unique(np.concatenate(each)) for length, each in found.items()})

    def meets(self, text: str) -> bool:
        """Does ``text`` hold one of the sequences?"""
        words = _words(text)
        return any(
            np.isin(_sequences(words, length), known, kind="sort").any() for length, known in self.sequences.items()
        )

    def save(self, path: Path) -> None:
        np.savez(path, **{str(length): known for length, known in self.sequences.items()})  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> "Overlap":
        with np.load(path, allow_pickle=False) as arrays:
            return cls({int(length): arrays[length] for length in arrays})


def _words(text: str) -> np.ndarray:
    """uint64 hash of each word, without case and punctuation."""
    return np.array([zlib.crc32(word.encode()) for word in WORD.findall(text.lower())], np.uint64)


def _sequences(words: np.ndarray, length: int) -> np.ndarray:
    """uint64 hash of every run of ``length`` words."""
    if len(words) < length:
        return np.zeros(0, np.uint64)
    runs = words
    for more in range(1, length):
        runs = runs[:-1] * BASE + words[more:]
    return runs


def _texts(name: str, path: str) -> Iterator[str]:
    kind = Path(name.removesuffix(".gz").removesuffix(".zst").removesuffix(".bz2").removesuffix(".xz")).suffix
    try:
        with open_binary(path) as file:
            if kind == ".json":
                yield from _strings(json.loads(file.read()))
                return
            for line in file:
                text = line.decode("utf-8-sig").rstrip("\r\n")
                yield from {".tsv": lambda row: row.split("\t"), ".jsonl": _row}.get(kind, lambda row: [row])(text)
    except (*BROKEN, ValueError) as error:
        raise CorpusError(f"{name}: cannot be read ({error}); correct clean.evaluation_paths") from None


def _row(line: str) -> list[str]:
    return list(_strings(json.loads(line))) if line.strip() else []


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _strings(each)
