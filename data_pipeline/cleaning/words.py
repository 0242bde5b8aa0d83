"""Words of running text in any script."""

import re
from collections.abc import Iterator
from functools import cache

from sesame.data_pipeline.characters import MARKS, code_points

SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff\uaa60-\uaa7f"
    "\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Letters of scripts without spaces between words, as ranges of a pattern."""


def is_spaceless(word: str) -> bool:
    """Return whether a word is one letter of a script without spaces."""
    return _spaceless().match(word) is not None


def words(text: str) -> list[str]:
    """Return the words of a text.

    A word is a run of letters, marks and digits. In scripts without spaces it is one letter with its marks.
    """
    return _word().findall(text)


def iterate_words(text: str) -> Iterator[str]:
    """Yield the same words one by one, for texts whose list of words would be large."""
    return (match.group() for match in _word().finditer(text))


@cache
def _spaceless() -> re.Pattern[str]:
    return re.compile(f"[{SPACELESS}]")


@cache
def _word() -> re.Pattern[str]:
    marks = "\u200c\u200d" + "".join(map(chr, code_points(*MARKS)))
    return re.compile(rf"[{SPACELESS}][{marks}]*|(?:[^\W{SPACELESS}]|[{marks}])+")
