"""Sentence splitting for English, Chinese and Japanese by one regular expression and lists of words.

The space of a paragraph is folded first, all at once, so that the expression meets single spaces only; it begins with
one set of characters, which ``re`` looks for fast.
"""

import re

TITLES = "mr mrs ms dr prof st rev hon gen col capt cpt lieut lt maj sgt gov sen rep pres messrs mme mlle"
SCHOLARLY = "vs cf viz fig figs eq eqs nos vol vols pp ch sec ed eds trans dept ca approx mt ft"
NEVER_LAST = frozenset(f"{TITLES} {SCHOLARLY}".split())
"""Words (lower case, without their last full stop) after which no sentence begins."""
DATES = "est jan feb mar apr jun jul aug sep sept oct nov dec"
FIRMS = "inc ltd co corp bros univ ave blvd rd"
SOMETIMES_LAST = frozenset(f"sr jr etc al p ph.d {DATES} {FIRMS}".split())
"""Words after which a sentence begins only with one of ``STARTERS``; so do initials and words such as U.S."""
BEFORE_NUMBERS = frozenset({"no", "art", "nr"})
"""Abbreviations before a number, words of their own before anything else."""

IDEOGRAPHS = "\u3005\u3040-\u30ff\u3400-\u9fff"
OPENING = "\"'\u201c\u2018\u00ab\u201e\u300c\u300e\u300a\uff08(\\[\u00bf\u00a1"
CLOSING = "\"'\u201d\u2019\u00bb\u300d\u300f\uff09)\\]"
CAPITAL = f"A-Z0-9\u00c0-\u00d6\u00d8-\u00de\u0391-\u03a9\u0410-\u042f{IDEOGRAPHS}"
EASTERN_CLOSING = "\u201d\u2019\u300d\u300f\uff09\u3011"
SPEECH = "\u8bf4\u8aaa\u9053\u95ee\u554f\u7b54\u558a\u53eb\u60f3"
SAID = f"[{IDEOGRAPHS}]{{0,6}}[{SPEECH}][\u9053\u7740\u8457]?[\u3002\uff0c\uff01]"
"""Who said what was quoted, up to the next mark; it belongs to the sentence of the quotation."""

BOUNDARY = re.compile(
    rf"""[\n.!?\u2026\u3002\uff01\uff1f\uff1b\uff61](?:
    (?<=\n)|
    (?<=[.!?\u2026])(?P<more>[.!?\u2026]*+)(?P<closing>[{CLOSING}]*+)
        (?:\ (?=[{OPENING}]*+[{CAPITAL}])|(?<=[!?])(?=[{IDEOGRAPHS}])|(?<=[{IDEOGRAPHS}]\.)(?=[{IDEOGRAPHS}]))
    |(?<=[\u3002\uff01\uff1f\uff1b\uff61])[\u3002\uff01\uff1f\uff1b\uff61\u2026]*+(?![\u300b\uff0c\u3001])
        (?!(?<=[\uff01\uff1f])\uff09)(?![{EASTERN_CLOSING}]++{SAID})[{EASTERN_CLOSING}]*+\ ?
    )""",
    re.VERBOSE,
)
"""The end of a block. Latin: marks, closing quotes, space, and something that can begin a sentence. Chinese: full-width
marks and closing quotes, no space; not inside of a title in \u300a\u300b or of a question in parentheses."""

STARTERS = re.compile(
    rf"[{OPENING}]*(?:The|He|She|It|They|We|You|This|That|These|Those|There|Then|In|On|At|But|And|So|If|When|As|His|Her"
    r"|Its|Their|Our|My|For|However|What|Who|Why|How|No|Yes|Not|Now|Nobody|After|Before|I)(?![\w.])"
)
ATTRIBUTION = re.compile(
    r"(?:[A-Z]\w*\.? ){1,3}(?:said|asked|cried|replied|shouted|answered|exclaimed|whispered|called|screamed|repeated)\b"
)
"""Who spoke, after a quotation that ends in ! or ?."""
QUOTES = ('"', "'", "\u201d", "\u2019")

BLOCK = re.compile(r"\n\s*\n|\n(?=[^\S\n]*(?:[-*\u2022\u00b7]|\d{1,2}[.)])[^\S\n])")
"""A blank line, and the end of a line before an item of a list, always end a sentence."""
SEPARATOR = "\x1f"


def split(text: str) -> list[str]:
    """The sentences of ``text`` in order, each on one line, none empty."""
    sentences: list[str] = []
    start, blocks = 0, _folded(text)
    for match in BOUNDARY.finditer(blocks):
        stop = match.end()
        more, closing = match.group("more", "closing")
        if more is not None and not _ends(blocks, start, match.start(), stop, more, closing):
            continue
        if found := blocks[start:stop].strip():
            sentences.append(found)
        start = stop
    if found := blocks[start:].strip():
        sentences.append(found)
    return sentences


def _folded(text: str) -> str:
    """The blocks of ``text``, a line each, with single spaces."""
    if text.replace("\n", " ").isprintable():
        # No space but the plain one, and no separator of ours.
        blocks = BLOCK.sub(SEPARATOR, text).replace("\n", " ").replace(SEPARATOR, "\n")
        if "  " not in blocks:
            return blocks
    return "\n".join(" ".join(block.split()) for block in BLOCK.split(text))


def _ends(block: str, start: int, mark: int, stop: int, more: str, closing: str) -> bool:
    """Does the mark at ``mark`` end the sentence that began at ``start``, so that another begins at ``stop``?"""
    if block[mark] != ".":
        return not (closing.endswith(QUOTES) and ATTRIBUTION.match(block, stop))
    if more:
        return True
    first = max(start, block.rfind(" ", start, mark) + 1)
    word = block[first:mark].lstrip("([\"'\u201c\u2018")
    if not 0 < len(word) <= 8:
        return True
    if first == start and not closing and (word.isdigit() and len(word) < 4):
        return False
    return not _is_abbreviation(word, block, stop)


def _is_abbreviation(word: str, block: str, stop: int) -> bool:
    lower = word.lower()
    if lower in NEVER_LAST:
        return True
    if lower in BEFORE_NUMBERS:
        return block[stop].isdigit()
    initial = len(word) == 1 and word.isupper() and word != "I" and word.isascii()
    dotted = word[1:2] == "." and word.replace(".", "").isalpha() and lower != "i"
    return (initial or dotted or lower in SOMETIMES_LAST) and not STARTERS.match(block, stop)
