"""Scores of one answer that is a text, against several right ones; the best of them counts.

squad   English: words without case, punctuation and articles (Rajpurkar et al. 2016; ReCoRD's official script)
cmrc    Chinese: characters, and Latin words, without case and punctuation; F1 by the longest common substring (Cui et
        al. 2019; the official script of CMRC 2018). Latin text is split as by NLTK's word_tokenize, which the script
        uses, but for its list of contractions ("cannot") and its sentence splitter.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence

CMRC_PUNCTUATION = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
"""What the script removes; its entry "……" of two characters matches none."""
IDEOGRAPH = re.compile(r"[\u4e00-\u9fa5]")
LATIN_SPACED = (
    # A comma or colon within a number belongs to it; a period ends a token only at the end of the text.
    (re.compile(r"([:,])(?!\d)"), r" \1 "),
    (re.compile(r"\.{2,}|[;@#$%&?!\[\](){}<>«»„‘]|--|\"|''"), r" \g<0> "),
    (re.compile(r"(?<=[^.])(\.)(?=[\])}>\"' ]*$)"), r" \1 "),
    (re.compile(r"(?<![\w'.])'(?=\w)"), r" ' "),
    (re.compile(r"(?<=[^' ])('(?:ll|re|ve|s|m|d)|n't)(?= |$)"), r" \1 "),
    (re.compile(r"(?<=[^' ])'(?= |$)"), r" ' "),
)
"""Where Latin text is split besides at white space, by the rules of the Penn Treebank."""


def squad_em(answers: Sequence[str], prediction: str) -> float:
    """1 if the prediction is one of the answers, else 0."""
    return float(any(_squad_words(prediction) == _squad_words(answer) for answer in answers))


def squad_f1(answers: Sequence[str], prediction: str) -> float:
    """The largest F1 of the words of prediction and answer, as bags."""
    return max(_squad_f1(answer, prediction) for answer in answers)


def cmrc_em(answers: Sequence[str], prediction: str) -> float:
    """1 if the prediction is one of the answers, else 0."""
    return float(any(_without_punctuation(prediction) == _without_punctuation(answer) for answer in answers))


def cmrc_f1(answers: Sequence[str], prediction: str) -> float:
    """The largest F1 of the segments that prediction and answer have in common in one piece."""
    return max(_cmrc_f1(answer, prediction) for answer in answers)


def _squad_words(text: str) -> list[str]:
    kept = "".join(character for character in text.lower() if character not in string.punctuation)
    return re.sub(r"\b(?:a|an|the)\b", " ", kept).split()


def _squad_f1(answer: str, prediction: str) -> float:
    expected, found = _squad_words(answer), _squad_words(prediction)
    common = (Counter(expected) & Counter(found)).total()
    return _f1(common, len(expected), len(found))


def _without_punctuation(text: str) -> str:
    return "".join(character for character in text.lower().strip() if character not in CMRC_PUNCTUATION)


def _cmrc_f1(answer: str, prediction: str) -> float:
    expected, found = _segments(answer), _segments(prediction)
    return _f1(_longest_common(expected, found), len(expected), len(found))


def _segments(text: str) -> list[str]:
    """Chinese characters, and the words between them."""
    parts = re.split(f"({IDEOGRAPH.pattern})", _without_punctuation(text))
    return [segment for part in parts for segment in ([part] if IDEOGRAPH.match(part) else _latin_words(part))]


def _latin_words(text: str) -> list[str]:
    for pattern, replacement in LATIN_SPACED:
        text = pattern.sub(replacement, text.strip())
    return text.split()


def _longest_common(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest sequence of neighbours that both have."""
    longest, ending = 0, [0] * (len(second) + 1)
    for segment in first:
        ending = [0, *(before + 1 if segment == other else 0 for before, other in zip(ending, second, strict=False))]
        longest = max(longest, *ending)
    return longest


def _f1(common: int, expected: int, found: int) -> float:
    return 2 * common / (expected + found) if common else 0.0
