"""A damaged row is one sentence with the file and the row, whatever is wrong with it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sesame import configs
from sesame.configs.errors import DatasetError
from sesame.data_pipeline.dataset.shards import open_dataset
from sesame.pretrain.config import RunConfig
from sesame.pretrain.data.batches import Batches, DataRank
from sesame.pretrain.data.config import DataConfig
from sesame.pretrain.train import train
from tests.pretrain.watch.planted import row_of_step

Settings = Callable[..., dict[str, Any]]
READS = ("tokens", "positions", "segments", "mask_positions", "mask_labels", "pair_labels")


def damaged(dataset: Path, folder: Path, column: str, change: Callable[[np.ndarray, int, int], None]) -> Path:
    """Copy a dataset and change a column of the row that step 2 reads, in the file itself.

    ``change`` gets the values, or for ``offsets`` the offsets, and the row's first and last index in them.
    """
    shutil.copytree(dataset, folder)
    row = row_of_step(dataset, 2)
    split = open_dataset(folder, verify=False).split("train")
    array = split.take(np.arange(split.rows))[column.removesuffix(" offsets")]
    file, inside = split.place(row)
    stored = array.offsets if column.endswith("offsets") else array.values  # type: ignore[union-attr]
    start, end = (inside, inside + 1) if column.endswith("offsets") else array.offsets[inside : inside + 2]  # type: ignore[union-attr]
    content, before = file.read_bytes(), stored.tobytes()
    assert content.count(before) == 1
    after = stored.copy()
    change(after, int(start), int(end))
    file.write_bytes(content.replace(before, after.tobytes()))
    return folder


def set_last(value: int) -> Callable[[np.ndarray, int, int], None]:
    def change(values: np.ndarray, start: int, end: int) -> None:
        values[end - 1] = value

    return change


def shorten(offsets: np.ndarray, start: int, end: int) -> None:
    offsets[end] = offsets[start] - 3


CASES = [
    ("tokens", set_last(9999), "has 9999 in tokens, but the vocabulary has 320"),
    ("mask_labels", set_last(400), "has 400 in mask_labels"),
    ("mask_positions", set_last(60), "has 60 in mask_positions, which is not within the row"),
    ("tokens offsets", shorten, "has -3 entries of tokens"),
]


@pytest.mark.parametrize(("column", "change", "message"), CASES, ids=[case[0] for case in CASES])
def test_a_damaged_row_is_named(
    column: str, change: Callable[[np.ndarray, int, int], None], message: str, dataset: Path, tmp_path: Path
) -> None:
    folder = damaged(dataset, tmp_path / "damaged", column, change)
    config = DataConfig(dataset=str(folder), global_batch=16)
    batches = Batches(open_dataset(folder, verify=False), config, READS, 1, DataRank(0, 1))
    next(batches.step(0))
    row = row_of_step(dataset, 2)
    with pytest.raises(DatasetError, match=rf"train-00000.arrow: row {row} \(row {row} of its split\) {message}"):
        next(batches.step(1))


def test_a_run_stops_at_a_damaged_row(settings: Settings, dataset: Path, tmp_path: Path) -> None:
    folder = damaged(dataset, tmp_path / "damaged", "tokens", set_last(9999))
    values = settings(data={"dataset": str(folder), "verify": False, "micro_batch": 16}, report={"every_steps": 1})
    with pytest.raises(DatasetError, match="vocabulary has 320"):
        train(configs.parse(values, RunConfig, "the test's run"))
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "steps.jsonl").read_text().splitlines()]
    assert steps == [1]
