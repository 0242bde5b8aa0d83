"""Examples made visible."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from configs.errors import DatasetError
from data_pipeline.columns import Ragged
from data_pipeline.inspect import render
from data_pipeline.shards import open_dataset


def printed(dataset: Path, split: str, count: int) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(render(dataset, split, count))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_masks_and_labels_can_be_seen_without_colours(dataset: Path) -> None:
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


def test_more_rows_than_there_are_is_no_error(dataset: Path) -> None:
    rows = open_dataset(dataset, verify=False).split("validation").rows
    assert printed(dataset, "validation", rows + 50).count("row ") == rows


def test_an_unknown_split_is_named(dataset: Path) -> None:
    with pytest.raises(DatasetError, match="no split 'test'"):
        render(dataset, "test", 1)
