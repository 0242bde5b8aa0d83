"""Parts: long documents are split without loss."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from sesame.data_pipeline.cleaning import parts, pieces
from sesame.data_pipeline.cleaning.clean import fingerprint
from sesame.data_pipeline.cleaning.near_duplicates import bands
from sesame.data_pipeline.sources.document import Document


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "LONGEST_CHARACTERS", 100)


def split(text: str, features: pieces.Features = pieces.Features()) -> list[pieces.Piece]:
    return list(pieces.split_document(Document(text, "a@6"), features))


@pytest.mark.parametrize("end", ["\n\n", "\n", ". ", "\u3002", " "])
def test_a_long_document_is_split_at_a_separator(end: str) -> None:
    text = end.join("x" * 6 for _ in range(200))
    found = split(text)
    assert "".join(piece.text for piece in found) == text
    assert len(found) > 8 and max(len(piece.text.strip()) for piece in found) <= 100
    assert all(piece.text.endswith(end) and not piece.text[0].isspace() for piece in found[:-1])


def test_pieces_have_the_features_of_the_whole_document() -> None:
    text = " ".join(f"word{number}" for number in range(300))
    found = split(text, pieces.Features(bands=True))
    assert [piece.begins for piece in found] == [True] + [False] * (len(found) - 1)
    assert {piece.source for piece in found} == {"a@6"}
    assert {piece.fingerprint for piece in found} == {fingerprint(text)}
    assert {piece.bands.tobytes() for piece in found} == {bands(text).tobytes()}


def test_text_without_separators_is_split() -> None:
    assert [len(piece.text) for piece in split("x" * 1000)] == [100] * 10


def test_a_document_of_the_longest_length_is_one_piece() -> None:
    assert [piece.text for piece in split("y" * 100)] == ["y" * 100]


def test_a_document_that_is_split_is_counted_once_and_read_whole(tmp_path: Path) -> None:
    texts = ["short", " ".join(["long"] * 100), "last"]
    changed: Counter[str] = Counter()
    documents = [Document(text, f"a@{number}") for number, text in enumerate(texts)]
    written = parts.write_parts(documents, "unit", tmp_path / "part", pieces.Features(), changed)
    assert changed == {"cut because of their length": 1}
    assert sum(part.documents for part in written) == 3 and sum(part.pieces for part in written) > 5
    keeps = [np.ones(part.pieces, bool) for part in written]
    assert list(parts.whole_documents(written, keeps, [None] * len(written))) == documents


@pytest.mark.parametrize("end", ["\n\n", "\n"])
def test_a_paragraph_in_two_pieces_has_one_hash_and_all_its_characters(end: str) -> None:
    paragraphs = ["first", "b" * 150, "third", "b" * 20]
    text = end.join(paragraphs)
    features = pieces.Features(paragraphs=True) if end == "\n\n" else pieces.Features(lines=3)
    found = split(text, features)
    hashes = np.concatenate([piece.paragraphs for piece in found])
    sizes = np.concatenate([piece.paragraph_characters for piece in found])
    assert (hashes == pieces.CONTINUES).tolist() == [False, False, True, False, False]
    assert sizes.sum() == len(text)
    assert sizes[1] + sizes[2] == 150 + len(end)
