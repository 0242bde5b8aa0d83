"""What tests of tokenizers from elsewhere share: GPT-2's letters, and real text."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

VISIBLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
LETTERS = [chr(byte) for byte in VISIBLE] + [chr(256 + number) for number in range(256 - len(VISIBLE))]
"""What GPT-2's pieces have for the 256 bytes."""
MERGES = [("\u0120", "t"), ("h", "e"), ("\u0120t", "he")]


def real_texts(path: Path, characters: int) -> Iterator[str]:
    """Paragraphs from the start of a compressed file of JSON lines."""
    zstd = pytest.importorskip("backports.zstd", reason="needs a zstd reader")
    with zstd.open(path) as file:
        for line in io.TextIOWrapper(file, encoding="utf-8"):
            for paragraph in json.loads(line)["text"].split("\n"):
                yield paragraph
                characters -= len(paragraph)
                if characters < 0:
                    return
