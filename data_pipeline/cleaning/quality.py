"""Quality rules against lists, menus and repeated text: those of MassiveText (Rae et al. 2021, section A1.1, table A1).

Words are separated by white space, so the rules are only for languages that do so.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from sesame.data_pipeline.characters import is_letter
from sesame.data_pipeline.cleaning.ngrams import ngram_hashes
from sesame.data_pipeline.ragged import boundaries

STOP_WORDS = frozenset(["the", "be", "to", "of", "and", "that", "have", "with"])
BULLETS = ("-", "*", "\u2022", "\u2023", "\u25e6", "\u2043", "\u00b7")
ELLIPSES = ("...", "\u2026")


class Page(NamedTuple):
    """A document with its words, lines and paragraphs."""

    text: str
    words: list[str]
    lines: list[str]
    paragraphs: list[str]
    word_ids: np.ndarray
    """uint64 [words]: equal for equal words."""
    lengths: np.ndarray
    """int64 [words]: characters."""

    @classmethod
    def of(cls, text: str) -> "Page":
        words = text.split()
        lines = [line for line in text.split("\n") if line.strip()]
        numbers: dict[str, int] = {}
        word_ids = np.array([numbers.setdefault(word, len(numbers) + 1) for word in words], np.uint64)
        lengths = np.fromiter(map(len, words), np.int64, len(words))
        return cls(text, words, lines, text.split("\n\n"), word_ids, lengths)


class Rule(NamedTuple):
    """A document is dropped for the reason ``name`` if ``measure`` is outside of [``least``, ``most``]."""

    name: str
    measure: Callable[[Page], float]
    least: float = -np.inf
    most: float = np.inf


def broken_rule(text: str, rules: Iterable[Rule]) -> str | None:
    """Return the name of the first rule that ``text`` breaks, or None."""
    page = Page.of(text)
    return next((rule.name for rule in rules if not rule.least <= rule.measure(page) <= rule.most), None)


def _repeated(pieces: list[str]) -> float:
    """Share of the pieces that are equal to an earlier one."""
    return 1 - len(set(pieces)) / max(1, len(pieces))


def _repeated_characters(pieces: list[str]) -> float:
    """Share of the characters that are in pieces equal to an earlier one."""
    return 1 - sum(map(len, set(pieces))) / max(1, sum(map(len, pieces)))


def _ngrams(page: Page, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(hash, characters) of every n-gram of ``size`` words."""
    hashes = ngram_hashes(page.word_ids, size)
    ends = boundaries(page.lengths)
    return hashes, ends[size:] - ends[:-size]


def _most_common_ngram(size: int) -> Callable[[Page], float]:
    """Share of the characters that are in the most common n-gram of ``size`` words."""

    def measure(page: Page) -> float:
        hashes, characters = _ngrams(page, size)
        if not len(hashes):
            return 0.0
        _, first, counts = np.unique(hashes, return_index=True, return_counts=True)
        best = counts.max()
        taken = int(characters[first[counts == best]].max()) * int(best) if best > 1 else 0
        return taken / max(1, int(page.lengths.sum()))

    return measure


def _repeated_ngrams(size: int) -> Callable[[Page], float]:
    """Share of the characters that are in repeated n-grams of ``size`` words, each character counted once."""

    def measure(page: Page) -> float:
        hashes, _ = _ngrams(page, size)
        is_repeated = np.ones(len(hashes), bool)
        is_repeated[np.unique(hashes, return_index=True)[1]] = False
        starts_minus_ends = np.zeros(len(page.words) + 1, np.int64)
        np.add.at(starts_minus_ends, np.flatnonzero(is_repeated), 1)
        np.add.at(starts_minus_ends, np.flatnonzero(is_repeated) + size, -1)
        is_inside = np.cumsum(starts_minus_ends)[:-1] > 0
        return int(page.lengths[is_inside].sum()) / max(1, int(page.lengths.sum()))

    return measure


REPETITION = (
    Rule("repeated lines", lambda page: _repeated(page.lines), most=0.30),
    Rule("repeated paragraphs", lambda page: _repeated(page.paragraphs), most=0.30),
    Rule("characters in repeated lines", lambda page: _repeated_characters(page.lines), most=0.20),
    Rule("characters in repeated paragraphs", lambda page: _repeated_characters(page.paragraphs), most=0.20),
    *(
        Rule(f"most common {n} words", _most_common_ngram(n), most=most)
        for n, most in ((2, 0.20), (3, 0.18), (4, 0.16))
    ),
    *(Rule(f"repeated runs of {n} words", _repeated_ngrams(n), most=0.20 - n / 100) for n in range(5, 11)),
)
"""The rules of table A1, in its order."""

QUALITY = (
    Rule("number of words", lambda page: len(page.words), 50, 100_000),
    Rule("mean word length", lambda page: float(page.lengths.mean()) if len(page.words) else 0.0, 3, 10),
    Rule("hash signs for each word", lambda page: page.text.count("#") / max(1, len(page.words)), most=0.1),
    Rule("ellipses for each word", lambda page: _ellipses(page.text) / max(1, len(page.words)), most=0.1),
    Rule("lines that begin with a bullet", lambda page: _share(page.lines, _begins_with_bullet), most=0.9),
    Rule("lines that end with an ellipsis", lambda page: _share(page.lines, _ends_with_ellipsis), most=0.3),
    Rule("words with a letter", lambda page: _share(page.words, _has_letter), least=0.8),
    Rule("common English words", lambda page: len(STOP_WORDS.intersection(map(str.lower, page.words))), least=2),
)
"""The rules in the text of section A1.1."""


def _share(pieces: list[str], condition: Callable[[str], bool]) -> float:
    return sum(map(condition, pieces)) / max(1, len(pieces))


def _ellipses(text: str) -> int:
    return sum(map(text.count, ELLIPSES))


def _begins_with_bullet(line: str) -> bool:
    return line.lstrip().startswith(BULLETS)


def _ends_with_ellipsis(line: str) -> bool:
    return line.rstrip().endswith(ELLIPSES)


def _has_letter(word: str) -> bool:
    return any(map(is_letter, word))
