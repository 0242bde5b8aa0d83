"""Sentence splitting for English and Chinese by one regular expression and a list of abbreviations."""

import re

TITLES = "mr mrs ms dr prof st sr jr rev hon gen col capt lieut lt maj sgt gov sen rep messrs mme mlle"
SCHOLARLY = "vs etc al cf ca e.g i.e viz approx fig figs eq eqs no nos vol vols pp p ch sec ed eds trans ph.d"
OTHERS = "dept est jan feb mar apr jun jul aug sep sept oct nov dec inc ltd co corp u.s u.k a.m p.m b.c a.d"
ABBREVIATIONS = frozenset(f"{TITLES} {SCHOLARLY} {OTHERS}".split())
"""Words (lower case, without their last full stop) after which a full stop does not end a sentence."""

BOUNDARY = re.compile(
    r"""(?P<mark>[.!?\u2026]+)["'\u201d\u2019)\]]*(?P<gap>\s+)(?=["'\u201c\u2018(\[]*[A-Z0-9])"""
    r"""|[\u3002\uff01\uff1f\uff1b]+[\u201d\u2019\u300d\u300f\uff09]*"""
    r"""|\s*\n\s*\n\s*"""
)
"""Latin: marks, closing quotes, space, and something that can begin a sentence. Chinese: full-width marks and closing
quotes, no space. A blank line always ends a sentence."""

LAST_WORD = re.compile(r"[^\s(\[\"'\u201c\u2018]*$")


def split(text: str) -> list[str]:
    """The sentences of ``text`` in order, each on one line, none empty."""
    sentences, start = [], 0
    for match in BOUNDARY.finditer(text):
        if match["mark"] == "." and _is_abbreviation(text, match.start()):
            continue
        sentences.append(text[start : match.end()])
        start = match.end()
    sentences.append(text[start:])
    return [flat for sentence in sentences if (flat := " ".join(sentence.split()))]


def _is_abbreviation(text: str, stop: int) -> bool:
    found = LAST_WORD.search(text, max(0, stop - 20), stop)
    word = found[0] if found else ""
    return (len(word) == 1 and word.isupper() and word != "I") or word.lower() in ABBREVIATIONS
