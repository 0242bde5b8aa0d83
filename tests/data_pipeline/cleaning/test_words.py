"""Words of every script."""

from pathlib import Path

import pytest

from sesame.data_pipeline.cleaning.near_duplicates import bands
from sesame.data_pipeline.cleaning.overlap import Overlap
from sesame.data_pipeline.cleaning.words import words

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


def test_overlap_and_near_duplicates_distinguish_vowel_signs(tmp_path: Path) -> None:
    (tmp_path / "dev.txt").write_text(HINDI, encoding="utf-8")
    known = Overlap.of((str(tmp_path / "dev.txt"),), str)
    other = HINDI.replace("ी", "े").replace("ि", "ु")
    assert known.is_in(f"पहले। {HINDI}।") and not known.is_in(f"पहले। {other}।")
    assert (bands(HINDI) != bands(other)).any()
