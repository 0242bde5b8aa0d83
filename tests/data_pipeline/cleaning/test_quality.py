"""Each rule drops its kind of text, and ordinary prose breaks none."""

import random

import pytest

from sesame.data_pipeline.cleaning.clean import clean
from sesame.data_pipeline.cleaning.config import CleanConfig
from sesame.data_pipeline.cleaning.quality import QUALITY, REPETITION, Page, broken_rule
from sesame.data_pipeline.sources.document import Document

PROSE = (
    "It was late when the two men came to the house by the river, and nobody had lit a lamp that they could see. The "
    "older one knocked with his stick, waited, and knocked again. After a while a window opened above them, and a "
    "voice asked what they wanted to have at such an hour. He answered that their boat had gone down with everything "
    "they owned, which was not quite true, and that they would be glad of a dry place to sleep until the morning."
)


def words(count: int, seed: int = 0) -> str:
    draw = random.Random(seed)
    return " ".join("".join(draw.choices("abcdefghij", k=draw.randint(3, 8))) for _ in range(count))


def test_prose_breaks_no_rule() -> None:
    assert broken_rule(PROSE, (*QUALITY, *REPETITION)) is None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("\n".join([PROSE, *["read more"] * 5]), "repeated lines"),
        (
            "\n\n".join([*("\n".join(words(9, 10 * n + m) for m in range(10)) for n in range(4)), *["the end"] * 4]),
            "repeated paragraphs",
        ),
        ("\n".join([words(40, 1), words(40, 2), words(40, 3), words(40, 1)]), "characters in repeated lines"),
        (words(30) + " a thing" * 20 + " " + words(30, 1), "most common 2 words"),
        (f"{words(200)} {words(14, 7)} {words(14, 7)} {words(14, 7)} {words(14, 7)}", "repeated runs of 5 words"),
    ],
)
def test_repetition_is_reported(text: str, name: str) -> None:
    assert broken_rule(text, REPETITION) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("the cat and the dog", "number of words"),
        (PROSE.replace(" ", " a b c d e f "), "mean word length"),
        (
            " ".join(f"#{word}" if n % 5 == 0 else word for n, word in enumerate(PROSE.split())),
            "hash signs for each word",
        ),
        (PROSE.replace(",", "...").replace(".", "..."), "ellipses for each word"),
        ("\n".join(f"- {line}" for line in PROSE.split(", ")), "lines that begin with a bullet"),
        ("\n".join(f"{line} \u2026" for line in PROSE.split(".")), "lines that end with an ellipsis"),
        (" ".join(f"{word} 1234" for word in PROSE.split()), "words with a letter"),
        (words(100), "common English words"),
    ],
)
def test_text_other_than_prose_is_reported(text: str, name: str) -> None:
    assert broken_rule(text, QUALITY) == name


def test_shares_are_as_defined_in_the_paper() -> None:
    page = Page.of("aa bb aa bb cc")
    by_name = {rule.name: rule.measure for rule in REPETITION}
    assert by_name["most common 2 words"](page) == pytest.approx(8 / 10)
    again = Page.of("a b c d e x a b c d e y")
    assert by_name["repeated runs of 5 words"](again) == pytest.approx(5 / 12)
    assert by_name["repeated lines"](Page.of("a\nb\na\na")) == pytest.approx(0.5)


def test_rules_are_configured_by_name_and_counted(tmp_path) -> None:
    from collections import Counter

    from sesame.configs import parse

    rules = parse({"rules": ["gopher_quality", "gopher_repetition"]}, CleanConfig, "a.toml")
    dropped: Counter[str] = Counter()
    texts = [PROSE, "\n".join([PROSE, *["read more"] * 5]), words(100)]
    assert [d.text for d in clean([Document(text, "x") for text in texts], rules, dropped)] == [PROSE]
    assert dropped == {"gopher: repeated lines": 1, "gopher: common English words": 1}
