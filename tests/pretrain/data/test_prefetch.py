"""Batches of background processes are the same as those made in the run's process."""

import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from sesame.configs.errors import DatasetError
from sesame.data_pipeline.dataset.shards import open_dataset
from sesame.pretrain.batch import Batch
from sesame.pretrain.data.batches import Batches, DataRank
from sesame.pretrain.data.config import DataConfig
from sesame.pretrain.data.prefetch import Prefetcher

READS = ("tokens", "positions", "segments", "mask_positions", "mask_labels", "pair_labels")
STEPS = 6


def batches(dataset: Path, data_rank: DataRank) -> Batches:
    config = DataConfig(dataset=str(dataset), global_batch=16, micro_batch=2)
    return Batches(open_dataset(dataset, verify=False), config, READS, 7, data_rank)


def in_global_order(made: dict[int, list[Batch]]) -> list[Batch]:
    """Return the micro-batches of one step of all ranks in the order of the global batch."""
    world = len(made)
    return [made[index % world][index // world] for index in range(world * len(made[0]))]


def assert_equal(actual: list[Batch], expected: list[Batch]) -> None:
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected, strict=True):
        assert one.denominators == other.denominators and one.layout.groups == other.layout.groups
        assert one.columns.keys() == other.columns.keys()
        assert all(torch.equal(one[name], other[name]) for name in one.columns)


@pytest.fixture(scope="module")
def expected(dataset: Path) -> dict[int, list[Batch]]:
    """Batches by step, made in a single process."""
    source = batches(dataset, DataRank(0, 1))
    return {number: list(source.step(number)) for number in range(STEPS)}


@pytest.mark.parametrize("world", [1, 2, 4, 8])
def test_batches_are_the_same_for_every_number_of_processes(
    dataset: Path, expected: dict[int, list[Batch]], world: int
) -> None:
    sources = [batches(dataset, DataRank(rank, world)) for rank in range(world)]
    for number in range(STEPS):
        made = {rank: list(source.step(number)) for rank, source in enumerate(sources)}
        assert_equal(in_global_order(made), expected[number])


@pytest.mark.parametrize("processes", [0, 1, 3])
def test_batches_are_the_same_with_loader_processes_and_after_a_resume_elsewhere(
    dataset: Path, expected: dict[int, list[Batch]], processes: int
) -> None:
    """Steps 0 to 2 on one process, and the others after a resume on two."""
    first = Prefetcher(batches(dataset, DataRank(0, 1)), processes, STEPS)
    for number in range(3):
        assert_equal(list(first.step(number)), expected[number])
    first.close()
    resumed = [Prefetcher(batches(dataset, DataRank(rank, 2)), processes, STEPS) for rank in range(2)]
    for number in range(3, STEPS):
        made = {rank: list(source.step(number)) for rank, source in enumerate(resumed)}
        assert_equal(in_global_order(made), expected[number])
    for source in resumed:
        source.close()
    assert not multiprocessing.active_children(), "a loader process was not stopped"


def test_an_error_in_a_loader_process_is_raised_unchanged(dataset: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(dataset, tmp_path / "copy"))
    source = batches(copy, DataRank(0, 1))
    (copy / "tokenizer.model").unlink()
    prefetcher = Prefetcher(source, 1, STEPS)
    with pytest.raises(DatasetError, match=r"^\S*tokenizer.model: is missing; prepare the dataset again"):
        prefetcher.step(0)
    assert not multiprocessing.active_children()


def test_a_killed_loader_process_is_reported(dataset: Path) -> None:
    prefetcher = Prefetcher(batches(dataset, DataRank(0, 1)), 1, 10_000)
    prefetcher.step(0)
    (child,) = multiprocessing.active_children()
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(DatasetError, match=r"lower data.loader_processes, or set it to 0"):
        for number in range(1, 1000):
            prefetcher.step(number)
    prefetcher.close()


def test_lengths_of_some_rows_are_those_of_all(dataset: Path) -> None:
    split = open_dataset(dataset, verify=False).split("train")
    rows = np.array([5, 0, split.rows - 1, 5])
    for column in ("tokens", "mask_positions", "pair_labels"):
        assert split.lengths_of(column, rows).tolist() == split.lengths(column)[rows].tolist()
