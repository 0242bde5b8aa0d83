"""Steps computed again are the same bits; what was changed in the memory of a run, or in its checkpoint, is found."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sesame import configs
from sesame.configs.errors import CheckpointError
from sesame.pretrain.config import RunConfig
from sesame.pretrain.parallel.mesh import Mesh
from sesame.pretrain.replay import Plan, Replay, _bits, _first_difference, plan, replay
from sesame.pretrain.train import Run, train
from sesame.pretrain.watch.step_values import StepValues
from tests.pretrain.watch.planted import plant, row_of_step

Settings = Callable[..., dict[str, Any]]
STEPS, SAVE_EVERY = 8, 3


def run_of(settings: Settings, **changes: Any) -> RunConfig:
    usual = {
        "steps": STEPS,
        "optimizer": {"name": "adamw", "learning_rate": 1e-3},
        "checkpoint": {"save_every_steps": SAVE_EVERY, "keep": 9},
        # Learning rates that follow from the clock are not computed again.
        "stop": {"minutes": 5},
    }
    values = settings(model={"layers": 1, "dropout": 0.1}, **{**usual, **changes})
    return configs.parse(values, RunConfig, "the test's run")


def replayed(run: Path, step: int) -> Replay:
    planned = plan(run, step)
    mesh = Mesh(planned.config.parallel)
    try:
        return replay(planned, mesh)
    finally:
        mesh.close()


def flip_a_bit_before(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flip the lowest bit of the exponent of one weight of the optimizer before ``step`` (from 1)."""
    train_step = Run.train_step

    def corrupted(run: Run) -> Any:
        if run.step == step - 1:
            part = next(iter(run.engine.state(None)))
            part.rows.view(torch.int32).view(-1)[5] ^= 1 << 23
        return train_step(run)

    monkeypatch.setattr(Run, "train_step", corrupted)


def test_a_sound_run_is_the_same_in_every_bit(settings: Settings, tmp_path: Path) -> None:
    train(run_of(settings))
    before = sorted(path.name for path in (tmp_path / "run").rglob("*"))
    result = replayed(tmp_path / "run", STEPS - 1)
    assert result.is_same, result.lines
    assert "step 7, computed again from" in result.lines[0] and "step-00000006" in result.lines[0]
    result = replayed(tmp_path / "run", 5)
    assert result.is_same and "steps 4 to 5" in result.lines[0]
    result = replayed(tmp_path / "run", 3)
    assert result.is_same and "steps 1 to 3, computed again from the initial weights" in result.lines[0]
    assert "the checkpoint of step 3" in result.lines[0]
    assert sorted(path.name for path in (tmp_path / "run").rglob("*")) == before
    recorded_values_are_exact(tmp_path)
    what_cannot_be_replayed_is_one_sentence(tmp_path)


def recorded_values_are_exact(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in (tmp_path / "run" / "steps.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 3, 4, 6, 8]
    metrics = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    norms = {row["step"]: row["gradient_norm"] for row in metrics if "train" in row}
    assert norms == {line["step"]: line["gradient_norms"][-1] for line in lines}


def what_cannot_be_replayed_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has values of steps 1 to 8, not of step 9"):
        plan(tmp_path / "run", 9)
    with pytest.raises(CheckpointError, match="does not contain a checkpoint"):
        plan(tmp_path, 9)
    file = next((tmp_path / "run" / "checkpoints" / "step-00000003").glob("weights-*"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="differs from its checksum"):
        replayed(tmp_path / "run", 4)


def remove_checkpoints(run: Path, *steps: int) -> None:
    for step in steps:
        shutil.rmtree(run / "checkpoints" / f"step-{step:08d}")


def test_a_run_that_was_resumed_with_other_settings_is_replayed_with_those(settings: Settings, tmp_path: Path) -> None:
    run, decay = tmp_path / "run", {"name": "adamw", "learning_rate": 1e-3, "weight_decay": 0.5}
    train(run_of(settings, steps=4))
    train(run_of(settings, optimizer=decay))
    assert replayed(run, 5).is_same
    assert plan(run, 4).config.optimizer.weight_decay != plan(run, 5).config.optimizer.weight_decay == 0.5
    remove_checkpoints(run, 3, 4)
    assert plan(run, 4).config.optimizer.weight_decay != 0.5
    with pytest.raises(CheckpointError, match=r"optimizer.weight_decay 0.01 -> 0.5.*initial weights.*step up to 4"):
        plan(run, 6)
    starts = (run / "run.jsonl").read_text().splitlines()
    (run / "run.jsonl").unlink()
    assert plan(run, 8).config.optimizer.weight_decay == 0.5
    with pytest.raises(CheckpointError, match=r"was resumed at step 4 with a change, .*optimizer.weight_decay"):
        plan(run, 6)
    of_both = [json.loads(line) for line in starts]
    of_both[2]["start"] |= {"processes": 2, "config": of_both[0]["start"]["config"]}
    (run / "run.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in of_both))
    assert [plan(run, step).processes for step in (4, 8)] == [1, 2]
    with pytest.raises(CheckpointError, match="the number of processes 1 -> 2"):
        plan(run, 6)


@pytest.mark.parametrize("was_added", [False, True])
def test_a_table_that_was_added_or_removed_is_a_change(
    was_added: bool, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, changing = tmp_path / "run", {"global_batch": {"at": [0.0], "values": [16]}}
    step = Run.train_step
    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(Run, "train_step", lambda run: step(run) if run.step < 4 else raise_(InterruptedError()))
        train(run_of(settings, stop={}, schedule={} if was_added else changing))
    train(run_of(settings, stop={}, schedule=changing if was_added else {}))
    remove_checkpoints(run, 3)
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"was resumed at step 3 with a change, schedule\.global_batch"):
            plan(run, 5)
        (run / "run.jsonl").unlink(missing_ok=True)


def raise_(error: Exception) -> None:
    raise error


def test_settings_without_an_effect_on_a_step_may_have_changed(settings: Settings, tmp_path: Path) -> None:
    train(run_of(settings, steps=4))
    train(run_of(settings, parallel={"timeout_minutes": 17.0}, watch={"slow_factor": 9.0, "layers_every_steps": 3}))
    remove_checkpoints(tmp_path / "run", 3, 4)
    assert replayed(tmp_path / "run", 6).is_same


def test_what_was_skipped_later_than_the_replay_starts_is_skipped(
    settings: Settings, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The replay starts before the checkpoint that the run went back to."""
    plant(monkeypatch, row_of_step(dataset, 5), "nan loss")
    train(run_of(settings, watch={"non_finite": "roll_back"}))
    remove_checkpoints(tmp_path / "run", SAVE_EVERY)
    result = replayed(tmp_path / "run", STEPS - 2)
    assert result.is_same and "steps 1 to 6, computed again from the initial weights" in result.lines[0], result.lines


def test_something_that_only_the_replay_finds_is_named_with_its_step(
    settings: Settings, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(run_of(settings, watch={"non_finite": "roll_back"}))
    plant(monkeypatch, row_of_step(dataset, 5), "nan loss")
    result = replayed(tmp_path / "run", 6)
    assert not result.is_same and result.lines[0].startswith("step 5, computed again"), result.lines


def test_a_run_whose_data_followed_the_clock_is_refused(settings: Settings, tmp_path: Path) -> None:
    schedule = {"objectives": {"sentence_pairs": {"at": [0.0, 1.0], "values": [1.0, 0.0]}}}
    train(run_of(settings, schedule=schedule, steps=4))
    with pytest.raises(CheckpointError, match="followed the clock, which is not recorded"):
        plan(tmp_path / "run", 4)
    output = tmp_path / "by_steps"
    train(run_of(settings, schedule=schedule, steps=4, stop={}, output=str(output)))
    assert replayed(output, 4).is_same


def test_zeros_of_another_sign_are_a_difference(tmp_path: Path) -> None:
    config: Any = None
    planned = Plan(tmp_path, config, None, 0, 1, 1)
    recorded, computed = ({1: StepValues(1, zero, math.nan, 0.0)} for zero in (0.0, -0.0))
    found = _first_difference(planned, recorded, computed)
    assert found is not None and found.computed.startswith("-0.0")
    assert _first_difference(planned, recorded, recorded) is None
    assert (_bits(torch.tensor([0.0, 1.0])) != _bits(torch.tensor([-0.0, 1.0]))).tolist() == [True, False]


def test_a_flipped_bit_in_memory_is_found(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        flip_a_bit_before(5, patched)
        train(run_of(settings))
    assert replayed(tmp_path / "run", 4).is_same
    result = replayed(tmp_path / "run", 6)
    assert not result.is_same
    assert result.lines[0].startswith("step 5, computed again") and "first difference is the loss" in result.lines[0]
    assert "a fault of the run's memory" in result.lines[1]


@pytest.mark.slow
def test_a_flipped_bit_in_what_a_checkpoint_saved_is_found(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checksum agrees, for it was computed afterwards, and no step of this replay computes with it."""
    save = Run.save

    def corrupted(run: Run) -> None:
        if run.step == 6:
            next(iter(run.engine.state("exp_avg"))).rows.view(torch.int32).view(-1)[2] ^= 1
        save(run)

    with monkeypatch.context() as patched:
        patched.setattr(Run, "save", corrupted)
        train(run_of(settings))
    result = replayed(tmp_path / "run", 6)
    assert not result.is_same and "exp_avg of" in result.lines[0] and "in 1 of" in result.lines[0]


@pytest.mark.slow
def test_a_machine_that_computes_differently_each_time_is_told_apart(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(run_of(settings))
    train_step, calls = Run.train_step, []

    def unsteady(run: Run) -> Any:
        calls.append(run.step)
        metrics = train_step(run)
        return metrics._replace(gradient_norm=float(metrics.gradient_norm) + len(calls) * 1e-9)

    monkeypatch.setattr(Run, "train_step", unsteady)
    result = replayed(tmp_path / "run", 5)
    assert not result.is_same and "watch.deterministic = true" in result.lines[1]
