"""Tables of character properties, compared with ``unicodedata`` and with regular expressions."""

import re
import unicodedata

import numpy as np
import pytest

from sesame.data_pipeline.characters import CATEGORIES, SENTENCE_TERMINAL, cleaning_kinds, is_letter, splitting_kinds
from sesame.data_pipeline.compiled import splitting, whitespace


def test_letters_are_those_of_unicode_and_its_marks() -> None:
    table = cleaning_kinds()
    for point in range(0, len(table), 7):
        expected = unicodedata.category(chr(point))[0] in "LM"
        assert bool(table[point] & whitespace.LETTER) == expected == is_letter(chr(point)), hex(point)


def test_white_space_is_what_splits_words() -> None:
    """But for newlines, which end lines."""
    table = cleaning_kinds()
    white = [point for point in range(len(table)) if chr(point).isspace() and chr(point) not in "\n"]
    assert np.flatnonzero(table & whitespace.WHITE).tolist() == white
    assert not set(np.flatnonzero(table & whitespace.REMOVED).tolist()) & set(white)


def test_every_general_category_is_known() -> None:
    assert {unicodedata.category(chr(point)) for point in range(0x110000)} <= {*CATEGORIES}


@pytest.mark.parametrize(
    ("bit", "categories"),
    [
        (splitting.LETTER, "L M"),
        (splitting.OF_WORD, "L M N Pc"),
        (splitting.DIGIT, "Nd No"),
        (splitting.DECIMAL, "Nd"),
        (splitting.UPPER, "Lu Lt"),
    ],
)
def test_bits_are_those_of_the_general_category(bit: int, categories: str) -> None:
    table = splitting_kinds()
    for point in range(0, len(table), 5):
        expected = unicodedata.category(chr(point)).startswith(tuple(categories.split()))
        assert bool(table[point] & bit) == expected, hex(point)


def test_ranges_are_read_as_in_a_regular_expression() -> None:
    table = splitting_kinds()
    every = "".join(map(chr, range(len(table))))
    terminals = splitting.LATIN_MARK | splitting.EASTERN_MARK | splitting.OTHER_MARK
    expected = re.finditer(f"[{SENTENCE_TERMINAL}\u0f0d-\u0f11\u2026\uff1b]", every)
    assert np.flatnonzero(table & terminals).tolist() == [match.start() for match in expected]
    assert [chr(point) for point in np.flatnonzero(table & splitting.BULLET)] == ["*", "-", "\u00b7", "\u2022"]
