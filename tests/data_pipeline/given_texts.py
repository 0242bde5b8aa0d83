"""What tests of text share: GPT-2's letters, random strings, random texts in many scripts, and real text."""

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


SCRIPTS: dict[str, tuple[str, str, str]] = {
    "latin": ("abcdefghijklmnopqrstuvwxyzABCDE\u00e9\u00fc\u00df\u0142\u017e\u1ebf", ".!?", " "),
    "greek": ("\u03b1\u03b2\u03b3\u03b4\u03b5\u03ac\u03c3\u03c2\u03a9\u0391", ".;!", " "),
    "cyrillic": ("\u0430\u0431\u0432\u0433\u0434\u0435\u0451\u0457\u0416\u0428", ".!?", " "),
    "han": ("\u4eca\u5929\u6c14\u5f88\u597d\u4e0d\u4ed6\u6765\u4e86\u3400", "\u3002\uff01\uff1f", ""),
    "japanese": ("\u3042\u3044\u3046\u30ab\u30ad\u30fc\u65e5\u672c\u304c\u3071", "\u3002\uff01", ""),
    "hangul": ("\ud55c\uad6d\uc5b4\ub2e4\uc694\uae00\uc744\ub294", ".!?", " "),
    "devanagari": ("\u0915\u0916\u0917\u093e\u093f\u0940\u094d\u0928\u092e\u0902", "\u0964\u0965?", " "),
    "bengali": ("\u0995\u0996\u0997\u09be\u09bf\u09cd\u09a8\u09ae\u09c7", "\u0964?", " "),
    "tamil": ("\u0b95\u0b99\u0b9a\u0bbe\u0bbf\u0bcd\u0ba8\u0bae", ".?", " "),
    "arabic": ("\u0627\u0628\u062a\u062b\u0645\u0631\u062d\u064e\u0650\u0629", ".\u061f\u06d4", " "),
    "hebrew": ("\u05d0\u05d1\u05d2\u05d3\u05e9\u05c1\u05b8\u05dc\u05d5\u05dd", ".?!", " "),
    "thai": ("\u0e01\u0e02\u0e04\u0e32\u0e34\u0e48\u0e19\u0e21\u0e44", ".", ""),
    "armenian": ("\u0561\u0562\u0563\u0564\u0531\u0532\u0565", "\u0589\u055e", " "),
    "georgian": ("\u10d0\u10d1\u10d2\u10d3\u10d4\u10d5", ".!?", " "),
    "ethiopic": ("\u1200\u1208\u1210\u12a0\u1275\u122d", "\u1362\u1367", " "),
    "burmese": ("\u1000\u1001\u102c\u102d\u1014\u1019\u103a", "\u104b\u104a", ""),
    "signs": ("0123456789$%&@#-_/\u20ac\u00bd\u2122\U0001f600\u2764\ufe0f\u200d\ufb01\uff21", ".!?", " "),
}
"""Letters, ends of sentences, and what stands between two words."""
QUOTES = [("\u201c", "\u201d"), ("\u300c", "\u300d"), ("(", ")"), ('"', '"'), ("\u00ab", "\u00bb")]
BETWEEN_SENTENCES = ("", " ", " ", " ", "  ", "\n", "\n\n", "\n\n\n", "\n    ")
SPACES = ("\u00a0", "\t", "\u3000", "\r\n", "\u200b", "\u2581")
ODD = (*SPACES, "##", "[MASK]", "</w>", "<0x41>", "\u0120", "e\u0301", "\u212b")


def random_text(draw: random.Random) -> str:
    """Some sentences, most of them in one script."""
    main = draw.choice(list(SCRIPTS))
    text = ""
    for _ in range(draw.randint(1, 8)):
        script = main if draw.random() < 0.8 else draw.choice(list(SCRIPTS))
        text += sentence(SCRIPTS[script], draw) + draw.choice(BETWEEN_SENTENCES)
    return text


def sentence(script: tuple[str, str, str], draw: random.Random) -> str:
    letters, ends, between = script
    words = ["".join(draw.choices(letters, k=draw.randint(1, 7))) for _ in range(draw.randint(1, 8))]
    if draw.random() < 0.2:
        words.insert(draw.randrange(len(words) + 1), draw.choice(ODD))
    if draw.random() < 0.5:
        words[0] = words[0].capitalize()
    text = (between if draw.random() < 0.95 else "  ").join(words) + draw.choice(ends) * draw.choice((1, 1, 1, 3))
    opened, closed = draw.choice(QUOTES) if draw.random() < 0.15 else ("", "")
    return opened + text + closed


def random_texts(count: int, seed: int) -> list[str]:
    """The same ones each time."""
    draw = random.Random(seed)
    return [random_text(draw) for _ in range(count)]
