"""Sentence splitting."""

import re
import unicodedata

import numpy as np
import pytest

from sesame.data_pipeline.characters import SENTENCE_TERMINAL
from sesame.data_pipeline.examples.sentences import as_text, find_sentences, split
from sesame.data_pipeline.ragged import Ragged
from tests.data_pipeline.examples import sentence_cases
from tests.data_pipeline.examples.sentence_cases import Case
from tests.data_pipeline.given_texts import mixtures

TERMINALS = re.findall(f"[{SENTENCE_TERMINAL}]", "".join(map(chr, range(0x110000))))
CASES = sentence_cases.read()
HARD = [pytest.param(case, marks=pytest.mark.xfail(strict=True)) if case.known_wrong else case for case in CASES]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It rained. We stayed.", ["It rained.", "We stayed."]),
        ("Really?! Yes. No", ["Really?!", "Yes.", "No"]),
        ("Mr. Smith met Dr. J. Jones. They talked.", ["Mr. Smith met Dr. J. Jones.", "They talked."]),
        ("See e.g. Figure 2, i.e. Fig. 3. Then stop.", ["See e.g. Figure 2, i.e. Fig. 3.", "Then stop."]),
        ("So did I. He left.", ["So did I.", "He left."]),
        ('"Stop!" She stopped. "Why?"', ['"Stop!"', "She stopped.", '"Why?"']),
        ("Version 3.11 is here. It is 3.5 m long.", ["Version 3.11 is here.", "It is 3.5 m long."]),
        ("A title\n\nThe text goes\non here.", ["A title", "The text goes on here."]),
        (
            "\u4ed6\u6765\u4e86\u3002\u4f60\u597d\u5417\uff1f\u597d\uff01",
            ["\u4ed6\u6765\u4e86\u3002", "\u4f60\u597d\u5417\uff1f", "\u597d\uff01"],
        ),
        ("", []),
        (" \n\n ", []),
    ],
)
def test_it_splits(text: str, expected: list[str]) -> None:
    assert split(text) == expected


@pytest.mark.parametrize("case", HARD, ids=lambda case: f"{case.language}-{CASES.index(case)}")
def test_hard_cases_are_right(case: Case) -> None:
    assert split(case.text) == case.sentences


@pytest.mark.parametrize("language", ["English", "German", "Chinese", "Japanese", "Korean", "Hindi"])
def test_each_language_has_enough_hard_cases(language: str) -> None:
    assert sum(case.language == language for case in CASES) >= 25


def test_sentences_split_again_stay_whole() -> None:
    for case in CASES:
        assert all(split(sentence) == [sentence] for sentence in split(case.text)), case.text


def test_sentence_terminals_are_those_of_unicode() -> None:
    """The regex package carries Unicode's property, in its own version."""
    regex = pytest.importorskip("regex", reason="comes with transformers")
    everything = "".join(map(chr, range(0x110000)))
    theirs = [each.start() for each in regex.finditer(r"\p{Sentence_Terminal}", everything)]
    assert [each.start() for each in re.finditer(f"[{SENTENCE_TERMINAL}]", everything)] == theirs


def test_every_sentence_terminal_ends_a_sentence() -> None:
    """Between letters of a script without case, and a space behind it."""
    kept = [
        mark
        for mark in TERMINALS
        if split(f"\u05d0\u05d1\u05d2{mark} \u05d3\u05d4\u05d5") != [f"\u05d0\u05d1\u05d2{mark}", "\u05d3\u05d4\u05d5"]
    ]
    assert not kept


def test_a_sentence_begins_with_a_capital_of_any_script() -> None:
    """As in English, it does not begin with a small letter."""
    for point in range(0x30000):
        letter = chr(point)
        if unicodedata.category(letter) in ("Lu", "Lt"):
            assert split(f"abcd. {letter}efg.") == ["abcd.", f"{letter}efg."], letter
        elif unicodedata.category(letter) == "Ll" and not 0x10D0 <= point < 0x1100:
            assert split(f"abcd. {letter}efg.") == [f"abcd. {letter}efg."], letter


MARKS = [
    *"aA.!?\u2026 \n\"'()[]19-*,",
    *"\u3002\uff01\uff1f\uff1b\uff61\u201c\u201d\u2019\u300d\u300a\u300b\uff08\uff09\u2022\uff0c\u3001",
    *("\u8bf4", "\u9053", "\u4ed6", "I", "Mr.", "Dr", "e.g.", "U.S.", "The", "said", "John", "no."),
    *(
        "\u00e9",
        "\U0001f600",
        "\u00b2",
        "\u0939\u093f",
        "\u0964",
        "\uadf8",
        "\ub2e4.",
        "\u061f",
        "\u06d4",
        "\u03b1;",
        "z. B.",
        "3.",
        "\uff0e",
        "\u00bb",
    ),
]
"""Everything that the rules look at."""


def test_each_text_is_split_for_itself_in_order_and_whole() -> None:
    """Whatever the texts beside it are; white space alone is left out."""
    texts = [text.encode() for text in mixtures(MARKS, 5000, 0, 40)]
    whole = Ragged.of_bytes(texts)
    found = find_sentences(whole)
    for number, text in enumerate(texts):
        places = found.values[found.offsets[number] : found.offsets[number + 1]]
        sentences = as_text(whole.values, places)
        assert sentences == split(text.decode()), text
        assert all(sentences) and (np.diff(places.reshape(-1)) >= 0).all(), text
        assert "".join("".join(sentences).split()) == "".join(text.decode().split()), text


def test_no_character_is_lost() -> None:
    text = 'He said (softly): "Go!" And U.S. troops, 3.5 m away... Then? \u7ed3\u675f\u3002End'
    assert "".join("".join(split(text)).split()) == "".join(text.split())
