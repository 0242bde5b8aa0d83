"""Averages of weights: of checkpoints, and the moving one that a run keeps."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sesame import configs
from sesame.configs.errors import CheckpointError, ConfigError
from sesame.pretrain.average import average
from sesame.pretrain.checkpoints.load import load_backbone, open_checkpoint
from sesame.pretrain.config import RunConfig
from sesame.pretrain.initialization import random_value
from sesame.pretrain.train import train
from tests.conftest import World

Settings = Callable[..., dict[str, Any]]


def run(values: dict[str, Any]) -> RunConfig:
    config = configs.parse(values, RunConfig, "run.toml")
    train(config)
    return config


def weights(run_folder: Path, step: int, kind: str = "weights") -> dict[str, torch.Tensor]:
    tensors = open_checkpoint(run_folder / "checkpoints" / f"step-{step:08d}").tensors(kind)
    return {name: tensors.whole(name) for name in tensors.shapes}


@pytest.fixture
def averaging(settings: Settings) -> dict[str, Any]:
    return settings(
        steps=4,
        optimizer={"name": "muon", "learning_rate": 0.01, "average_decay": 0.3},
        checkpoint={"save_every_steps": 1, "keep": 9},
        schedule={"decay": "constant"},
    )


@pytest.mark.parametrize("parallel", [{"zero_stage": 1}, {"zero_stage": 3}, {"zero_stage": 1, "precision": "bf16"}])
def test_a_run_keeps_the_moving_average_of_its_weights(
    parallel: dict[str, Any], averaging: dict[str, Any], tmp_path: Path
) -> None:
    averaging["parallel"] = {**averaging["parallel"], **parallel}
    config = run(averaging)
    names = weights(config.output, 1)
    draw = random_value(config.seed, config.model.init_std)
    expected = {name: draw(name, value.shape).double() for name, value in names.items()}
    for step in range(1, 5):
        keep = min(0.3, (1 + step) / (10 + step))
        for name, value in weights(config.output, step).items():
            expected[name] = keep * expected[name] + (1 - keep) * value
        for name, value in weights(config.output, step, "average").items():
            torch.testing.assert_close(value.double(), expected[name], rtol=0, atol=1e-6)
    average([config.output], tmp_path / "moving", moving=True)
    moved = open_checkpoint(tmp_path / "moving").tensors("weights")
    assert all(torch.equal(moved.whole(name), value) for name, value in weights(config.output, 4, "average").items())


def test_a_resumed_run_goes_on_with_its_average(averaging: dict[str, Any], tmp_path: Path) -> None:
    run(averaging | {"output": str(tmp_path / "whole")})
    for steps in (2, 4):
        run(averaging | {"output": str(tmp_path / "resumed"), "steps": steps})
    whole, resumed = (weights(tmp_path / output, 4, "average") for output in ("whole", "resumed"))
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_an_average_that_is_set_later_begins_with_the_weights(averaging: dict[str, Any]) -> None:
    without = {**averaging, "optimizer": {"name": "muon", "learning_rate": 0.01}, "steps": 2}
    output = run(without).output
    run({**averaging, "steps": 3})
    begin, after, averaged = weights(output, 2), weights(output, 3), weights(output, 3, "average")
    keep = min(0.3, 4 / 13)
    for name, value in averaged.items():
        torch.testing.assert_close(value, keep * begin[name] + (1 - keep) * after[name], rtol=0, atol=1e-6)


def test_checkpoints_are_averaged_into_one(averaging: dict[str, Any], tmp_path: Path) -> None:
    output = run(averaging).output
    written = average([output], tmp_path / "mean", last=3)
    assert [path.name for path in written.sources] == [f"step-{step:08d}" for step in (2, 3, 4)]
    mean = open_checkpoint(tmp_path / "mean").tensors("weights")
    by_step = [weights(output, step) for step in (2, 3, 4)]
    for name in mean.shapes:
        expected = torch.stack([each[name] for each in by_step]).double().mean(0)
        torch.testing.assert_close(mean.whole(name).double(), expected, rtol=0, atol=1e-7)
    assert load_backbone(tmp_path / "mean").step == 4


LAYOUTS: list[tuple[int, dict[str, Any]]] = [
    (2, {"zero_stage": 0}),
    (2, {"zero_stage": 1}),
    (2, {"zero_stage": 2}),
    (2, {"zero_stage": 3}),
    (2, {"zero_stage": 1, "tensor": 2}),
    (2, {"zero_stage": 2, "tensor": 2, "sequence": True}),
    (4, {"zero_stage": 3, "tensor": 2}),
]


@pytest.mark.slow
def test_checkpoints_of_several_processes_are_averaged_like_those_of_one(
    averaging: dict[str, Any], tmp_path: Path, world: World
) -> None:
    averaging["optimizer"] = {"name": "sgd", "learning_rate": 0.1, "average_decay": 0.3}
    outputs = [tmp_path / str(number) for number in range(len(LAYOUTS))]
    for processes, tensor in {(processes, parallel.get("tensor", 1)) for processes, parallel in LAYOUTS}:
        cases = [
            ({**averaging, "output": str(output), "parallel": {**averaging["parallel"], **parallel}}, -1, "")
            for output, (count, parallel) in zip(outputs, LAYOUTS, strict=True)
            if (count, parallel.get("tensor", 1)) == (processes, tensor)
        ]
        (tmp_path / "cases.json").write_text(json.dumps(cases))
        world(processes, Path(__file__).parent / "watch" / "watch_process.py", str(tmp_path / "cases.json"))
    run(averaging | {"output": str(tmp_path / "one")})
    kinds: tuple[dict[str, Any], ...] = {"moving": True}, {"last": 2}
    for kind in kinds:
        means = []
        for output in (tmp_path / "one", *outputs):
            folder = average([output], output / f"mean-{next(iter(kind))}", **kind).folder
            tensors = open_checkpoint(folder).tensors("weights")
            means.append({name: tensors.whole(name) for name in tensors.shapes})
        for layout, mean in zip(LAYOUTS, means[1:], strict=True):
            for name, value in mean.items():
                torch.testing.assert_close(value, means[0][name], rtol=0, atol=1e-6, msg=f"{layout}, {name}")


def test_what_cannot_be_averaged_is_refused(averaging: dict[str, Any], settings: Settings, tmp_path: Path) -> None:
    output = run({**averaging, "steps": 1}).output
    with pytest.raises(ConfigError, match="is the only checkpoint"):
        average([output], tmp_path / "mean")
    other = settings(steps=1, model={"width": 16}) | {"output": str(tmp_path / "other")}
    run(other)
    with pytest.raises(CheckpointError, match=r"parameter .* leave it out"):
        average([output, tmp_path / "other"], tmp_path / "mean")
    with pytest.raises(CheckpointError, match="holds no moving average"):
        average([tmp_path / "other"], tmp_path / "mean", moving=True)
    with pytest.raises(CheckpointError, match="does not contain a checkpoint"):
        average([tmp_path / "none"], tmp_path / "mean")
    assert not (tmp_path / "mean").exists()
