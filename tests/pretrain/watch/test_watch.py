"""What is planted into a run is reported with step, process and rows, and the run goes on as [watch] says."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sesame import configs
from sesame.configs.errors import TrainingError
from sesame.pretrain.checkpoints.load import latest, open_checkpoint
from sesame.pretrain.checkpoints.record import Record, Watched
from sesame.pretrain.config import RunConfig
from sesame.pretrain.data.skipped import Skipped
from sesame.pretrain.parallel.mesh import Mesh
from sesame.pretrain.train import Run, train
from tests.pretrain.parallel.layout_comparison import needs_fp16
from tests.pretrain.watch.planted import make_late, plant, row_of_step

Settings = Callable[..., dict[str, Any]]
BAD_STEP, CHECKPOINT, STEPS = 7, 4, 10


@pytest.fixture
def watched(settings: Settings) -> Settings:
    """A run of ten AdamW steps with dropout that saves every fourth."""

    def make(**changes: Any) -> dict[str, Any]:
        return settings(
            steps=STEPS,
            model={"layers": 1, "dropout": 0.1, "attention_dropout": 0.1},
            optimizer={"name": "adamw", "learning_rate": 1e-3},
            checkpoint={"save_every_steps": CHECKPOINT, "keep": 9, "background": False},
            **changes,
        )

    return make


def config_of(values: dict[str, Any], output: Path | None = None) -> RunConfig:
    return configs.parse(values | ({"output": str(output)} if output else {}), RunConfig, "the test's run")


def last_record(output: Path) -> Record:
    folder = latest(output)
    assert folder is not None
    return open_checkpoint(folder).record


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def without_times(output: Path) -> list[list[dict[str, Any]]]:
    """The run's metrics, steps and events without what depends on the clock."""
    kept = ("step", "train", "validation", "gradient_norm", "learning_rate")
    metrics = [{name: row[name] for name in kept if name in row} for row in lines(output / "metrics.jsonl")]
    events = [{name: row[name] for name in row if name != "time"} for row in lines(output / "events.jsonl")]
    return [metrics, events, lines(output / "steps.jsonl")]


@pytest.mark.parametrize(("effect", "kind"), [("nan loss", "non_finite_loss"), ("nan gradient", "non_finite_gradient")])
def test_what_is_not_finite_stops_the_run_and_names_the_rows(
    effect: str, kind: str, watched: Settings, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, row := row_of_step(dataset, BAD_STEP), effect)
    with pytest.raises(TrainingError, match=rf"^step {BAD_STEP}: .* is nan in micro-batch \d of 4 of process 0 \(rows"):
        train(config_of(watched()))
    (event,) = lines(tmp_path / "run" / "events.jsonl")
    assert (event["step"], event["kind"], event["action"], event["rank"]) == (BAD_STEP, kind, "stop", 0)
    assert row in event["rows"] and len(event["rows"]) == 4
    assert f"sesame inspect {dataset} --row {event['rows'][0]}" in event["message"]
    assert last_record(tmp_path / "run").step == CHECKPOINT
    assert lines(tmp_path / "run" / "steps.jsonl")[-1]["step"] == BAD_STEP


def test_rows_of_a_micro_batch_with_a_token_budget_are_named(
    watched: Settings, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, row := row_of_step(dataset, 2), "nan loss")
    with pytest.raises(TrainingError, match=r"^step 2: .* is nan in micro-batch \d of \d+ of process 0 \(rows"):
        train(config_of(watched(data={"micro_batch": 0, "micro_tokens": 200})))
    (event,) = lines(tmp_path / "run" / "events.jsonl")
    assert row in event["rows"] and len(event["rows"]) < 16


def test_the_loss_of_a_step_is_what_is_trained(watched: Settings, tmp_path: Path) -> None:
    """Also where its rows fill now more micro-batches, now fewer, and the weights of the objectives change."""
    at, values = [0.0, 0.5], [0.0, 2.0]
    config = config_of(
        watched(
            data={"micro_batch": 0, "micro_tokens": 200},
            report={"every_steps": 1},
            schedule={"objectives": {"sentence_pairs": {"at": at, "values": values, "between": "steps"}}},
            watch={"window": 8, "spike": "skip"},
        )
    )
    train(config)
    rows = [row["train"] for row in lines(tmp_path / "run" / "metrics.jsonl") if "train" in row]
    weights = [values[number >= STEPS / 2] for number in range(STEPS)]
    trained = [row["masked_lm"] + weight * row["sentence_pairs"] for row, weight in zip(rows, weights, strict=True)]
    losses = [loss for line in lines(tmp_path / "run" / "steps.jsonl") for loss in line["losses"]]
    assert losses == pytest.approx(trained, rel=1e-5)
    record = last_record(tmp_path / "run")
    assert record.updates == STEPS, "another weight is no spike"
    assert record.watched.losses == tuple(losses[STEPS // 2 :])
    assert record.watched.weights == {"masked_lm": 1.0, "sentence_pairs": 2.0}


@pytest.mark.parametrize(("micro_tokens", "kept"), [(0, 2), (200, 0)])
def test_the_losses_of_an_older_checkpoint_are_kept_if_they_are_the_same(
    micro_tokens: int, kept: int, watched: Settings
) -> None:
    """It does not say which weights they have; with a token budget they were smaller."""
    config = config_of(watched(data={"micro_batch": 0, "micro_tokens": micro_tokens}))
    mesh = Mesh(config.parallel)
    run = Run(config, mesh)
    record = SimpleNamespace(step=2, watched=Watched(losses=(6.0, 5.0), gradient_norms=(1.0, 1.0)))
    run.watch.resume(cast(Record, record))
    run.watch.watcher.set_weights(run.learner.weights)
    assert len(run.watch.watcher.losses.values) == kept
    run.close()
    mesh.close()


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("effect", "is_late"),
    [
        ("nan loss", True),
        pytest.param("nan loss", False, marks=SLOW),
        ("nan gradient", False),
        pytest.param("nan gradient", True, marks=SLOW),
        pytest.param("spike", False, marks=SLOW),
        pytest.param("spike", True, marks=SLOW),
    ],
)
def test_a_skipped_step_changes_nothing(
    effect: str, is_late: bool, watched: Settings, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a run that is resumed after it ends with the same bits."""
    if is_late:
        make_late(monkeypatch)
    plant(monkeypatch, row_of_step(dataset, BAD_STEP), effect)
    values = watched(watch={"non_finite": "skip", "spike": "skip", "window": 8})
    mesh = Mesh(config_of(values).parallel)
    run = Run(config_of(values), mesh)
    states = {}
    engine_step = run.engine.step

    def step(*arguments: Any) -> Any:
        norm = engine_step(*arguments)
        states[run.step + 1] = [part.rows.clone() for key in (None, "exp_avg") for part in run.engine.state(key)]
        return norm

    monkeypatch.setattr(run.engine, "step", step)
    run.run()
    mesh.close()
    same = [all(map(lambda a, b: a.equal(b), states[n - 1], states[n])) for n in range(2, STEPS + 1)]
    assert [n for n, is_same in enumerate(same, 2) if is_same] == [BAD_STEP]
    record = last_record(tmp_path / "run")
    assert (record.step, record.samples, record.updates) == (STEPS, STEPS * 16, STEPS - 1)
    (event,) = lines(tmp_path / "run" / "events.jsonl")
    assert (event["step"], event["action"], len(event["rows"])) == (BAD_STEP, "skip", 4), "one micro-batch"
    assert [row.get("steps") for row in lines(tmp_path / "run" / "metrics.jsonl") if "train" in row] == [2] * 5

    train_step = Run.train_step
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Run, "train_step", lambda run: interrupt() if run.step == 9 else train_step(run))
        train(config_of(values, tmp_path / "resumed"))
    assert last_record(tmp_path / "resumed").updates == 7
    train(config_of(values, tmp_path / "resumed"))
    assert last_record(tmp_path / "resumed").files == record.files


@needs_fp16
def test_an_overflow_in_fp16_is_counted_once(
    watched: Settings, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss that is not finite makes the gradients overflow as well, so that DeepSpeed has no update either."""
    plant(monkeypatch, row_of_step(dataset, BAD_STEP), "nan loss")
    config = config_of(watched(watch={"non_finite": "skip"}, parallel={"precision": "fp16"}))
    mesh = Mesh(config.parallel)
    run = Run(config, mesh)
    run.run()
    mesh.close()
    record = last_record(tmp_path / "run")
    assert record.loss_scale is not None
    assert record.updates == run.engine.updates == STEPS - record.loss_scale.skipped_updates
    assert record.watched.skipped_updates == 0
    assert [event["step"] for event in lines(tmp_path / "run" / "events.jsonl")] == [BAD_STEP]


def interrupt() -> Any:
    raise KeyboardInterrupt


def test_a_run_stops_after_many_skipped_steps(
    watched: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_step = Run.train_step
    monkeypatch.setattr(Run, "train_step", lambda run: train_step(run)._replace(gradient_norm=float("nan")))
    with pytest.raises(TrainingError, match=r"more than watch\.most_skips 2 in a row"):
        train(config_of(watched(watch={"non_finite": "skip", "most_skips": 2})))
    assert [event["action"] for event in lines(tmp_path / "run" / "events.jsonl")] == ["skip", "skip", "stop"]


@pytest.mark.parametrize(
    ("effect", "is_late"),
    [
        ("nan gradient", True),
        pytest.param("nan gradient", False, marks=SLOW),
        pytest.param("spike", False, marks=SLOW),
        pytest.param("spike", True, marks=SLOW),
    ],
)
def test_a_run_that_rolls_back_is_one_that_never_saw_the_rows(
    effect: str, is_late: bool, watched: Settings, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = {"non_finite": "roll_back", "spike": "roll_back", "window": 8}
    clean = config_of(watched(watch=policy), tmp_path / "clean")
    mesh = Mesh(clean.parallel)
    run = Run(clean, mesh)
    first = (BAD_STEP - 1) * 16
    run.batches.skipped = Skipped([(first, first + 16)])
    run.run()
    mesh.close()

    plant(monkeypatch, row_of_step(dataset, BAD_STEP), effect)
    if is_late:
        make_late(monkeypatch)
    outputs = [tmp_path / "once", tmp_path / "again"]
    for output in outputs:
        train(config_of(watched(watch=policy), output))
    records = [last_record(output) for output in (*outputs, tmp_path / "clean")]
    assert records[0].files == records[1].files == records[2].files
    assert records[0].samples == records[2].samples == (STEPS + 1) * 16
    assert without_times(outputs[0]) == without_times(outputs[1])
    (event,) = lines(outputs[0] / "events.jsonl")
    assert (event["step"], event["action"], event["checkpoint_step"]) == (BAD_STEP, "roll_back", CHECKPOINT)
    assert event["samples"] == [first, first + 16]
    reports = [row for row in lines(outputs[0] / "metrics.jsonl") if "train" in row]
    assert [(row["step"], row["steps"]) for row in reports] == [(step, 2) for step in (2, 4, 6, 8, 10)]
    # Time of the steps that were taken again is in none of them.
    assert all(sum(row["time"].values()) <= 1.01 * row["report_seconds"] for row in reports[1:])


@pytest.mark.slow
def test_a_run_that_is_killed_after_a_roll_back_skips_the_same_rows(
    watched: Settings, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = watched(watch={"non_finite": "roll_back"})
    with monkeypatch.context() as patched:
        plant(patched, row_of_step(dataset, BAD_STEP), "nan loss")
        train(config_of(values, tmp_path / "whole"))
        train_step, seen = Run.train_step, []

        def killed(run: Run) -> Any:
            seen.append(run.step)
            if seen.count(6) == 2:
                raise KeyboardInterrupt
            return train_step(run)

        patched.setattr(Run, "train_step", killed)
        with pytest.raises(KeyboardInterrupt):
            train(config_of(values, tmp_path / "killed"))
    # Nothing is planted now: what is skipped is known from events.jsonl.
    train(config_of(values, tmp_path / "killed"))
    assert last_record(tmp_path / "killed").files == last_record(tmp_path / "whole").files
    assert last_record(tmp_path / "killed").watched == last_record(tmp_path / "whole").watched


def test_roll_backs_end(watched: Settings, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_step = Run.train_step

    def diverging(run: Run) -> Any:
        metrics = train_step(run)
        return metrics._replace(gradient_norm=float("nan")) if run.step == 6 else metrics

    monkeypatch.setattr(Run, "train_step", diverging)
    with pytest.raises(TrainingError, match=r"rolled back watch\.most_roll_backs 2 times"):
        train(config_of(watched(watch={"non_finite": "roll_back", "most_roll_backs": 2})))
    assert [event["action"] for event in lines(tmp_path / "run" / "events.jsonl")] == ["roll_back", "roll_back", "stop"]


def test_a_roll_back_needs_a_checkpoint(watched: Settings, dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, row_of_step(dataset, 3), "nan loss")
    with pytest.raises(TrainingError, match="there is no checkpoint to go back to"):
        train(config_of(watched(watch={"non_finite": "roll_back"})))


def test_a_spike_is_reported_and_changes_nothing(
    watched: Settings, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, row := row_of_step(dataset, BAD_STEP), "spike")
    train(config_of(watched(), tmp_path / "unwatched"))
    train(config_of(watched(watch={"window": 8}), tmp_path / "run"))
    (event,) = lines(tmp_path / "run" / "events.jsonl")
    assert (event["step"], event["kind"], event["action"]) == (BAD_STEP, "loss_spike", "report")
    assert row in event["rows"]
    assert last_record(tmp_path / "run").files == last_record(tmp_path / "unwatched").files
