"""Where a run is in its datasets: after steps whose fraction followed the clock, and after it is resumed."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sesame import configs
from sesame.data_pipeline.dataset.shards import open_dataset
from sesame.pretrain.checkpoints.resume import ResumeState
from sesame.pretrain.config import RunConfig
from sesame.pretrain.data.batches import DataRank, Start
from sesame.pretrain.data.stages import AnyBatches, StagedBatches
from sesame.pretrain.run_data import open_batches, start_data
from sesame.pretrain.watch.findings import Finding
from sesame.pretrain.watch.place import place_of

Settings = Callable[..., dict[str, Any]]
READS = ("tokens", "positions", "mask_positions", "mask_labels")


def opened(settings: Settings, paths: list[Path], **changes: Any) -> tuple[RunConfig, AnyBatches]:
    """Batches of a run that reads the datasets in ``paths``, an equal part of it each."""
    stages = [{"at": (number + 1) / len(paths), "dataset": str(path)} for number, path in enumerate(paths[1:])]
    data = {"dataset": str(paths[0]), "stages": stages, "global_batch": 8}
    config = configs.parse(settings(data=data, **changes), RunConfig, "run.toml")
    return config, open_batches(config, open_dataset(paths[0], verify=False), READS, None, DataRank(0, 1), False)


@pytest.fixture
def timed(settings: Settings, unmasked: Path, dataset: Path) -> StagedBatches:
    """After four steps, of which the clock said that the last one is in the second half of the run."""
    config, batches = opened(settings, [unmasked, dataset], steps=None, stop={"minutes": 1})
    start_data(config, batches, ResumeState(Start(), "", 0), None)
    assert isinstance(batches, StagedBatches)
    for number, fraction in enumerate((0.1, 0.3, 0.4, 0.9)):
        batches.begin(number, fraction)
    return batches


def test_a_look_at_the_rows_of_the_step_before_changes_no_position(timed: StagedBatches) -> None:
    rows = [np.concatenate(timed.rows(step)).tolist() for step in (2, 3)]
    assert timed.consumed == (24, 0)
    assert rows[0] == np.concatenate(timed.micro_batch_rows(2)).tolist() != rows[1]
    assert timed.position(4) == 32 and timed.consumed == (24, 8)
    assert np.concatenate(timed.rows(3)).tolist() == rows[1]


def test_a_place_names_the_dataset_of_its_step(timed: StagedBatches, unmasked: Path, dataset: Path) -> None:
    finding = Finding("non_finite_gradient", math.nan, None)
    for step, path in ((4, dataset), (3, unmasked)):
        assert f"inspect {path} --row" in place_of(finding, step, timed, 1, None).text
