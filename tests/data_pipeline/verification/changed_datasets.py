"""Datasets with changed rows, for the tests of ``sesame verify``."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sesame.configs.errors import DatasetError
from sesame.data_pipeline.dataset.manifest import read_manifest, write_manifest
from sesame.data_pipeline.dataset.shards import SPLITS, Dataset, open_dataset, write_shard
from sesame.data_pipeline.dataset.statistics import count, summarize
from sesame.data_pipeline.ragged import Columns, Ragged
from sesame.data_pipeline.verification.verify import verify
from tests.data_pipeline.given_prose import prose

Write = Callable[..., Path]
TEXTS = [prose(900, seed) for seed in range(40)]
LONG = [prose(20_000, seed) for seed in range(6)]


def assert_refused(dataset: Dataset, sentence: str) -> None:
    with pytest.raises(DatasetError, match=sentence) as caught:
        verify(dataset.path)
    assert "prepare the dataset again" in str(caught.value) and "\n" not in str(caught.value)


def changed(dataset: Dataset, copy: Path, change: Callable[[Columns], Columns | None], split: str = "train") -> Dataset:
    """A copy with other rows and the manifest of these."""
    shutil.copytree(dataset.path, copy)
    manifest = read_manifest(copy)
    rows = open_dataset(copy, verify=False).split(split)
    columns = {name: _own(column) for name, column in rows.take(np.arange(rows.rows)).items()}
    columns = change(columns) or columns
    (shard,) = manifest.splits[split].shards
    written = write_shard(copy / shard.file, columns)
    tokens: Any = columns["tokens"]
    record = manifest.splits[split].model_copy(
        update={"shards": (written,), "rows": written.rows, "tokens": len(tokens.values)}
    )
    write_manifest(copy, manifest.model_copy(update={"splits": {**manifest.splits, split: record}}))
    opened, special = open_dataset(copy, verify=False), manifest.tokenizer.special
    size = manifest.tokenizer.vocabulary_size
    train, validation = (count(opened.split(name).blocks(), size, special) for name in SPLITS)
    found = {"train": train.predictions, "validation": validation.predictions}
    splits = {
        name: each.model_copy(update={"predictions": found[name]}) for name, each in read_manifest(copy).splits.items()
    }
    observed = summarize(train, validation, manifest.columns)._asdict()
    write_manifest(copy, read_manifest(copy).model_copy(update={"splits": splits, **observed}))
    return open_dataset(copy, verify=True)


def resign(folder: Path, change: Callable[[Columns], None] | None = None, **update: Any) -> None:
    """Change the rows of the train split, all in one shard, or the manifest, and sign both anew."""
    manifest = read_manifest(folder)
    if change is not None:
        split = open_dataset(folder, verify=False).split("train")
        columns = split.take(np.arange(split.rows))
        change(columns)
        shard = write_shard(folder / manifest.splits["train"].shards[0].file, columns)
        record = manifest.splits["train"].model_copy(update={"shards": (shard,)})
        update["splits"] = {**manifest.splits, "train": record}
    write_manifest(folder, manifest.model_copy(update=update))


def _own(column: Any) -> Any:
    return Ragged(column.values.copy(), column.offsets.copy()) if isinstance(column, Ragged) else column.copy()


def of_rows(columns: Columns, rows: np.ndarray) -> Columns:
    return {name: each.take(rows) if isinstance(each, Ragged) else each[rows] for name, each in columns.items()}
