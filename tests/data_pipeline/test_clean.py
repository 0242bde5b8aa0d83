"""Normalising and dropping documents."""

from collections import Counter

import pytest

from configs import parse
from configs.errors import ConfigError
from data_pipeline.clean import CleanConfig, clean, fingerprint, letter_share, normalise
from data_pipeline.document import Document


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a  b\t c\u00a0d", "a b c d"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("one \n \n\n\ttwo", "one\n\ntwo"),
        ("\ufeffx\x00y\u200bz", "xyz"),
        ("e\u0301", "\u00e9"),
    ],
)
def test_it_normalises(text: str, expected: str) -> None:
    assert normalise(text, "NFC") == expected


def test_normalising_twice_changes_nothing() -> None:
    once = normalise(" a \u00a0 b\x0c\n \n\n c\t\n", "NFKC")
    assert normalise(once, "NFKC") == once


def test_each_dropped_document_is_counted_under_its_reason() -> None:
    documents = [Document("words " * 30, "a"), Document("tiny", "b"), Document("12 = 3 + 9; " * 30, "c")]
    dropped: Counter[str] = Counter()
    assert [kept.source for kept in clean(documents, CleanConfig(), dropped)] == ["a"]
    assert dropped == {"short": 1, "not prose": 1}


def test_letters_of_every_script_are_prose() -> None:
    dropped: Counter[str] = Counter()
    text = "\u4eca\u5929\u5929\u6c14\u5f88\u597d\u3002" * 30 + "\u041f\u0440\u0438\u0432\u0435\u0442 " * 10
    assert list(clean([Document(text, "a")], CleanConfig(), dropped))


@pytest.mark.parametrize(
    "text", ["plain words", "a 1 + 2\n= 3!", "\u4eca\u5929\uff0c caf\u00e9 \u2014 \u041f\u0440", "", "\n "]
)
def test_letters_are_counted_in_every_script(text: str) -> None:
    visible = len(text) - text.count(" ") - text.count("\n")
    assert letter_share(text) == sum(map(str.isalpha, text)) / max(1, visible)


def test_only_equal_texts_share_a_fingerprint() -> None:
    assert fingerprint("a") == fingerprint("a") != fingerprint("b")


def test_an_unknown_normal_form_is_refused() -> None:
    with pytest.raises(ConfigError, match="unicode_form"):
        parse({"unicode_form": "NFX"}, CleanConfig, "a.toml")
