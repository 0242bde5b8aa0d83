"""Sentence splitting in every script by marks, by what stands beside them, and by lists of words.

Sentences end with the characters that have Unicode's property Sentence_Terminal (UAX 29). A full stop is one only where
a space and something follow that can begin a sentence, and no abbreviation, ordinal or date is before it. East Asian
marks need no space; they end nothing inside of a title in \u300a\u300b or of a question in parentheses, and not before
who said it. A blank line, and the end of a line before an item of a list, always end a sentence.
``compiled/sentence_marks.py`` has the rules, ``sentence_words.py`` the words.
"""

import re
from functools import cache
from itertools import chain

import numpy as np

from sesame.data_pipeline.characters import splitting_kinds
from sesame.data_pipeline.compiled import read_only, splitting, word_table
from sesame.data_pipeline.compiled import sentences as compiled
from sesame.data_pipeline.examples import sentence_words as words
from sesame.data_pipeline.ragged import Ragged, boundaries

FOLDED = {
    splitting.NEVER_LAST: words.NEVER_LAST.values(),
    splitting.SOMETIMES_LAST: words.SOMETIMES_LAST.values(),
    splitting.BEFORE_NUMBERS: [words.BEFORE_NUMBERS],
    splitting.COMPOUND: [words.COMPOUNDS],
    splitting.BEFORE_ORDINAL: [words.BEFORE_ORDINALS],
}
"""Bit -> words without their last full stop, whatever their case."""
AS_WRITTEN = {
    splitting.STARTER: words.STARTERS.values(),
    splitting.VERB: words.VERBS.values(),
    splitting.QUOTATIVE: [words.QUOTATIVES],
    splitting.ORDINAL: [words.ORDINALS],
}
OTHER_SPACE = re.compile(r"[^\S\n ]")


def split(text: str) -> list[str]:
    """The sentences of ``text`` in order, each on one line, none empty."""
    row = Ragged.of_bytes([OTHER_SPACE.sub(" ", text).encode("utf-8", "surrogatepass")])
    return as_text(row.values, find_sentences(row).values)


def find_sentences(texts: Ragged) -> Ragged:
    """Where the sentences of each text lie; what lies between two of them is white space, or nothing.

    Args:
        texts: uint8 rows of UTF-8, of white space only spaces, tabs and newlines in them.

    Returns:
        int64 [sentences, 2], a row of them for each text: first byte, and the one after the last.
    """
    found, counts = compiled.find_sentences(
        read_only(texts.values), texts.offsets, splitting_kinds(), _leads(), _words()
    )
    return Ragged(found, boundaries(counts))


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
    codes = [word_table.hash_word(word, 0, len(word), False, word_table.FNV_OFFSET) for word in data]
    return word_table.build_table(np.array(codes, np.uint64), np.array([bit for _, bit in each], np.uint64))


def _in_any_case(given: list[str]) -> set[str]:
    """Words as they may stand in a text once capitals of ASCII are small letters."""
    variants = chain.from_iterable((word, word.capitalize(), word.upper(), word.title()) for word in given)
    return {"".join(letter.lower() if letter.isascii() else letter for letter in word) for word in variants}
