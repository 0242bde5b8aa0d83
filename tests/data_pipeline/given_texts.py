"""What tests of text share: GPT-2's letters, random strings and real text."""

import io
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

VISIBLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
LETTERS = [chr(byte) for byte in VISIBLE] + [chr(256 + number) for number in range(256 - len(VISIBLE))]
"""What GPT-2's pieces have for the 256 bytes."""
MERGES = [("\u0120", "t"), ("h", "e"), ("\u0120t", "he")]


def mixtures(pieces: Sequence[str], count: int, fewest: int, most: int) -> list[str]:
    """Random strings of so many pieces each: all kinds of them beside each other, the same ones each time."""
    draw = random.Random(0)
    return ["".join(draw.choices(pieces, k=draw.randint(fewest, most))) for _ in range(count)]


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
