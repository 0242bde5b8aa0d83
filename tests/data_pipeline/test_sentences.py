"""Sentence splitting."""

from pathlib import Path

import numpy as np
import pytest

from data_pipeline.columns import Ragged
from data_pipeline.sentences import as_text, find_sentences, split
from tests.data_pipeline.given_texts import mixtures

HARD = [
    line.replace("\u23ce", "\n")
    for line in Path(__file__).with_name("sentences_hard_cases.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]


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


@pytest.mark.parametrize("case", HARD)
def test_hard_cases_are_right(case: str) -> None:
    expected = [" ".join(sentence.split()) for sentence in case.split("|")]
    assert split(case.replace("|", "")) == expected


def test_sentences_split_again_stay_whole() -> None:
    for case in HARD:
        assert all(split(sentence) == [sentence] for sentence in split(case.replace("|", "")))


MARKS = [
    *"aA.!?\u2026 \n\"'()[]19-*,",
    *"\u3002\uff01\uff1f\uff1b\uff61\u201c\u201d\u2019\u300d\u300a\u300b\uff08\uff09\u2022\uff0c\u3001",
    *("\u8bf4", "\u9053", "\u4ed6", "I", "Mr.", "Dr", "e.g.", "U.S.", "The", "said", "John", "no."),
    *("\u00e9", "\U0001f600", "\u00b2"),
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
