"""Sentence splitting in every script by marks, by what stands beside them, and by lists of words.

Sentences end with the characters that have Unicode's property Sentence_Terminal (UAX 29). A full stop is one only where
a space and something follow that can begin a sentence, and no abbreviation, ordinal or date is before it. East Asian
marks need no space; they end nothing inside of a title in \u300a\u300b or of a question in parentheses, and not before
who said it. A blank line, and the end of a line before an item of a list, always end a sentence.
``compiled/sentences.py`` has the rules, ``sentence_words.py`` the words.
"""

import re
from collections.abc import Callable
from functools import cache
from itertools import chain

import numpy as np

from data_pipeline import sentence_words as words
from data_pipeline.characters import cutting_kinds, splitting_kinds
from data_pipeline.columns import Ragged, boundaries
from data_pipeline.compiled import sentences as compiled
from data_pipeline.compiled.cutting import pieces

FOLDED = {
    compiled.NEVER_LAST: words.NEVER_LAST.values(),
    compiled.SOMETIMES_LAST: words.SOMETIMES_LAST.values(),
    compiled.BEFORE_NUMBERS: [words.BEFORE_NUMBERS],
    compiled.COMPOUND: [words.COMPOUNDS],
    compiled.BEFORE_ORDINAL: [words.BEFORE_ORDINALS],
}
"""Bit -> words without their last full stop, whatever their case."""
AS_WRITTEN = {
    compiled.STARTER: words.STARTERS.values(),
    compiled.VERB: words.VERBS.values(),
    compiled.QUOTATIVE: [words.QUOTATIVES],
    compiled.ORDINAL: [words.ORDINALS],
}
OTHER_SPACE = re.compile(r"[^\S\n ]")
MORE_PIECES = 1.1
"""Of a sentence that is cut by its bytes, so that few pieces have to be cut again by their tokens."""


def split(text: str) -> list[str]:
    """The sentences of ``text`` in order, each on one line, none empty."""
    row = Ragged.of_bytes([OTHER_SPACE.sub(" ", text).encode("utf-8", "surrogatepass")])
    return as_text(row.values, find_sentences(row).values)


def find_sentences(texts: Ragged) -> Ragged:
    """Where the sentences of each text lie; what lies between two of them is white space, or nothing.

    Args:
        texts: uint8 rows of UTF-8, of white space only spaces and newlines in them.

    Returns:
        int64 [sentences, 2], a row of them for each text: first byte, and the one after the last.
    """
    found, counts = compiled.sentences(texts.values, texts.offsets, splitting_kinds(), _leads(), _words())
    return Ragged(found, boundaries(counts))


def cut_to_fit(
    texts: Ragged, found: Ragged, encode: Callable[[Ragged, Ragged], Ragged], longest: int
) -> tuple[Ragged, Ragged]:
    """Encode sentences, with those of more than ``longest`` tokens cut until all pieces fit: at spaces, else behind
    commas, else between characters with their marks. Nothing of the text is lost.

    Args:
        texts: as in :func:`find_sentences`.
        found: its result.
        encode: texts and their sentences -> ids, a row for each sentence.

    Returns:
        (the sentences and pieces as :func:`find_sentences` has them, their ids); only what cannot be cut, such as one
        character of many tokens, is longer than asked for.
    """
    rows = encode(texts, found)
    while True:
        parts = np.where(rows.lengths > longest, np.ceil(rows.lengths * MORE_PIECES / longest), 1).astype(np.int64)
        owners = np.repeat(np.arange(len(found.lengths)), found.lengths)
        concerned = np.unique(owners[parts > 1])
        if not len(concerned):
            return found, rows
        some = np.isin(owners, concerned)
        cut, counts = pieces(texts.values, found.values[some], parts[some], cutting_kinds())
        if len(cut) == some.sum():
            return found, rows
        made = np.ones(len(owners), np.int64)
        made[some] = counts
        lengths = np.bincount(owners, weights=made, minlength=len(found.lengths)).astype(np.int64)
        again = _encode_some(texts, Ragged(cut, boundaries(lengths[concerned])), concerned, encode)
        new = np.repeat(some, made)
        places = np.empty((len(new), 2), np.int64)
        places[new], places[~new] = cut, found.values[~some]
        found = Ragged(places, boundaries(lengths))
        order = np.empty(len(new), np.int64)
        order[~new], order[new] = np.flatnonzero(~some), len(some) + np.arange(len(cut))
        rows = Ragged.joined([rows, again]).take(order)


def _encode_some(
    texts: Ragged, found: Ragged, numbers: np.ndarray, encode: Callable[[Ragged, Ragged], Ragged]
) -> Ragged:
    """The ids of the sentences ``found`` (in all texts' bytes) of the texts ``numbers``."""
    chosen = texts.take(numbers)
    moved = np.repeat(chosen.offsets[:-1] - texts.offsets[numbers], found.lengths)
    return encode(chosen, Ragged(found.values + moved[:, None], found.offsets))


def as_text(data: np.ndarray, places: np.ndarray) -> list[str]:
    """The sentences at ``places`` (int64 [sentences, 2]) in ``data``, each on one line."""
    content = data.tobytes()
    return [" ".join(content[start:stop].decode("utf-8", "surrogatepass").split()) for start, stop in places.tolist()]


@cache
def _leads() -> np.ndarray:
    """bool [256]: the first bytes of what may end a sentence."""
    return compiled.lead_bytes(splitting_kinds())


@cache
def _words() -> np.ndarray:
    """uint64 [rows, 2]: the words as the compiled loops look them up."""
    each = [
        *((word, bit) for bit, groups in FOLDED.items() for group in groups for word in _in_any_case(group.split())),
        *((word, bit) for bit, groups in AS_WRITTEN.items() for group in groups for word in group.split()),
    ]
    data = [np.frombuffer(word.encode(), np.uint8) for word, _ in each]
    codes = [compiled.hashed(word, 0, len(word), False, compiled.FIRST_CODE) for word in data]
    return compiled.table_of(np.array(codes, np.uint64), np.array([bit for _, bit in each], np.uint64))


def _in_any_case(given: list[str]) -> set[str]:
    """Words as they may stand in a text once capitals of ASCII are small letters."""
    variants = chain.from_iterable((word, word.capitalize(), word.upper(), word.title()) for word in given)
    return {"".join(letter.lower() if letter.isascii() else letter for letter in word) for word in variants}
