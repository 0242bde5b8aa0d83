"""Unicode properties of characters, as tables of bits for the compiled loops.

A letter is a letter or a mark (general categories L and M): ``str.isalpha`` is false for the vowel signs of Indic
scripts. Sets of characters are written as in a regular expression's brackets, without escapes: ``a-z`` is a range, and
a hyphen at either end is itself.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from functools import cache

import numpy as np

from sesame.data_pipeline.compiled import character_kinds, cutting, splitting, whitespace

IDEOGRAPHS = "\u3005\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
"""Letters of East Asian scripts that put no spaces between words."""
TABLE_SIZE = 0x40000
"""Code points in the tables. Only tags and variation selectors are assigned beyond them, which count as marks."""

SENTENCE_TERMINAL = (
    "!.?\u0589\u061d-\u061f\u06d4\u0700-\u0702\u07f9\u0837\u0839\u083d\u083e\u0964\u0965\u104a\u104b\u1362\u1367\u1368"
    "\u166e\u1735\u1736\u17d4\u17d5\u1803\u1809\u1944\u1945\u1aa8-\u1aab\u1b4e\u1b4f\u1b5a\u1b5b\u1b5e\u1b5f"
    "\u1b7d-\u1b7f\u1c3b\u1c3c\u1c7e\u1c7f\u2024\u203c\u203d\u2047-\u2049\u2cf9-\u2cfb\u2e2e\u2e3c\u2e53\u2e54\u2e60"
    "\u2e61\u3002\ua4ff\ua60e\ua60f\ua6f3\ua6f7\ua876\ua877\ua8ce\ua8cf\ua92f\ua9c8\ua9c9\uaa5d-\uaa5f\uaaf0\uaaf1"
    "\uabeb\ufe12\ufe15\ufe16\ufe52\ufe56\ufe57\uff01\uff0e\uff1f\uff61\U00010a56\U00010a57\U00010f55-\U00010f59"
    "\U00010f86-\U00010f89\U00011047\U00011048\U000110be-\U000110c1\U00011141-\U00011143\U000111c5\U000111c6\U000111cd"
    "\U000111de\U000111df\U00011238\U00011239\U0001123b\U0001123c\U000112a9\U000113d4\U000113d5\U0001144b\U0001144c"
    "\U000115c2\U000115c3\U000115c9-\U000115d7\U00011641\U00011642\U0001173c-\U0001173e\U00011944\U00011946\U00011a42"
    "\U00011a43\U00011a9b\U00011a9c\U00011c41\U00011c42\U00011ef7\U00011ef8\U00011f43\U00011f44\U00016a6e\U00016a6f"
    "\U00016af5\U00016b37\U00016b38\U00016b44\U00016d6e\U00016d6f\U00016e98\U0001bc9f\U0001da88"
)
"""Unicode 17's property of this name, which ``unicodedata`` lacks."""
TIBETAN_SHADS = "\u0f0d-\u0f11"
"""Not Sentence_Terminal in Unicode, because they end sentences and clauses alike."""
LATIN = "!.?\u2024\u203c\u203d\u2047-\u2049\u2e2e\u2e53\u2e54"
EASTERN = "\u3002\ufe12\ufe15\ufe16\ufe52\ufe56\ufe57\uff01\uff0e\uff1b\uff1f\uff61"
"""Sentence terminals that white space follows, and East Asian ones that it does not. Unicode does not list the
full-width semicolon, but Chinese prose ends sentences with it."""

CLEANING: dict[int, str] = {
    whitespace.REMOVED: "\x00-\x08\x0e-\x1b\x7f\u200b\u2060\ufeff",
    whitespace.WHITE: "\t\x0b-\r\x1c- \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000",
}
"""Bit -> set of characters."""
JOINED = "\u0300-\u036f\u200c\u200d\u0e33\u0eb3\u1160-\u11ff\ud7b0-\ud7ff\uff9e\uff9f\U0001f3fb-\U0001f3ff"
"""Characters other than marks that extend the one before them (UAX 29: Extend, SpacingMark, Jamo)."""
CONTINUES = ",:;\u2013\u2014\u055d\u060c\u061b\u07f8\u1802\u1808\u3001\uff0c\uff0d\uff1a-"
PAUSES = ",:;\u060c\u061b\u3001\uff0c\uff1a\uff1b"
"""Marks before which no sentence begins; marks after which text without spaces may be cut."""

CUTTING: dict[int, str] = {
    cutting.PAUSE: PAUSES,
    character_kinds.JOINED: JOINED,
    cutting.JOINS: (
        "\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\u200d\u094d\u09cd\u0a4d\u0acd\u0b4d\u0bcd\u0c4d\u0ccd\u0d4d\u0dca"
        "\u1039\u17d2\u1a60\u1100-\u115f\ua960-\ua97c"
    ),
    cutting.FLAG: "\U0001f1e6-\U0001f1ff",
}
SPLITTING: dict[int, str] = {
    splitting.OPENING: (
        "\"'\u201c\u2018\u201a\u201e\u00ab\u00bb\u2039\u203a\u300c\u300e\u300a\u3008\u3010\uff08([\u00bf\u00a1"
    ),
    splitting.CLOSING: "\"'\u201c\u201d\u2018\u2019\u00ab\u00bb\u2039\u203a\u300d\u300f\u300b\u3009\u3011\uff09)]",
    splitting.QUOTE: "\"'\u201c\u201d\u2018\u2019\u00ab\u00bb\u2039\u203a",
    splitting.BRACKET: "\u300c\u300e\u300a\u3008\u3010\uff08([\"'\u201c\u2018\u201a\u201e\u00ab\u00bb\u2039\u203a",
    splitting.IDEOGRAPH: IDEOGRAPHS,
    splitting.HANGUL: "\u1100-\u11ff\u3131-\u318e\ua960-\ua97c\uac00-\ud7ff",
    splitting.STOPLESS: "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\uaa60-\uaa7f",
    splitting.LATIN_MARK: f"{LATIN}\u2026",
    splitting.EASTERN_MARK: EASTERN,
    splitting.EASTERN_RUN: f"{EASTERN}\u2026!?\u203c\u2047-\u2049",
    splitting.GREEK: "\u0370-\u037d\u0386-\u03ff\u1f00-\u1fff",
    splitting.ASKS: "\uff01\uff1f",
    splitting.CLOSING_PARENTHESIS: "\uff09",
    splitting.EASTERN_CLOSING: "\u201d\u2019\u300d\u300f\uff09\u3011\u3009\u3015\u3017\u3019\u301e\u301f\uff63",
    splitting.CONTINUES_EASTERN: "\u300b\uff0c\u3001",
    splitting.CONTINUES: CONTINUES,
    splitting.SPEECH: "\u8bf4\u8aaa\u9053\u95ee\u554f\u7b54\u558a\u53eb\u60f3",
    splitting.AFTER_SPEECH: "\u9053\u7740\u8457",
    splitting.AFTER_SAID: "\u3002\uff0c\uff01",
    splitting.PARTICLE: "\u3068\u3063\u3092\u304c",
    splitting.KOREAN_ENDING: "\ub2e4\uc694\uae4c\uc8e0",
    splitting.BULLET: "-*\u2022\u00b7",
    character_kinds.JOINED: JOINED,
}
GEORGIAN = slice(0x10D0, 0x1100)
"""Lower case in Unicode since it has capitals of them, but those do not begin sentences."""

CATEGORIES = (
    *("Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po"),
    *("Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Co", "Cn"),
)
"""Unicode's general categories."""
MARKS = ("Mn", "Mc", "Me")
LETTERS = ("Lu", "Ll", "Lt", "Lm", "Lo", *MARKS)
SPLITTING_CATEGORIES: dict[int, tuple[str, ...]] = {
    splitting.DECIMAL: ("Nd",),
    splitting.LETTER: LETTERS,
    splitting.OF_WORD: (*LETTERS, "Nd", "Nl", "No", "Pc"),
    splitting.DIGIT: ("Nd", "No"),
    character_kinds.JOINED: MARKS,
    splitting.UPPER: ("Lu", "Lt"),
    splitting.UNCASED: ("Lo",),
}
"""Bit -> general categories of the characters that have it."""


@cache
def cleaning_kinds() -> np.ndarray:
    """uint8 [code points]: bits of each character for ``compiled/whitespace.py``."""
    return _table(CLEANING, {whitespace.LETTER: LETTERS}, np.uint8)


@cache
def cutting_kinds() -> np.ndarray:
    """uint8 [code points]: bits of each character for ``compiled/cutting.py``."""
    return _table(CUTTING, {character_kinds.JOINED: MARKS}, np.uint8)


@cache
def splitting_kinds() -> np.ndarray:
    """uint32 [code points]: bits of each character for ``compiled/splitting.py``."""
    sets = {**SPLITTING, splitting.OTHER_MARK: f"{SENTENCE_TERMINAL}{TIBETAN_SHADS}"}
    table = _table(sets, SPLITTING_CATEGORIES, np.uint32)
    table[GEORGIAN] |= splitting.UNCASED
    _clear(table, splitting.OTHER_MARK, splitting.LATIN_MARK | splitting.EASTERN_MARK)
    _clear(table, splitting.UNCASED, splitting.IDEOGRAPH)
    return table


def code_points(*categories: str) -> np.ndarray:
    """int64: code points of some general categories, in ascending order."""
    return np.flatnonzero(np.isin(_category_numbers(), [CATEGORIES.index(each) for each in categories]))


def is_letter(character: str) -> bool:
    """Whether a character is a letter or a mark of any script."""
    return unicodedata.category(character)[0] in "LM"


def _table(
    sets: Mapping[int, str], categories: Mapping[int, tuple[str, ...]], dtype: type[np.unsignedinteger]
) -> np.ndarray:
    """[code points] of ``dtype``: the bits whose set or whose general categories a character is in."""
    of_category = np.zeros(len(CATEGORIES), dtype)
    for bit, names in categories.items():
        of_category[[CATEGORIES.index(name) for name in names]] |= dtype(bit)
    table = of_category[_category_numbers()]
    for bit, characters in sets.items():
        for first, last in _ranges(characters):
            table[first : last + 1] |= dtype(bit)
    return table


def _clear(table: np.ndarray, bit: int, where: int) -> None:
    """Clear ``bit`` of the characters that have one of the bits ``where``."""
    table[(table & where) > 0] &= ~table.dtype.type(bit)


def _ranges(characters: str) -> Iterator[tuple[int, int]]:
    """(first, last) code point of each range in a set of characters."""
    for match in re.finditer("(.)-(.)|.", characters, re.DOTALL):
        yield ord(match[1] or match[0]), ord(match[2] or match[0])


@cache
def _category_numbers() -> np.ndarray:
    """uint8 [code points]: index of each character's general category in CATEGORIES."""
    characters = np.arange(TABLE_SIZE, dtype="<u4").tobytes().decode("utf-32-le", "surrogatepass")
    # Each category is two ASCII letters, read as one number of 16 bits.
    codes = np.frombuffer("".join(map(unicodedata.category, characters)).encode("ascii"), np.uint16)
    number_of_code = np.zeros(1 << 16, np.uint8)
    number_of_code[np.frombuffer("".join(CATEGORIES).encode("ascii"), np.uint16)] = np.arange(len(CATEGORIES))
    return number_of_code[codes]
