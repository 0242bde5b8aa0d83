"""Parts: long documents are cut, and nothing is lost of them."""

from collections import Counter

import pytest

from data_pipeline import parts
from data_pipeline.document import Document


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "LONGEST_CHARACTERS", 100)


def cut(text: str) -> tuple[list[Document], Counter[str]]:
    changed: Counter[str] = Counter()
    return list(parts.pieces(iter([Document("short", "a@0"), Document(text, "a@6")]), changed)), changed


@pytest.mark.parametrize("end", ["\n\n", "\n", ". ", "\u3002", " "])
def test_a_long_document_is_cut_where_something_ends(end: str) -> None:
    text = end.join("x" * 6 for _ in range(200))
    found, changed = cut(text)
    assert changed == {"cut because of their length": 1}
    assert found[0] == Document("short", "a@0")
    assert max(len(piece.text) for piece in found) <= 100
    words = [piece.text.replace(end.strip() or " ", " ").split() for piece in found[1:]]
    assert {word for each in words for word in each} == {"x" * 6}
    assert "".join(piece.text for piece in found[1:]).count("x") == text.count("x")
    for piece in found[2:]:
        start = int(piece.source.removeprefix("a@6, character "))
        assert text[start:].lstrip().startswith(piece.text)


def test_text_without_any_end_is_cut_too() -> None:
    found, _ = cut("x" * 1000)
    assert [len(piece.text) for piece in found[1:]] == [100] * 10


def test_a_document_of_the_longest_length_is_left_as_it_is() -> None:
    found, changed = cut("y" * 100)
    assert found[1] == Document("y" * 100, "a@6")
    assert not changed
