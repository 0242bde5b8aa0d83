"""What each character is to cleaning and to sentence splitting: one table, looked up by the compiled loops."""

import re
from functools import cache

import numpy as np

from data_pipeline.compiled import text

IDEOGRAPHS = "\u3005\u3040-\u30ff\u3400-\u9fff"
PLANES = 0x40000
"""Code points of the table; behind them nothing is a letter, a digit or white space."""

CLASSES: dict[int, str] = {
    text.OF_WORD: r"[\w]",
    text.DECIMAL: r"[\d]",
    text.OPENING: "[\"'\u201c\u2018\u00ab\u201e\u300c\u300e\u300a\uff08(\\[\u00bf\u00a1]",
    text.CLOSING: "[\"'\u201d\u2019\u00bb\u300d\u300f\uff09)\\]]",
    text.QUOTE: "[\"'\u201d\u2019]",
    text.BRACKET: "[(\\[\"'\u201c\u2018]",
    text.CAPITAL: f"[A-Z0-9\u00c0-\u00d6\u00d8-\u00de\u0391-\u03a9\u0410-\u042f{IDEOGRAPHS}]",
    text.IDEOGRAPH: f"[{IDEOGRAPHS}]",
    text.LATIN_MARK: "[.!?\u2026]",
    text.EASTERN_MARK: "[\u3002\uff01\uff1f\uff1b\uff61]",
    text.EASTERN_RUN: "[\u3002\uff01\uff1f\uff1b\uff61\u2026]",
    text.ASKS: "[\uff01\uff1f]",
    text.CLOSES_ASIDE: "[\uff09]",
    text.EASTERN_CLOSING: "[\u201d\u2019\u300d\u300f\uff09\u3011]",
    text.GOES_ON: "[\u300b\uff0c\u3001]",
    text.SPEECH: "[\u8bf4\u8aaa\u9053\u95ee\u554f\u7b54\u558a\u53eb\u60f3]",
    text.AFTER_SPEECH: "[\u9053\u7740\u8457]",
    text.AFTER_SAID: "[\u3002\uff0c\uff01]",
    text.BULLET: "[-*\u2022\u00b7]",
    text.REMOVED: "[\x00-\x08\x0b-\x1f\x7f\u200b\u2060\ufeff]",
    text.WHITE: r"[^\S\n]",
}
"""Bit -> the characters that have it."""
PREDICATES = {text.LETTER: str.isalpha, text.DIGIT: str.isdigit}
"""Bit -> what a character answers, for those that no class of ``re`` says."""


@cache
def kinds() -> np.ndarray:
    """uint32 [code points]: bits of each character."""
    found = np.zeros(PLANES, np.uint32)
    every = "".join(map(chr, range(PLANES)))
    for bit, pattern in CLASSES.items():
        members = [match.start() for match in re.finditer(pattern, every)]
        found[members] |= bit
    for bit, predicate in PREDICATES.items():
        found[np.fromiter(map(predicate, every), bool, PLANES)] |= bit
    return found
