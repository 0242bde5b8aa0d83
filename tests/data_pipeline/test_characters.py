"""Letters, marks and words of every script."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.characters import cleaning_kinds, is_letter, words
from data_pipeline.cleaning.near_duplicates import bands
from data_pipeline.cleaning.overlap import Overlap
from data_pipeline.compiled import whitespace

HINDI = "हिन्दी भारत की राजभाषा है और इसे देवनागरी लिपि में लिखा जाता है"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("Don't stop_now, 3rd!", ["Don", "t", "stop_now", "3rd"]),
        ("हिन्दी में, लिखा।", ["हिन्दी", "में", "लिखा"]),
        ("می‌رود خانه", ["می‌رود", "خانه"]),
        ("שָׁלוֹם עולם", ["שָׁלוֹם", "עולם"]),
        ("e\u0301te\u0301 tard", ["e\u0301te\u0301", "tard"]),
        ("한국어 문장.", ["한국어", "문장"]),
        ("今天很好", ["今", "天", "很", "好"]),
        ("ที่นี่", ["ที่", "นี่"]),
        ("ខ្មែរ", ["ខ្", "មែ", "រ"]),
        ("カナ仮名 abc", ["カ", "ナ", "仮", "名", "abc"]),
    ],
)
def test_words_keep_their_marks(given: str, expected: list[str]) -> None:
    assert words(given) == expected


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


def test_overlap_and_near_duplicates_tell_vowel_signs_apart(tmp_path: Path) -> None:
    (tmp_path / "dev.txt").write_text(HINDI, encoding="utf-8")
    known = Overlap.of((str(tmp_path / "dev.txt"),), str)
    other = HINDI.replace("ी", "े").replace("ि", "ु")
    assert known.meets(f"पहले। {HINDI}।") and not known.meets(f"पहले। {other}।")
    assert (bands(HINDI) != bands(other)).any()
