"""Shards are read as they were written, and damaged datasets are rejected."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from sesame.configs.errors import DatasetError
from sesame.data_pipeline.dataset.manifest import SplitRecord, read_manifest, write_manifest
from sesame.data_pipeline.dataset.shards import Split, open_dataset, write_shard
from sesame.data_pipeline.ragged import WORTH_COMPILING, Columns, Ragged, boundaries


def columns(rows: int, seed: int = 0) -> Columns:
    rng = np.random.default_rng(seed)
    offsets = boundaries(rng.integers(0, 9, rows))
    return {
        "tokens": Ragged(rng.integers(0, 60000, offsets[-1]).astype(np.uint16), offsets),
        "pair_labels": rng.integers(0, 2, rows).astype(np.uint8),
    }


def row(column: np.ndarray | Ragged, number: int) -> list[int]:
    if isinstance(column, Ragged):
        return column.values[column.offsets[number] : column.offsets[number + 1]].tolist()
    return [int(column[number])]


@pytest.fixture
def copy(dataset: Path, tmp_path: Path) -> Path:
    """A dataset that a test may damage."""
    return Path(shutil.copytree(dataset, tmp_path / "copy"))


@pytest.mark.parametrize("sizes", [(7,), (5, 4, 4), (3, 0, 2)])
def test_rows_are_taken_in_the_requested_order(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    parts = [columns(size, seed) for seed, size in enumerate(sizes)]
    shards = tuple(write_shard(tmp_path / f"{number}.arrow", part) for number, part in enumerate(parts))
    split = Split(tmp_path, SplitRecord(rows=sum(sizes), tokens=0, predictions=0, shards=shards), tuple(parts[0]))
    flat = [(part, number) for part, size in zip(parts, sizes, strict=True) for number in range(size)]
    for requested in (np.random.default_rng(9).permutation(len(flat)), np.array([2, 2, 0]), np.zeros(0, int)):
        found = split.take(requested)
        for name in parts[0]:
            expected = [row(flat[number][0][name], flat[number][1]) for number in requested]
            assert [row(found[name], position) for position in range(len(requested))] == expected
    assert split.lengths("tokens").tolist() == [len(row(part["tokens"], number)) for part, number in flat]
    assert split.lengths("tokens").dtype == np.int32
    assert sum(len(block["pair_labels"]) for block in split.blocks()) == len(flat)  # pyright: ignore


@pytest.mark.parametrize("count", [0, 5, 2 * WORTH_COMPILING])
def test_few_and_many_rows_are_taken(count: int) -> None:
    rng = np.random.default_rng(0)
    rows = Ragged(rng.integers(0, 9, 300).astype(np.uint16), np.sort(np.append(rng.integers(0, 301, 99), [0, 300])))
    requested = rng.integers(0, 100, count)
    found = rows.take(requested)
    assert found.values.dtype == np.uint16
    assert found.offsets.tolist() == [0, *np.cumsum(rows.lengths[requested]).tolist()]
    expected = [rows.values[rows.offsets[row] : rows.offsets[row + 1]] for row in requested]
    assert np.array_equal(found.values, np.concatenate([[], *expected]))


@pytest.mark.parametrize("row", [-1, 100])
def test_a_missing_row_raises_index_error(row: int) -> None:
    rows = Ragged(np.zeros(100, np.uint16), np.arange(101))
    with pytest.raises(IndexError, match="of 100 rows"):
        rows.take(np.array([3, row]))


def test_equal_columns_give_equal_bytes(tmp_path: Path) -> None:
    first, second = (write_shard(tmp_path / name, columns(50)) for name in ("a.arrow", "b.arrow"))
    assert (first.sha256, first.bytes, first.rows) == (second.sha256, second.bytes, 50)


def test_shards_are_memory_mapped(dataset: Path) -> None:
    split = open_dataset(dataset, verify=False).split("train")
    tokens = split._shard(0)["tokens"]
    assert isinstance(tokens, Ragged)
    assert not tokens.values.flags.owndata and not tokens.values.flags.writeable


def test_missing_and_truncated_files_are_found_without_checksums(copy: Path) -> None:
    shard = copy / "train-00000.arrow"
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(DatasetError, match=r"train-00000.arrow: has \d+ bytes, but the manifest says \d+"):
        open_dataset(copy, verify=False)
    shard.unlink()
    with pytest.raises(DatasetError, match=r"train-00000.arrow: is missing"):
        open_dataset(copy, verify=False)


def test_a_folder_without_a_manifest_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"holds no manifest.json, .*`sesame prepare`"):
        open_dataset(tmp_path, verify=False)


def test_another_format_version_is_rejected(copy: Path) -> None:
    manifest = read_manifest(copy)
    write_manifest(copy, manifest.model_copy(update={"format_version": 99}))
    with pytest.raises(DatasetError, match="has format 99, but this version reads 2"):
        open_dataset(copy, verify=False)


def test_an_unknown_split_is_rejected(dataset: Path) -> None:
    with pytest.raises(DatasetError, match="no split 'test'; there are train, validation"):
        open_dataset(dataset, verify=False).split("test")
