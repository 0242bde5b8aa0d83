"""Rows shown with masks and labels."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from sesame.configs.errors import DatasetError
from sesame.data_pipeline.dataset.shards import open_dataset
from sesame.data_pipeline.inspection.inspect import origins, render
from sesame.data_pipeline.ragged import Ragged
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer


def printed(dataset: Path, split: str, count: int) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(render(dataset, split, count))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_masks_and_labels_are_visible_without_colours(dataset: Path) -> None:
    text = printed(dataset, "train", 20)
    assert text.count("row ") == 20
    assert "A: " in text and "B: " in text and "[MASK→" in text
    assert "pair label 0: B follows A" in text
    assert "pair label 1: B is from another document" in text


def test_every_prediction_is_shown_once(dataset: Path) -> None:
    rows = open_dataset(dataset, verify=False).split("train")
    columns = rows.take(rows.lengths("tokens").argsort()[:1] * 0)
    labels = columns["mask_labels"]
    assert isinstance(labels, Ragged)
    text = printed(dataset, "train", 1).rsplit("\n", 2)[0]
    assert f"{len(labels.values)} predictions" in text
    assert text.count("→") + text.count("=") // 2 == len(labels.values)


def test_more_rows_than_exist_is_not_an_error(dataset: Path) -> None:
    rows = open_dataset(dataset, verify=False).split("validation").rows
    assert printed(dataset, "validation", rows + 50).count("row ") == rows


def test_a_row_shows_the_file_and_position_of_its_text(dataset: Path, corpus: Path) -> None:
    """The bytes at the printed position are the text of each of the two segments of the row."""
    opened = open_dataset(dataset, verify=False)
    tokenizer = Tokenizer.load(opened.tokenizer_path)
    written, elsewhere = corpus.read_bytes(), 0
    for split in ("train", "validation"):
        for row in range(30):
            columns = opened.split(split).take(np.array([row]))
            tokens, positions, labels = (columns[name] for name in ("tokens", "mask_positions", "mask_labels"))
            ids = tokens.values.copy()  # type: ignore[union-attr]
            ids[positions.values] = labels.values  # type: ignore[union-attr]
            first = int(columns["first_segment_length"][0])  # type: ignore[arg-type]
            lines = origins(dataset, split, row)
            for line, segment in zip(lines, (ids[1 : first - 1], ids[first:-1]), strict=True):
                file, place = line.rpartition(", ")[2].rsplit("@")
                assert file == str(corpus)
                text = json.loads(written[int(place) :].split(b"\n", 1)[0])["text"]
                assert tokenizer.decode(segment) in text.lower()
            elsewhere += lines[0].removeprefix("A") != lines[1].removeprefix("B")
            assert (lines[0][1:] != lines[1][1:]) == bool(columns["pair_labels"][0])  # type: ignore[index]
    assert elsewhere > 10


def test_a_row_that_does_not_exist_is_reported(dataset: Path) -> None:
    for row in (-1, 10**6):
        with pytest.raises(DatasetError, match=f"'train' has no row {row}; its rows are 0 to"):
            origins(dataset, "train", row)
        with pytest.raises(DatasetError, match=f"has no row {row}"):
            render(dataset, "train", 1, row)


def test_an_unknown_split_is_reported(dataset: Path) -> None:
    with pytest.raises(DatasetError, match="no split 'test'"):
        render(dataset, "test", 1)
