"""Normalizing and dropping documents."""

import random
import re
import unicodedata
from collections import Counter
from typing import Literal

import pytest

from sesame.configs import parse
from sesame.configs.errors import ConfigError, CorpusError
from sesame.data_pipeline.cleaning import language
from sesame.data_pipeline.cleaning.clean import clean, fingerprint, normalize
from sesame.data_pipeline.cleaning.config import CleanConfig
from sesame.data_pipeline.sources.document import Document
from tests.data_pipeline.given_texts import mixtures


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a  b\t c\u00a0d", "a b c d"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("one \n \n\n\ttwo", "one\n\ntwo"),
        ("\ufeffx\x00y\u200bz", "xyz"),
        ("e\u0301", "\u00e9"),
        *((f"one{space}two", "one two") for space in "\x0b\x0c\x1c\x1d\x1e\x1f\x85\u2028\u2029\u00a0\u202f\u3000"),
        ("one\ntwo\r\nthree\rfour\r\rfive", "one\ntwo\nthree\nfour\n\nfive"),
        (
            "\u0645\u06cc\u200c\u0631\u0648\u062f \u0915\u094d\u200d\u0937",
            "\u0645\u06cc\u200c\u0631\u0648\u062f \u0915\u094d\u200d\u0937",
        ),
    ],
)
def test_text_is_normalized(text: str, expected: str) -> None:
    assert normalize(text, "NFC").text == expected


def test_normalization_is_idempotent() -> None:
    once = normalize(" a \u00a0 b\x0c\n \n\n c\t\n", "NFKC").text
    assert normalize(once, "NFKC").text == once


CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f\u200b\u2060\ufeff]")


def is_letter(character: str) -> bool:
    return unicodedata.category(character)[0] in "LM"


def by_rules(text: str, form: Literal["NFC", "NFKC"]) -> str:
    """The same rules, applied one by one."""
    text = unicodedata.normalize(form, text).replace("\r\n", "\n").replace("\r", "\n")
    text = re.sub(r"[^\S\n]+", " ", CONTROL.sub("", text)).replace(" \n", "\n")
    return re.sub(r"\n\s*\n\s*", "\n\n", text).strip()


@pytest.mark.parametrize("form", ["NFC", "NFKC"])
def test_normalization_is_equal_to_the_rules_applied_one_by_one(form: Literal["NFC", "NFKC"]) -> None:
    draw = random.Random(0)
    letters = [*" \n\r\t\x00\x0b\x0c\x1c\x7f\x85\u00a0\u200b\u2003\u2028\u2060\u3000\ufeff", "\r\n", "\n\n", " \n"]
    letters += [*"\x0b\x1d\x1e\x1f\u2029\u200d\u0915\u093f\u094d\u0e33"]
    letters += [*"ab1-.\u00e9\u0301\u4e2d\u0435\ud7a4", "\U0001f600", "\U00020000"]
    for text in mixtures(letters, 20000, 0, 20):
        if draw.random() < 0.5:
            # Long enough for the loops over several bytes at once.
            words = draw.choices(["word", "of", "many-letters,", "1", " ", "\n", "\n\n"], k=draw.randint(10, 60))
            text += draw.choice(["", " "]).join(words) + text
        cleaned = normalize(text, form)
        assert cleaned.text == by_rules(text, form), repr(text)
        assert cleaned.letters == sum(map(is_letter, cleaned.text)), repr(text)
        assert cleaned.visible == len("".join(cleaned.text.split())), repr(text)


def test_each_dropped_document_is_counted_under_its_reason() -> None:
    documents = [Document("words " * 30, "a"), Document("tiny", "b"), Document("12 = 3 + 9; " * 30, "c")]
    dropped: Counter[str] = Counter()
    assert [kept.source for kept in clean(documents, CleanConfig(), dropped)] == ["a"]
    assert dropped == {"short": 1, "not prose": 1}


def test_letters_of_every_script_are_prose() -> None:
    dropped: Counter[str] = Counter()
    words = [
        "\u4eca\u5929\u5929\u6c14\u5f88\u597d\u3002",
        "\u041f\u0440\u0438\u0432\u0435\u0442 ",
        "\u0939\u093f\u0928\u094d\u0926\u0940 ",
        "\u0e01\u0e33\u0e25\u0e31\u0e07\u0e17\u0e35\u0e48 ",
        "\u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd ",
        "\u1019\u103c\u1014\u103a\u1019\u102c ",
        "\u1797\u17b6\u179f\u17b6\u1781\u17d2\u1798\u17c2\u179a ",
    ]
    kept = list(clean([Document(word * 60, word) for word in words], CleanConfig(), dropped))
    assert len(kept) == len(words), dropped


@pytest.mark.parametrize(
    "text", ["plain words", "a 1 + 2\n= 3!", "\u4eca\u5929\uff0c caf\u00e9 \u2014 \u041f\u0440", "", "\n "]
)
def test_letters_are_counted_in_every_script(text: str) -> None:
    cleaned = normalize(text, "NFC")
    visible = len(cleaned.text) - cleaned.text.count(" ") - cleaned.text.count("\n")
    assert cleaned.visible == visible
    assert cleaned.letter_share == sum(map(is_letter, cleaned.text)) / max(1, visible)


def test_only_equal_texts_share_a_fingerprint() -> None:
    assert fingerprint("a") == fingerprint("a") != fingerprint("b")


def test_an_unknown_normal_form_is_an_error() -> None:
    with pytest.raises(ConfigError, match="unicode_form"):
        parse({"unicode_form": "NFX"}, CleanConfig, "a.toml")


def test_mojibake_is_repaired_and_counted() -> None:
    wrong = "caf\u00c3\u00a9 words " * 30
    documents = [Document(wrong, "a"), Document("caf\u00e9 words " * 30, "b"), Document("caf\u00c3\u00a9", "short")]
    dropped: Counter[str] = Counter()
    changed: Counter[str] = Counter()
    found = list(clean(documents, CleanConfig(repair_unicode=True), dropped, changed=changed))
    assert [document.text for document in found] == [("caf\u00e9 words " * 30).strip()] * 2
    assert (changed, dropped) == ({"repaired": 1}, {"short": 1})
    assert next(iter(clean(documents, CleanConfig(), dropped))).text == wrong.strip()


def test_other_languages_are_dropped_and_counted() -> None:
    pytest.importorskip("py3langid", reason="needs the extra: pip install 'sesame[language]'")
    texts = {
        "en": "It was a bright cold day in April, and all the people went out to see the river. ",
        "zh": "\u4eca\u5929\u5929\u6c14\u5f88\u597d\uff0c\u6211\u4eec\u53bb\u516c\u56ed\u6563\u6b65\u3002",
        "de": "Es war ein heller, kalter Tag, und alle Leute gingen hinaus, um den Fluss zu sehen. ",
    }
    dropped: Counter[str] = Counter()
    documents = [Document(text * 10, name) for name, text in texts.items()]
    assert [kept.source for kept in clean(documents, CleanConfig(languages=("en", "zh")), dropped)] == ["en", "zh"]
    assert dropped == {"language: de": 1}


def test_a_missing_package_for_languages_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language, "find_spec", lambda name: None)
    with pytest.raises(CorpusError, match=r"pip install 'sesame\[language\]'"):
        language.check(("en",))


@pytest.mark.parametrize(
    ("code", "near"),
    [
        ("jp", "ja"),
        ("cn", "zh"),
        ("kr", "ko"),
        ("EN", "en"),
        ("german", "de"),
        ("eng", "en"),
        ("zh-CN", "zh"),
        ("qq", ""),
    ],
)
def test_an_unknown_language_code_is_reported_with_similar_codes(code: str, near: str) -> None:
    pytest.importorskip("py3langid", reason="needs the extra: pip install 'sesame[language]'")
    with pytest.raises(
        ConfigError, match=rf"^clean.languages: .* no language with the code '{code}' .* similar codes: {near}"
    ):
        language.check(("en", code))


def test_known_language_codes_are_accepted() -> None:
    pytest.importorskip("py3langid", reason="needs the extra: pip install 'sesame[language]'")
    language.check(("en", "ja", "zh"))


def test_dropping_repeated_lines_and_paragraphs_is_an_error() -> None:
    with pytest.raises(ConfigError, match="drop_repeated_lines or drop_repeated_paragraphs, not both"):
        parse({"drop_repeated_lines": 20, "drop_repeated_paragraphs": True}, CleanConfig, "a.toml")
