"""Selection over the whole corpus: duplicates, limits, validation documents."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from sesame.data_pipeline.cleaning.parts import Part, Reading, whole_documents, write_parts
from sesame.data_pipeline.cleaning.pieces import Features
from sesame.data_pipeline.cleaning.selection import Choice, Origin, Outcome, choose, counts
from sesame.data_pipeline.sources.document import Document


@pytest.fixture
def parts(tmp_path: Path):
    def write(*texts: list[str]) -> list[Part]:
        found = []
        for number, part in enumerate(texts):
            documents = (Document(text, f"{number}:{line}") for line, text in enumerate(part))
            found += write_parts(documents, "unit", tmp_path / f"part-{number}", Features(paragraphs=True, bands=True))
        return found

    return write


def chosen(
    parts: list[Part],
    fraction: float = 0.0,
    limit: float = float("inf"),
    paragraphs: bool = False,
    near: bool = False,
    weight: float = 1.0,
) -> list[Choice]:
    return choose(
        parts,
        [Origin(limit=limit, weight=weight)] * len(parts),
        drop_duplicates=True,
        drop_near_duplicates=near,
        drop_paragraphs=paragraphs,
        validation_fraction=fraction,
    )


def outcomes(choices: list[Choice]) -> list[int]:
    return [int(outcome) for choice in choices for outcome in choice.outcomes]


def test_the_first_of_equal_texts_stays(parts) -> None:
    assert outcomes(chosen(parts(["a", "b"], ["b"]))) == [Outcome.TRAIN, Outcome.TRAIN, Outcome.DUPLICATE]


def test_no_documents_give_no_choices() -> None:
    assert chosen([], paragraphs=True) == []


def test_documents_beyond_the_limit_are_dropped(parts) -> None:
    found = outcomes(chosen(parts(["aaa", "bbb"], ["ccc"]), limit=4))
    assert found == [
        Outcome.TRAIN,
        Outcome.TRAIN,
        Outcome.BEYOND_LIMIT,
    ]


def test_validation_does_not_depend_on_other_documents(parts) -> None:
    texts = [f"document {number}" for number in range(400)]
    whole = dict(zip(texts, outcomes(chosen(parts(texts), 0.1)), strict=True))
    assert 20 < sum(outcome == Outcome.VALIDATION for outcome in whole.values()) < 65
    half = texts[::2][::-1]
    assert outcomes(chosen(parts(half), 0.1)) == [whole[text] for text in half]


def test_a_small_corpus_has_two_validation_documents(parts) -> None:
    assert outcomes(chosen(parts(["a", "b"], ["c", "d", "e"]), 1e-9)).count(Outcome.VALIDATION) == 2


def test_the_first_of_equal_paragraphs_stays(parts) -> None:
    written = parts(["licence\n\none", "two\n\nlicence"], ["licence", "licence\n\none", "three\n\ntwo"])
    choices = chosen(written, paragraphs=True)
    kept = np.concatenate([choice.stays for choice in choices])
    assert kept.tolist() == [True, True, False, False, True], "one has no text left, another is a duplicate"
    left = [choice.stays for choice in choices], [choice.paragraphs for choice in choices]
    texts = [document.text for document in whole_documents(written, *left)]
    assert texts == ["licence\n\none", "two", "three"]
    characters = np.concatenate([choice.characters for choice in choices])
    assert characters[kept].tolist() == [len(text) for text in texts]


def test_the_first_of_near_duplicates_stays(parts) -> None:
    words = [f"word{number}" for number in range(300)]
    changed = [*words[:100], "other", *words[101:]]
    again = [*changed[:200], "another", *changed[201:]]
    half = [*words[:150], *(f"else{number}" for number in range(150))]
    texts = [" ".join(each) for each in (words, changed, half, again)]
    found = chosen(parts(texts[:2], texts[2:]), near=True)
    assert outcomes(found) == [Outcome.TRAIN, Outcome.NEAR_DUPLICATE, Outcome.TRAIN, Outcome.NEAR_DUPLICATE]
    assert min(outcomes(chosen(parts(texts)))) >= Outcome.TRAIN


def test_a_weight_sets_how_many_times_train_documents_are_used(parts) -> None:
    written = parts([f"document {number}" for number in range(2000)])
    (whole,) = chosen(written, 0.1)
    assert whole.times is None
    for weight in (2.5, 0.3, 3.0):
        (choice,) = chosen(written, 0.1, weight=weight)
        assert choice.times is not None
        train = choice.keep(Outcome.TRAIN)
        assert choice.times[train].sum() == pytest.approx(weight * whole.keep(Outcome.TRAIN).sum(), rel=0.1)
        assert set(choice.times[train]) == {int(weight) or 1, -int(-weight // 1)}
        assert (choice.keep(Outcome.VALIDATION) == whole.keep(Outcome.VALIDATION)).all(), (
            "the validation documents are the same"
        )
        assert (choice.keep(Outcome.BEYOND_WEIGHT) == (whole.keep(Outcome.TRAIN) & (choice.times == 0))).all()


def test_each_source_has_its_own_limit(parts) -> None:
    written = parts(["aaa", "bbb"], ["ccc", "ddd"])
    choices = choose(
        written,
        [Origin(0, limit=2), Origin(1)],
        drop_duplicates=True,
        drop_near_duplicates=False,
        drop_paragraphs=False,
        validation_fraction=0.0,
    )
    codes = outcomes(choices)
    assert codes[1] == Outcome.BEYOND_LIMIT and codes.count(Outcome.BEYOND_LIMIT) == 1


def test_the_first_of_equal_lines_stays_and_short_ones_always(tmp_path: Path) -> None:
    texts = ["a long footer\none\n--", "two\n--\n\na long footer\n\nthree", "a long footer"]
    documents = (Document(text, "a") for text in texts)
    written = write_parts(documents, "unit", tmp_path / "part", Features(lines=8))
    choices = chosen(written, paragraphs=True)
    found = [document.text for document in whole_documents(written, [choices[0].stays], [choices[0].paragraphs])]
    assert found == ["a long footer\none\n--", "two\n--\n\nthree"]
    table = counts([Reading(written, 3, Counter(), Counter(repaired=1))], choices)
    assert choices[0].characters[:2].tolist() == [len(text) for text in found]
    assert table == {
        "read": 3,
        "kept for training": 2,
        "held out": 0,
        "dropped: all of it repeated": 1,
        "repaired": 1,
        "repeated pieces left out": 1,
    }
