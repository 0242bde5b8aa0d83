"""A document counts as one document in every step, however it is split into pieces."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sesame.data_pipeline.cleaning import parts, pieces
from sesame.data_pipeline.dataset.provenance import places
from sesame.data_pipeline.dataset.shards import Dataset
from sesame.data_pipeline.examples import balance
from sesame.data_pipeline.verification.reference_tokenizer import ReferenceTokenizer
from sesame.data_pipeline.verification.row_texts import original_rows
from sesame.data_pipeline.verification.verify import verify
from tests.data_pipeline.given_prose import prepared, prose

pytestmark = pytest.mark.usefixtures("in_process")

Write = Callable[..., Path]
LONG = [prose(40_000, seed) for seed in range(4)]
"""Documents of fourteen pieces each."""


def train_rows(dataset: Dataset) -> Any:
    split = dataset.split("train")
    return split.take(np.arange(split.rows))


def test_long_documents_are_counted_once(json_lines: Write, tmp_path: Path) -> None:
    dataset = prepared(json_lines(LONG), tmp_path / "made")
    counts = dataset.manifest.documents
    assert counts == {"read": 4, "kept for training": 2, "held out": 2, "cut because of their length": 4}
    (source,) = dataset.manifest.sources
    assert (source["documents_kept"], source["characters_kept"]) == (4, sum(map(len, LONG)))
    held_out = [json.loads(line) for line in dataset.documents_path.read_text("utf-8").splitlines()]
    named = [*places(dataset, "train", range(2)), *(each["source"] for each in held_out)]
    assert len(set(named)) == 4 and not any("character" in place for place in named)
    assert {each["text"] for each in held_out} < set(LONG)
    assert verify(dataset.path)


def test_random_segments_are_from_another_document_even_if_one_document_fills_a_group(
    json_lines: Write, tmp_path: Path
) -> None:
    path = json_lines(LONG)
    dataset = prepared(path, tmp_path / "made")
    columns = train_rows(dataset)
    labels, document, second = (columns[name] for name in ("pair_labels", "document", "second_document"))
    assert 0.4 < labels.mean() < 0.65 and set(document) == {0, 1}
    assert ((document != second) == labels).all()
    tokenizer = ReferenceTokenizer.load(dataset.tokenizer_path, dataset.manifest.tokenizer.special)
    lines = path.read_bytes().splitlines(keepends=True)
    starts = {sum(map(len, lines[:number])): text for number, text in enumerate(LONG)}
    texts = [starts[int(place.rpartition("@")[2])].lower() for place in places(dataset, "train", range(2))]
    for row in original_rows(columns, np.arange(len(labels)), 0, np.zeros(0)):
        for ids, number in ((row.first, row.document), (row.second, row.second_document)):
            assert tokenizer.text(ids)[0].strip() in texts[number]


def test_the_pieces_of_a_document_are_dropped_together(json_lines: Write, tmp_path: Path) -> None:
    again = LONG[0].replace(". ", "! ", 1)
    path = json_lines([*LONG, LONG[1], again])
    dataset = prepared(path, tmp_path / "made", clean={"drop_near_duplicates": True})
    counts = dataset.manifest.documents
    assert counts["read"] == 6
    assert (counts["dropped: duplicate"], counts["dropped: near duplicate"]) == (1, 1)
    assert verify(dataset.path)


def test_a_limit_takes_whole_documents(json_lines: Write, tmp_path: Path) -> None:
    path = json_lines([*LONG, prose(40_000, 9)])
    source = {"kind": "json_lines", "paths": [str(path)], "limit_megabytes": 0.13}
    dataset = prepared(path, tmp_path / "made", source=source)
    assert dataset.manifest.documents["dropped: beyond the limit"] == 1
    assert dataset.manifest.sources[0]["characters_kept"] == sum(map(len, LONG))


def test_a_weight_repeats_whole_documents_but_does_not_pair_them_with_themselves(
    json_lines: Write, tmp_path: Path
) -> None:
    path = json_lines([*LONG, *(prose(900, seed) for seed in range(20, 40))])
    source = {"kind": "json_lines", "paths": [str(path)], "weight": 2.5}
    dataset = prepared(path, tmp_path / "made", source=source)
    columns = train_rows(dataset)
    assert ((columns["document"] != columns["second_document"]) == columns["pair_labels"]).all()
    assert dataset.manifest.documents["read"] == 24
    assert verify(dataset.path)


def test_random_pairs_are_not_of_copies_of_a_text(json_lines: Write, tmp_path: Path) -> None:
    """If duplicates are kept, another document may have the same text."""
    texts = [prose(900, seed) for seed in range(20)]
    path = json_lines([text for text in texts for _ in range(3)])
    dataset = prepared(path, tmp_path / "made", clean={"drop_duplicates": False})
    columns = train_rows(dataset)
    held_out = [json.loads(line)["text"] for line in dataset.documents_path.read_text("utf-8").splitlines()]
    assert all(held_out.count(text) == 3 for text in held_out), "copies are in the same split"
    lines = path.read_bytes().splitlines(keepends=True)
    offsets = np.cumsum([0, *map(len, lines)])
    names = places(dataset, "train", range(dataset.manifest.documents["kept for training"]))
    copy = np.array([np.searchsorted(offsets, int(name.rpartition("@")[2])) // 3 for name in names])
    random_pairs = columns["pair_labels"] == 1
    assert random_pairs.sum() > 50
    assert (copy[columns["document"]] != copy[columns["second_document"]])[random_pairs].all()


def test_repeated_paragraphs_in_two_pieces_are_dropped_whole(json_lines: Write, tmp_path: Path) -> None:
    boilerplate = prose(4000, 50)
    texts = [f"{prose(1500, seed)}\n\n{boilerplate}\n\n{prose(700, seed + 30)}" for seed in range(8)]
    dataset = prepared(json_lines(texts), tmp_path / "made", "full_sentences", clean={"drop_repeated_paragraphs": True})
    assert dataset.manifest.documents["repeated pieces left out"] == 7
    left = sum(map(len, texts)) - 7 * (len(boilerplate) + 2)
    assert dataset.manifest.sources[0]["characters_kept"] == left
    held_out = [json.loads(line)["text"] for line in dataset.documents_path.read_text("utf-8").splitlines()]
    assert {text.replace(f"{boilerplate}\n\n", "") for text in held_out} < {
        text.replace(f"{boilerplate}\n\n", "") for text in texts
    }
    assert verify(dataset.path)


def test_documents_without_remaining_text_are_dropped(json_lines: Write, tmp_path: Path) -> None:
    shared = [prose(400, seed) for seed in range(6)]
    texts = ["\n\n".join(shared), shared[2], "\n\n".join(shared[::-1]), *(prose(600, seed) for seed in range(10, 20))]
    dataset = prepared(json_lines(texts), tmp_path / "made", "full_sentences", clean={"drop_repeated_paragraphs": True})
    counts = dataset.manifest.documents
    assert counts["dropped: all of it repeated"] == 2
    assert counts["kept for training"] + counts["held out"] == 11 == dataset.manifest.sources[0]["documents_kept"]
    assert verify(dataset.path)


def test_bytes_do_not_depend_on_where_long_documents_are_split(
    json_lines: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If its pieces are in one group; and two runs give equal bytes."""
    path = json_lines([prose(5000, seed) for seed in range(6)])
    monkeypatch.setattr(parts, "PART_CHARACTERS", 10**6)
    monkeypatch.setattr(balance, "GROUP_CHARACTERS", 10**6)
    found = []
    for longest in (3000, 3000, 100_000):
        monkeypatch.setattr(pieces, "LONGEST_CHARACTERS", longest)
        made = prepared(path, tmp_path / f"made-{len(found)}")
        found.append({name: (made.path / name).read_bytes() for name in made.files()})
    assert found[0] == found[1] == found[2]


def test_random_segments_come_from_neighbouring_parts() -> None:
    documents = [np.array(each) for each in ([0, 1, 2], [2, 2], [2, 2], [2, 3], [4, 5, 6, 7, 8, 9, 10])]
    found = balance.partners([1, 2], documents)
    assert {part: mask.tolist() for part, mask in found.items()} == {
        0: [True, True, False],
        3: [False, True],
        4: [True, True, True, True, False, False, False],
    }
    assert balance.partners([4, 0], documents) == {}
    assert balance.partners([0], [np.array([0, 0])]) == {}
