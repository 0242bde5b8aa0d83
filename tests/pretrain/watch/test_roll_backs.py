"""After a roll-back a run is one that never saw the rows, whatever its settings, and it ends if that does not help."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from sesame import configs
from sesame.configs.errors import TrainingError
from sesame.pretrain import precision
from sesame.pretrain.config import RunConfig
from sesame.pretrain.data.skipped import Samples
from sesame.pretrain.train import Run, train
from sesame.pretrain.watch.config import WatchConfig
from sesame.pretrain.watch.events import Event, EventLog, skipped_samples
from sesame.pretrain.watch.watch import ACTIONS
from tests.pretrain.watch.planted import KINDS, plant, row_of_step
from tests.pretrain.watch.test_watch import last_record, lines
from tests.pretrain.watch.watch_process import run_without

Settings = Callable[..., dict[str, Any]]
BAD_STEP, CHECKPOINT, STEPS, BATCH = 7, 4, 8, 16
SAMPLES = ((BAD_STEP - 1) * BATCH, BAD_STEP * BATCH)
DOCUMENT = Path(__file__).parents[3] / "docs" / "watching.md"


def run_of(settings: Settings, output: Path, **changes: Any) -> RunConfig:
    changes["watch"] = {"non_finite": "roll_back", "window": 8, **changes.get("watch", {})}
    usual = {
        "optimizer": {"name": "adamw", "learning_rate": 1e-3},
        "checkpoint": {"save_every_steps": CHECKPOINT, "keep": 9},
    }
    values = settings(output=str(output), steps=STEPS, model={"layers": 1, "dropout": 0.1}, **{**usual, **changes})
    return configs.parse(values, RunConfig, "the test's run")


def words(setting: str) -> tuple[str, ...]:
    return get_args(WatchConfig.model_fields[setting].annotation)


POLICIES = [
    (effect, action)
    for effect, kind in KINDS.items()
    for action in words("non_finite" if kind.startswith("non_finite") else "spike")
]


def test_every_policy_is_documented_and_implemented() -> None:
    text = DOCUMENT.read_text()
    rows = {line.split("`")[1]: line for line in text.splitlines() if line.startswith("| `")}
    for setting in ("non_finite", "spike"):
        documented = {word for word in ACTIONS if f"`{word}`" in rows[setting].split("|")[2]}
        assert documented == set(words(setting))
    assert {*words("non_finite"), *words("spike")} == set(ACTIONS)
    assert all(
        f"`{name}`" in DOCUMENT.read_text() or f"watch.{name}" in DOCUMENT.read_text()
        for name in WatchConfig.model_fields
    )


@pytest.mark.slow
@pytest.mark.parametrize(("effect", "action"), POLICIES)
def test_every_policy_does_what_it_says(
    effect: str, action: str, settings: Settings, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, row_of_step(dataset, BAD_STEP), effect)
    setting = "non_finite" if KINDS[effect].startswith("non_finite") else "spike"
    config = run_of(settings, tmp_path / "run", watch={setting: action})
    if action == "stop":
        with pytest.raises(TrainingError, match=f"^step {BAD_STEP}: "):
            train(config)
    else:
        train(config)
    (event,) = lines(tmp_path / "run" / "events.jsonl")
    assert (event["step"], event["kind"], event["action"]) == (BAD_STEP, KINDS[effect], action)
    record = last_record(tmp_path / "run")
    steps, updates, samples = {
        "report": (STEPS, STEPS, STEPS),
        "stop": (CHECKPOINT, CHECKPOINT, CHECKPOINT),
        "skip": (STEPS, STEPS - 1, STEPS),
        "roll_back": (STEPS, STEPS, STEPS + 1),
    }[action]
    assert (record.step, record.updates, record.samples) == (steps, updates, samples * BATCH)


CHANGES: dict[str, dict[str, Any]] = {
    "ZeRO 3": {"parallel": {"zero_stage": 3}},
    "ZeRO 3, parameters in host memory": {"parallel": {"zero_stage": 3, "offload": "parameters"}},
    "offload": {"parallel": {"zero_stage": 2, "offload": "optimizer"}},
    **{
        f"{precision}, ZeRO {stage}, offload": {
            "parallel": {"precision": precision, "zero_stage": stage, "offload": "optimizer"}
        }
        for precision in ("bf16", "fp16")
        for stage in (1, 2, 3)
    },
    "bf16, recompute": {"parallel": {"precision": "bf16", "recompute": "block"}},
    "fp16": {"parallel": {"precision": "fp16"}},
    "fp16, ZeRO 3": {"parallel": {"precision": "fp16", "zero_stage": 3}},
    "token budget": {"data": {"micro_batch": 0, "micro_tokens": 200}},
    "Muon": {"optimizer": {"name": "muon", "learning_rate": 0.01}},
    "averaged weights": {"optimizer": {"name": "adamw", "learning_rate": 1e-3, "average_decay": 0.9}},
    "checkpoints in the foreground": {"checkpoint": {"save_every_steps": 2, "keep": 1, "background": False}},
}


@pytest.mark.slow
@pytest.mark.parametrize("effect", ["nan loss", "spike"])
@pytest.mark.parametrize("name", CHANGES)
def test_it_ends_with_the_bits_of_a_run_without_the_rows(
    name: str, effect: str, settings: Settings, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = CHANGES[name]
    if "fp16" in name and not precision.computes_fp16(torch.device("cpu")):
        pytest.skip("needs a processor with fp16")
    watch = {"spike": "roll_back"}
    run_without(run_of(settings, tmp_path / "without", watch=watch, **changes), [SAMPLES])
    plant(monkeypatch, row_of_step(dataset, BAD_STEP), effect)
    train(run_of(settings, tmp_path / "run", watch=watch, **changes))
    ours, other = last_record(tmp_path / "run"), last_record(tmp_path / "without")
    assert ours.files == other.files
    assert (ours.updates, ours.samples, ours.loss_scale) == (other.updates, other.samples, other.loss_scale)
    assert [tuple(each) for each in ours.watched.skipped_samples] == [SAMPLES]
    assert ours.watched.losses == other.watched.losses


@pytest.mark.slow
def test_background_processes_make_the_rows_that_are_left(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_step, bad = Run.train_step, [BAD_STEP - 1]

    def broken_once(run: Run) -> Any:
        metrics = train_step(run)
        if run.step - 1 in bad:
            bad.clear()
            return metrics._replace(gradient_norm=float("nan"))
        return metrics

    run_without(run_of(settings, tmp_path / "without"), [SAMPLES])
    monkeypatch.setattr(Run, "train_step", broken_once)
    train(run_of(settings, tmp_path / "run", data={"loader_processes": 1}))
    assert last_record(tmp_path / "run").files == last_record(tmp_path / "without").files


def test_roll_backs_before_one_that_went_further_back_still_count(tmp_path: Path) -> None:
    """From the checkpoint of step 8 to that of step 4: what the first one skipped stays skipped after a kill too."""
    log = EventLog(tmp_path, is_rank_zero=True, clock=lambda: 0.0)

    def rolled_back(step: int, first: int, checkpoint: int) -> Event:
        samples = Samples(first, first + 16)
        return Event(step, "non_finite_loss", "roll_back", "", samples=samples, checkpoint_step=checkpoint)

    log.write(Event(3, "loss_spike", "report", ""))
    log.write(rolled_back(9, 128, 8))
    log.write(Event(6, "loss_spike", "skip", ""))
    log.write(rolled_back(9, 144, 4))
    log.write(rolled_back(14, 208, 12))
    with log.path.open("a") as file:
        file.write('{"step": 2, "action": "roll_back", "checkpoint_step": "1", "samples": [1, 2]}\n{"step": 3\n')
    assert skipped_samples(tmp_path, 3) == []
    assert skipped_samples(tmp_path, 4) == [(128, 144), (144, 160)]
    assert len(skipped_samples(tmp_path, 12)) == 3
    log.rewind(4)
    assert [(each["step"], each["action"]) for each in lines(log.path)] == [(3, "report"), *[(9, "roll_back")] * 2]
    log.rewind(0)
    assert log.path.read_text() == ""


def test_a_run_whose_only_checkpoint_diverges_again_says_that_it_cannot_go_back(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_step = Run.train_step

    def diverging(run: Run) -> Any:
        metrics = train_step(run)
        return metrics._replace(gradient_norm=float("nan")) if run.step == CHECKPOINT + 1 else metrics

    monkeypatch.setattr(Run, "train_step", diverging)
    with pytest.raises(
        TrainingError, match=r"there is no checkpoint to go back to.*is now .*step-00000004\.diverged-1"
    ):
        train(run_of(settings, tmp_path / "run"))
    assert [each["action"] for each in lines(tmp_path / "run" / "events.jsonl")] == ["roll_back", "stop"]


@pytest.mark.slow
def test_a_run_that_is_killed_after_two_roll_backs_skips_the_rows_of_both(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one goes beyond the first one's checkpoint, from whose weights nothing finite came."""
    train_step = Run.train_step

    def diverging(run: Run) -> Any:
        taken[run.step] += 1
        if is_killed and run.step == 2 and taken[2] == 2:
            raise KeyboardInterrupt
        metrics = train_step(run)
        is_bad = run.step == 5 and taken[4] < 3
        return metrics._replace(gradient_norm=float("nan")) if is_bad else metrics

    for name, is_killed in (("whole", False), ("killed", True)):
        taken: Counter[int] = Counter()
        config = run_of(settings, tmp_path / name, checkpoint={"save_every_steps": 2, "keep": 9})
        with monkeypatch.context() as patched:
            patched.setattr(Run, "train_step", diverging)
            if is_killed:
                with pytest.raises(KeyboardInterrupt):
                    train(config)
            else:
                train(config)
    # Nothing is broken now: what is skipped is known from events.jsonl.
    train(run_of(settings, tmp_path / "killed", checkpoint={"save_every_steps": 2, "keep": 9}))
    outputs = tmp_path / "whole", tmp_path / "killed"
    assert [[each["checkpoint_step"] for each in lines(output / "events.jsonl")] for output in outputs] == [[4, 2]] * 2
    records = [last_record(output) for output in outputs]
    assert records[0].files == records[1].files
    assert records[0].watched.skipped_samples == records[1].watched.skipped_samples == ((64, 80), (80, 96))
    renamed = outputs[0] / "checkpoints" / "step-00000004.diverged-1"
    assert renamed.is_dir() and str(renamed) in lines(outputs[0] / "events.jsonl")[1]["message"]
