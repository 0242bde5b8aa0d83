"""Where a run is in its datasets: after steps whose fraction followed the clock, and after it is resumed."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sesame import configs
from sesame.configs.errors import ConfigError
from sesame.data_pipeline.dataset.shards import open_dataset
from sesame.pretrain.checkpoints.record import Change, Record, StagePosition, Watched
from sesame.pretrain.checkpoints.resume import ResumeState, fingerprint
from sesame.pretrain.config import RunConfig
from sesame.pretrain.data.batches import Batches, DataRank, Start
from sesame.pretrain.data.skipped import Skipped
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


def record_of(step: int, samples: int, **values: Any) -> Record:
    values = {"config": {"model": {}}, "files": {"tokenizer.model": ""}, "shapes": {}, **values}
    return Record(
        step=step,
        samples=samples,
        seed=1,
        vocabulary_size=4,
        tokenizer_sha256="0" * 64,
        format_version=2,
        **values,
    )


def positions(paths: list[Path], samples: list[int]) -> tuple[StagePosition, ...]:
    hashes = [fingerprint(open_dataset(path, verify=False)) for path in paths]
    return tuple(
        StagePosition(dataset_sha256=sha256, samples=each) for sha256, each in zip(hashes, samples, strict=True)
    )


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


@pytest.mark.parametrize("samples", [[40, 0, 0], [80, 80, 24]])
def test_a_dataset_of_two_stages_has_a_position_in_each(
    samples: list[int], settings: Settings, unmasked: Path, dataset: Path
) -> None:
    paths = [dataset, unmasked, dataset]
    config, batches = opened(settings, paths)
    record = record_of(sum(samples) // 8, sum(samples), stages=positions(paths, samples))
    start_data(config, batches, ResumeState(Start(record.step, record.samples), "", 0), record)
    assert isinstance(batches, StagedBatches) and list(batches.consumed) == samples
    assert batches.position(record.step) == record.samples


def test_stages_that_were_moved_keep_their_positions(settings: Settings, unmasked: Path, dataset: Path) -> None:
    config, batches = opened(settings, [dataset, unmasked])
    record = record_of(5, 40, stages=positions([unmasked, dataset], [24, 16]))
    start_data(config, batches, ResumeState(Start(5, 40), "", 0), record)
    assert isinstance(batches, StagedBatches) and batches.consumed == (16, 24)


def test_a_new_order_begins_with_its_first_rows(settings: Settings, unmasked: Path, dataset: Path) -> None:
    config, batches = opened(settings, [dataset, unmasked])
    record = record_of(5, 40, stages=positions([dataset, unmasked], [24, 16]))
    changes = (Change(step=5, key="seed", before=1, after=2),)
    start_data(config, batches, ResumeState(Start(5, 0), "", 40, changes, changes), record)
    assert isinstance(batches, StagedBatches) and batches.consumed == (0, 0)
    assert batches.position(5) == 0, "counted from dataset_first_sample on"


def test_rows_are_counted_once_where_another_dataset_replaces_the_first(
    settings: Settings, unmasked: Path, dataset: Path
) -> None:
    """The second one is read on from its position; ``dataset_first_sample`` has the rows of both."""
    config, batches = opened(settings, [dataset, unmasked])
    _, of_first = positions([dataset, unmasked], [24, 16])
    record = record_of(5, 40, stages=(StagePosition(dataset_sha256="another", samples=24), of_first))
    changes = (Change(step=5, key="data.dataset", before="a", after="b"),)
    start_data(config, batches, ResumeState(Start(5, 0), "", 40, changes, changes), record)
    assert isinstance(batches, StagedBatches) and batches.consumed == (0, 16)
    assert batches.position(5) == 0
    batches.begin(5, 0.0)
    assert batches.position(6) == 8


def test_schedules_begin_after_the_rows_that_a_run_skips(settings: Settings, unmasked: Path, dataset: Path) -> None:
    config, batches = opened(settings, [dataset, unmasked])
    start_data(config, batches, ResumeState(Start(5, 48), "", 0), record_of(5, 48))
    batches.skipped = Skipped([(24, 32)])
    with pytest.raises(ConfigError, match=r"skips samples 48 to 55, which are still to come.*without the schedules"):
        batches.skipped = Skipped([(24, 32), (48, 56)])


@pytest.mark.parametrize("first", [0, 1000])
def test_skipped_rows_do_not_shorten_a_run_that_is_resumed(first: int, settings: Settings, dataset: Path) -> None:
    """``first`` are rows of another dataset before, of which some were skipped as well."""
    config, batches = opened(settings, [dataset], steps=None, stop={"epochs": 2})
    whole = start_data(config, batches, ResumeState(Start(), "", 0), None)
    skipped = ((first - 16, first - 8), (first + 80, first + 88), (first + 400, first + 408))
    watched = Watched(skipped_samples=skipped[first == 0 :])
    record = record_of(20, first + 168, watched=watched)
    start = Start(20, 168)
    assert start_data(config, batches, ResumeState(start, "", first), record) == whole
    assert isinstance(batches, Batches) and batches.start == start
