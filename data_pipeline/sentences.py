"""Sentence splitting for English, Chinese and Japanese by marks, by what stands beside them, and by lists of words.

Latin: marks, closing quotes, space, and something that can begin a sentence. Chinese: full-width marks and closing
quotes, no space; not inside of a title in \u300a\u300b or of a question in parentheses, and not before who said it. A
blank line, and the end of a line before an item of a list, always end a sentence. ``compiled/text.py`` has the rules.
"""

import re
from functools import cache

import numpy as np

from data_pipeline.characters import kinds
from data_pipeline.columns import Ragged, boundaries
from data_pipeline.compiled import read_only
from data_pipeline.compiled import text as compiled

TITLES = "mr mrs ms dr prof st rev hon gen col capt cpt lieut lt maj sgt gov sen rep pres messrs mme mlle"
SCHOLARLY = "vs cf viz fig figs eq eqs nos vol vols pp ch sec ed eds trans dept ca approx mt ft"
DATES = "est jan feb mar apr jun jul aug sep sept oct nov dec"
FIRMS = "inc ltd co corp bros univ ave blvd rd"
STARTERS = (
    "The He She It They We You This That These Those There Then In On At But And So If When As His Her Its Their Our "
    "My For However What Who Why How No Yes Not Now Nobody After Before I"
)
VERBS = "said asked cried replied shouted answered exclaimed whispered called screamed repeated"

WORDS: dict[int, str] = {
    compiled.NEVER_LAST: f"{TITLES} {SCHOLARLY}",
    compiled.SOMETIMES_LAST: f"sr jr etc al p ph.d {DATES} {FIRMS}",
    compiled.BEFORE_NUMBERS: "no art nr",
    compiled.STARTER: STARTERS,
    compiled.VERB: VERBS,
}
"""Words, the first three in lower case and without their last full stop: after which no sentence begins; after which
one begins only with a starter, as after initials and words such as U.S.; that are abbreviations before a number, and
words of their own before anything else; that begin a sentence; that say who spoke, after a quotation that ends in an
exclamation or question mark."""
OTHER_SPACE = re.compile(r"[^\S\n ]")


def split(text: str) -> list[str]:
    """The sentences of ``text`` in order, each on one line, none empty."""
    row = Ragged.of_bytes([OTHER_SPACE.sub(" ", text).encode("utf-8", "surrogatepass")])
    return as_text(row.values, find_sentences(row).values)


def find_sentences(texts: Ragged) -> Ragged:
    """Where the sentences of each text lie.

    Args:
        texts: uint8 rows of UTF-8, of white space only spaces and newlines in them.

    Returns:
        int64 [sentences, 2], a row of them for each text: first byte, and the one after the last.
    """
    found, counts = compiled.sentences(read_only(texts.values), texts.offsets, kinds(), _words())
    return Ragged(found, boundaries(counts))


def as_text(data: np.ndarray, places: np.ndarray) -> list[str]:
    """The sentences at ``places`` (int64 [sentences, 2]) in ``data``, each on one line."""
    content = data.tobytes()
    return [" ".join(content[start:stop].decode("utf-8", "surrogatepass").split()) for start, stop in places.tolist()]


@cache
def _words() -> np.ndarray:
    """uint64 [256, 2]: the words as the compiled loops look them up."""
    each = [(word.encode(), bit) for bit, words in WORDS.items() for word in words.split()]
    codes = [compiled.packed(np.frombuffer(word, np.uint8), 0, len(word), False) for word, _ in each]
    return compiled.table_of(np.array(codes, np.uint64), np.array([bit for _, bit in each], np.uint64))
