"""Settings that change over a run, and runs that end by epochs or tokens."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sesame import configs
from sesame.configs.errors import ConfigError, DatasetError
from sesame.data_pipeline.dataset.shards import open_dataset
from sesame.pretrain.checkpoints.load import latest, open_checkpoint
from sesame.pretrain.config import RunConfig
from sesame.pretrain.data.batches import Batches, DataRank
from sesame.pretrain.data.config import DataConfig
from sesame.pretrain.data.stages import DataSchedule, StagedBatches
from sesame.pretrain.run_length import Rows, planned_steps
from sesame.pretrain.schedule_table import ScheduleTable
from sesame.pretrain.train import Run, train

Settings = Callable[..., dict[str, Any]]
READS = ("tokens", "positions", "mask_positions", "mask_labels")


def table(at: list[float], values: list[float], between: str = "line") -> ScheduleTable:
    return configs.parse({"at": at, "values": values, "between": between}, ScheduleTable, "run.toml")


def test_a_table_is_a_line_or_steps() -> None:
    line, steps = (table([0.0, 0.5, 1.0], [4, 2, 2], between) for between in ("line", "steps"))
    assert [line.value(x) for x in (0, 0.25, 0.5, 1.0)] == [4, 3, 2, 2]
    assert [steps.value(x) for x in (0, 0.49, 0.5, 1.0)] == [4, 4, 2, 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": {"mask_rate": {"at": [0.0, 0.5], "values": [0.3]}}}, "at has 2 fractions, but values has 1"),
        ({"schedule": {"mask_rate": {"at": [0.1], "values": [0.3]}}}, "begin at 0"),
        ({"schedule": {"mask_rate": {"at": [0.0, 0.0], "values": [0.3, 0.2]}}}, "does not rise"),
        ({"schedule": {"mask_rate": {"at": [0.0], "values": [1.5]}}}, "not between 0 and 1"),
        ({"schedule": {"global_batch": {"at": [0.0], "values": [8]}}}, "below data.global_batch 16"),
        ({"schedule": {"objectives": {"causal_lm": {"at": [0.0], "values": [1]}}}}, "not in [objectives]"),
        ({"data": {"stages": [{"at": 0.5, "dataset": "a"}, {"at": 0.5, "dataset": "b"}]}}, "write them in order"),
        ({"data": {"stages": [{"at": 0.5, "dataset": "a"}]}, "stop": {"epochs": 1}}, "data.stages has more"),
        (
            {
                "data": {"loader_processes": 1},
                "stop": {"minutes": 1},
                "schedule": {"mask_rate": {"at": [0.0], "values": [0.3]}},
            },
            "follows the clock",
        ),
        (
            {"watch": {"spike": "roll_back"}, "schedule": {"mask_rate": {"at": [0.0], "values": [0.3]}}},
            "watch rolls back",
        ),
        ({"steps": None}, "nothing ends this run"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(changes: dict[str, Any], message: str, settings: Settings) -> None:
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")):
        configs.parse(settings(**changes), RunConfig, "run.toml")


def planned(settings: Settings, datasets: list[Rows], start: tuple[int, int] = (0, 0), **changes: Any) -> int:
    return planned_steps(configs.parse(settings(steps=None, **changes), RunConfig, "run.toml"), datasets, start)


def test_epochs_and_tokens_become_steps(settings: Settings) -> None:
    rows = [Rows(100, 2000)]
    assert planned(settings, rows, stop={"epochs": 2}) == 13, "200 rows of 16"
    assert planned(settings, rows, stop={"tokens": 3200}) == 10, "320 tokens a step"
    assert planned(settings, rows, stop={"tokens": 3201}) == 11
    assert planned(settings, rows, stop={"tokens": 3200, "epochs": 0.16}) == 1
    # A resumed run with a larger batch before: 96 of 200 rows are left.
    assert planned(settings, rows, (3, 104), stop={"epochs": 2}) == 9
    assert planned_steps(configs.parse(settings(steps=7, stop={"epochs": 2}), RunConfig, "run.toml"), rows) == 7


def test_steps_are_planned_for_changing_batches_and_rows(settings: Settings) -> None:
    batch = {"at": [0.0, 0.5], "values": [16, 32], "between": "steps"}
    steps = planned(settings, [Rows(100, 1000)], stop={"epochs": 4.8}, schedule={"global_batch": batch})
    assert steps == 20, "10 steps of 16 and 10 of 32 rows"
    data = {"stages": [{"at": 0.5, "dataset": "longer"}]}
    steps = planned(settings, [Rows(100, 1000), Rows(50, 1000)], stop={"tokens": 4800}, data=data)
    assert steps == 20, "10 steps of 160 and 10 of 320 tokens"


def staged(paths: list[Path], rank: DataRank = DataRank(0, 1), micro_batch: int = 4, **schedules: Any) -> StagedBatches:
    config = DataConfig(dataset=str(paths[0]), global_batch=8, micro_batch=micro_batch)
    stages = [Batches(open_dataset(path, verify=False), config, READS, 7, rank) for path in paths]
    return StagedBatches(
        stages, DataSchedule(schedules.get("batch"), schedules.get("mask"), schedules.get("begins", ()), 10)
    )


def test_the_batch_and_the_mask_rate_follow_their_tables(unmasked: Path) -> None:
    batches = staged([unmasked], batch=table([0.0, 0.5], [8, 16], "steps"), mask=table([0, 1], [0.45, 0.05]))
    shares = []
    for step in (0, 5, 9):
        made = list(batches.step(step))
        assert batches.accumulation == len(made) == (2 if step < 5 else 4)
        predictions = sum(len(batch["mask_positions"]) for batch in made)
        shares.append(predictions / sum(int(batch.tokens) for batch in made))
    assert shares == pytest.approx([0.42, 0.23, 0.08], abs=0.04), "special tokens are not masked"
    assert batches.position(10) == 5 * 8 + 5 * 16


def test_processes_divide_the_batch_that_one_process_has(unmasked: Path) -> None:
    def tokens(rank: DataRank, micro_batch: int) -> list[float]:
        batches = staged([unmasked], rank, micro_batch, batch=table([0.0, 1.0], [8, 24]))
        return [sum(batch.tokens for batch in batches.step(step)) for step in range(10)]

    one = np.array(tokens(DataRank(0, 1), 0))
    two = [np.array(tokens(DataRank(rank, 2), 2)) for rank in (0, 1)]
    assert one.tolist() == (two[0] + two[1]).tolist() and len(set(one.tolist())) > 1


def test_a_dataset_that_is_masked_already_is_refused(dataset: Path) -> None:
    with pytest.raises(DatasetError, match="drawn = 'each_epoch'"):
        staged([dataset], mask=table([0.0], [0.3]))


@pytest.fixture
def changing(settings: Settings, unmasked: Path, dataset: Path) -> dict[str, Any]:
    """A run whose batch, mask rate, rows and weights change, and which ends by its tokens."""
    return settings(
        steps=None,
        stop={"tokens": 12_000},
        data={"dataset": str(unmasked), "stages": [{"at": 0.5, "dataset": str(dataset)}], "global_batch": 8},
        schedule={
            "decay": "constant",
            "global_batch": {"at": [0.0, 0.7], "values": [8, 16], "between": "steps"},
            "objectives": {"sentence_pairs": {"at": [0.0, 1.0], "values": [1.0, 0.0]}},
        },
        optimizer={"name": "adamw", "learning_rate": 1e-3},
        report={"every_steps": 1},
        checkpoint={"save_every_steps": 3},
    )


class Killed(Exception):
    pass


def run(values: dict[str, Any], killed_at: int = -1) -> tuple[dict[str, str], list[Any], Any]:
    """Train, and return checksums, reported losses and the record of the last checkpoint."""
    step = Run.train_step

    def train_step(self: Run) -> Any:
        if self.step == killed_at:
            raise Killed
        return step(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "train_step", train_step)
        try:
            train(configs.parse(values, RunConfig, "run.toml"))
        except Killed:
            assert killed_at > 0
    output = Path(values["output"])
    folder = latest(output)
    assert folder is not None
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    record = open_checkpoint(folder).record
    return record.files, [(row["step"], row["train"]) for row in rows if "train" in row], record


def test_a_killed_run_ends_like_an_uninterrupted_one(changing: dict[str, Any], tmp_path: Path) -> None:
    files, losses, record = run(changing | {"output": str(tmp_path / "whole")})
    assert len(record.stages) == 2 and all(each.samples for each in record.stages)
    assert sum(each.samples for each in record.stages) == record.samples
    killed_at = next(step for step, _ in losses if step > 0.75 * len(losses))
    killed = changing | {"output": str(tmp_path / "killed")}
    *_, before = run(killed, killed_at=killed_at)
    assert 0 < before.step < record.step
    data = killed["data"]
    assert isinstance(data, dict)
    with_loader = {**killed, "data": {**data, "loader_processes": 1}}
    again, losses_again, record_again = run(with_loader)
    assert (again, losses_again) == (files, losses)
    assert (record_again.samples, record_again.stages) == (record.samples, record.stages)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_more_micro_batches_are_the_same_batch(stage: int, changing: dict[str, Any], tmp_path: Path) -> None:
    """The number of micro-batches grows with the batch, or their size does."""
    changing["optimizer"] = {"name": "sgd", "learning_rate": 0.1}
    losses = []
    for micro_batch in (0, 4):
        values = {**changing, "data": {**changing["data"], "micro_batch": micro_batch}}
        values["output"] = str(tmp_path / f"{micro_batch}")
        values["parallel"] = {**changing["parallel"], "zero_stage": stage}
        losses.append([loss for _, step in run(values)[1] for loss in step.values()])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_the_clock_moves_the_schedules_of_a_timed_run(changing: dict[str, Any], tmp_path: Path) -> None:
    """Each step takes ten seconds, so that ten steps use up the minutes, of which half read the other dataset."""

    def timed(output: str, killed_at: int = -1) -> tuple[Any, Any]:
        now, step = [0.0], Run.train_step

        def train_step(self: Run) -> Any:
            if self.step == killed_at:
                raise Killed
            result = step(self)
            now[0] += 10
            return result

        values = changing | {"output": str(tmp_path / output), "stop": {"minutes": 10 / 6}, "steps": 1000}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Run, "train_step", train_step)
            with contextlib.suppress(Killed):
                train(configs.parse(values, RunConfig, "run.toml"), clock=lambda: now[0])
        folder = latest(tmp_path / output)
        assert folder is not None
        record = open_checkpoint(folder).record
        return record.files, [each.samples for each in record.stages]

    files, samples = timed("whole")
    assert samples == [5 * 8, 2 * 8 + 3 * 16], "the batch grows at 0.7"
    timed("killed", killed_at=8)
    assert timed("killed") == (files, samples)
    lines = [json.loads(line) for line in (tmp_path / "killed" / "run.jsonl").read_text().splitlines()]
    starts = [line["start"] for line in lines if "start" in line]
    assert [(start["used_seconds"], start["planned_steps"]) for start in starts] == [(0, 1000), (60, 1000)]
