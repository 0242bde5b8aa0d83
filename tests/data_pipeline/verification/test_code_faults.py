"""``sesame verify`` detects faults that are introduced into the code that makes datasets."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sesame.data_pipeline.cleaning import parts, pieces, repetition
from sesame.data_pipeline.cleaning.clean import fingerprint
from sesame.data_pipeline.examples.corrupt import Vocabulary
from sesame.data_pipeline.sources.document import Document
from sesame.data_pipeline.verification.verify import verify
from tests.data_pipeline.given_prose import prepared, prose
from tests.data_pipeline.verification.changed_datasets import LONG, TEXTS, Write, assert_refused

pytestmark = pytest.mark.usefixtures("in_process")


def counted_pieces(named: bool) -> Callable[[Document, pieces.Features], Iterator[pieces.Piece]]:
    """Long documents become several documents."""
    whole = pieces.split_document

    def split(document: Document, features: pieces.Features) -> Iterator[pieces.Piece]:
        start = 0
        for piece in whole(document, features):
            name = f"{document.source}, character {start}" if named and start else document.source
            yield piece._replace(source=name, begins=True, fingerprint=fingerprint(piece.text))
            start += len(piece.text)

    return split


@pytest.mark.parametrize(
    ("named", "sentence"),
    [
        (True, r"\d+ documents are pieces of \d, but counted as documents"),
        (False, r"corpus.jsonl@\d+ is both held out and trained on|a random second segment from the same document"),
    ],
)
def test_pieces_counted_as_documents(
    json_lines: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool, sentence: str
) -> None:
    path = json_lines(LONG)
    assert verify(prepared(path, tmp_path / "sound").path)
    monkeypatch.setattr(parts, "split_document", counted_pieces(named))
    assert_refused(prepared(path, tmp_path / "made"), sentence)


def test_random_segments_from_the_same_document(
    json_lines: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one split, under two numbers."""
    monkeypatch.setattr(parts, "split_document", counted_pieces(False))
    path = json_lines([*TEXTS, LONG[0]])
    made = prepared(path, tmp_path / "made", shards={"validation_fraction": 1e-9}, clean={"drop_duplicates": False})
    assert_refused(made, r"row \d+ has a random second segment from the same document")


def test_dropped_characters_that_are_counted_as_kept(
    json_lines: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    licence = prose(1500, 99)
    path = json_lines([f"{text}\n\n{licence}" for text in TEXTS])
    sections: dict[str, Any] = {"clean": {"drop_repeated_paragraphs": True}}
    assert verify(prepared(path, tmp_path / "sound", "full_sentences", **sections).path)

    def all_of_them(self: repetition.Paragraphs, staying: np.ndarray) -> np.ndarray:
        return np.bincount(self.pieces, self.sizes, minlength=len(self.documents)).astype(np.int64)

    monkeypatch.setattr(repetition.Paragraphs, "characters", all_of_them)
    made = prepared(path, tmp_path / "made", "full_sentences", **sections)
    assert_refused(made, r"\d\d.\d% of the text of the train documents is in no row; .* characters_kept")


@pytest.mark.parametrize("kind", ["masked_words", "masked_ngrams"])
@pytest.mark.parametrize("begins", [False, True])
def test_words_other_than_those_of_the_tokenizer(
    json_lines: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, begins: bool
) -> None:
    """No piece begins a word, as with an unknown word mark; or each piece does, as without one."""
    path = json_lines(TEXTS)
    assert verify(prepared(path, tmp_path / "sound", "full_sentences", corrupt={"kind": kind}).path)
    known = Vocabulary.of

    def other(tokenizer: Any) -> Vocabulary:
        found = known(tokenizer)
        return found._replace(starts_word=np.full_like(found.starts_word, begins))

    monkeypatch.setattr(Vocabulary, "of", other)
    made = prepared(path, tmp_path / "made", "full_sentences", corrupt={"kind": kind})
    assert_refused(made, r"row \d+ masks a part of a word")


def test_words_joined_by_cleaning(json_lines: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation documents have the joined words too, but the source file does not."""
    known = parts.clean

    def joined(*arguments: Any) -> Iterator[Document]:
        for document in known(*arguments):
            yield document._replace(text=document.text.replace("\n", ""))

    monkeypatch.setattr(parts, "clean", joined)
    path = json_lines(prose(900, seed, end="\n") for seed in range(40))
    made = prepared(path, tmp_path / "made", "full_sentences", corrupt={"kind": "nothing"})
    assert_refused(made, r"train-00000.arrow: row \d+ has white space where")
