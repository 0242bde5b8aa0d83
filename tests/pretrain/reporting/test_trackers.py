"""Trackers: what they get, resumed runs, packages that are missing, and trackers that fail.

Those of Weights & Biases and MLflow need their packages; without them these tests are skipped.
"""

import json
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sesame import configs
from sesame.configs.errors import ConfigError
from sesame.configs.stopping import Stopped, StopRequest
from sesame.pretrain.config import RunConfig
from sesame.pretrain.reporting import trackers
from sesame.pretrain.reporting.config import ReportConfig
from sesame.pretrain.reporting.trackers import TRACKERS, TrackedRun, TrackerKind, Trackers, check_installed
from sesame.pretrain.train import Run, train

CONFIG = {"steps": 8, "model": {"width": 32}}
ROWS = [
    {"step": 2, "train": {"masked_lm": 5.0}, "tokens_per_second": 10.0, "time": {"data": 0.5}, "rank_seconds": [1, 2]},
    {"step": 4, "train": {"masked_lm": 4.0}, "tokens_per_second": 20.0, "time": {"data": 0.25}},
]
EXPECTED = {"train/masked_lm": [5.0, 4.0], "tokens_per_second": [10.0, 20.0], "time/data": [0.5, 0.25]}
RESUMED = {"step": 6, "train": {"masked_lm": 3.0}, "tokens_per_second": 30.0, "time": {"data": 0.125}}


class Recorder:
    """A tracker that keeps what it gets, or fails."""

    def __init__(self, run: TrackedRun):
        self.run, self.logged, self.closed, self.fails = run, [], "", False

    def log(self, step: int, values: Any) -> None:
        if self.fails:
            raise ConnectionError("no route\nto host")
        self.logged.append((step, dict(values)))

    def close(self, outcome: str) -> None:
        self.closed = outcome


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TRACKERS, "recorder", TrackerKind(Recorder, "json", "sesame[recorder]", "try again"))


def run_twice(name: str, output: Path) -> None:
    """Log ``ROWS``, and in a resumed run ``RESUMED``."""
    said: list[str] = []
    for first_step, rows in ((0, ROWS), (4, [RESUMED])):
        started = Trackers([name], TrackedRun(output, first_step, CONFIG), said.append)
        for row in rows:
            started.log(row)
        started.close()
    assert said == []


@pytest.mark.usefixtures("recorder")
def test_a_tracker_gets_numbers_only() -> None:
    started = Trackers(["recorder"], TrackedRun(Path("out"), 0, CONFIG), print)
    started.log(ROWS[0])
    tracker: Any = started._running["recorder"]
    assert tracker.logged == [(2, {"train/masked_lm": 5.0, "tokens_per_second": 10.0, "time/data": 0.5})]


@pytest.mark.usefixtures("recorder")
def test_a_tracker_that_fails_is_left_out() -> None:
    said: list[str] = []
    started = Trackers(["recorder"], TrackedRun(Path("out"), 0, CONFIG), said.append)
    tracker: Any = started._running["recorder"]
    tracker.fails = True
    started.log(ROWS[0])
    tracker.fails = False
    started.log(ROWS[1])
    started.close()
    assert said == ["recorder: no route\\nto host; the run goes on without this tracker"]
    assert not tracker.logged and not tracker.closed


def test_a_tracker_that_does_not_start_again_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is one started that was left out before."""
    said: list[str] = []
    for name in ("first", "second", "third"):
        monkeypatch.setitem(TRACKERS, name, TrackerKind(Recorder, "json", "", ""))
    started = Trackers(["first", "second", "third"], TrackedRun(Path("out"), 0, CONFIG), said.append)
    before: Any = dict(started._running)
    before["first"].fails = True
    started.log(ROWS[0])

    def refuse(run: TrackedRun) -> Any:
        raise ConnectionError("no route to host")

    monkeypatch.setitem(TRACKERS, "second", TRACKERS["second"]._replace(start=refuse))
    started.rewind(4)
    after: Any = started._running
    assert list(after) == ["third"] and after["third"].run.first_step == 4
    assert before["second"].closed and before["third"].closed and after["third"] is not before["third"]
    assert said[1:] == ["second: no route to host; the run goes on without this tracker"]


def test_a_tracker_that_does_not_start_is_an_error_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(run: TrackedRun) -> Any:
        raise RuntimeError("api_key not configured (no-tty)")

    monkeypatch.setitem(TRACKERS, "wandb", TRACKERS["wandb"]._replace(start=refuse))
    with pytest.raises(ConfigError, match=r"wandb does not start: api_key not .* or set WANDB_MODE=offline"):
        Trackers(["wandb"], TrackedRun(Path("out"), 0, CONFIG), print)


def test_a_missing_package_is_named_before_anything_is_written(
    settings: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    check_installed([])
    values = settings(report={"trackers": ["mlflow"]})
    with pytest.raises(ConfigError, match=r"mlflow is not installed; run pip install 'sesame\[mlflow\]'"):
        train(configs.parse(values, RunConfig, "the test's run"))
    assert not Path(values["output"]).exists()


def test_tensorboard_is_one_of_the_trackers_unless_it_is_switched_off() -> None:
    assert ReportConfig().all_trackers == ("tensorboard",)
    assert ReportConfig(tensorboard=False).all_trackers == ()
    assert ReportConfig(tensorboard=False, trackers=("tensorboard", "wandb")).all_trackers == ("tensorboard", "wandb")
    with pytest.raises(ConfigError, match=r"'trackers\.0'"):
        configs.parse({"trackers": ["neptune"]}, ReportConfig, "the test")


def test_tensorboard_has_every_number_of_a_resumed_run(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run_twice("tensorboard", tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == sorted(EXPECTED)
    for name, values in EXPECTED.items():
        assert [each.step for each in events.Scalars(name)] == [2, 4, 6]
        assert [each.value for each in events.Scalars(name)][:2] == values


def test_wandb_continues_its_run_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="needs sesame[wandb]")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(tmp_path)
    run_twice("wandb", tmp_path)
    identity = json.loads((tmp_path / "trackers.json").read_text())["wandb"]
    files = sorted(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))
    assert len(files) == 2 and {path.name for path in files} == {f"run-{identity}.wandb"}
    content = b"".join(path.read_bytes() for path in files)
    assert b"train/masked_lm" in content and b"time/data" in content


def test_mlflow_continues_its_run_in_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow", reason="needs sesame[mlflow]")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run_twice("mlflow", tmp_path)
    identity = json.loads((tmp_path / "trackers.json").read_text())["mlflow"]
    (run,) = (tmp_path / "mlruns").glob("*/*/metrics")
    assert run.parent.name == identity
    lines = (run / "train" / "masked_lm").read_text().splitlines()
    assert [line.split()[1:] for line in lines] == [["5.0", "2"], ["4.0", "4"], ["3.0", "6"]]
    assert (run.parent / "params" / "model" / "width").read_text() == "32"


@pytest.mark.usefixtures("recorder")
@pytest.mark.parametrize("outcome", ["finished", "stopped", "failed"])
def test_a_tracker_knows_how_the_run_ended(
    outcome: str, settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    closed: list[str] = []
    monkeypatch.setattr(Recorder, "close", lambda self, outcome: closed.append(outcome))
    monkeypatch.setattr(ReportConfig, "all_trackers", ("recorder",))
    config = configs.parse(settings(steps=3), RunConfig, "run.toml")
    request = StopRequest()
    step = Run.train_step

    def train_step(run: Run) -> Any:
        if outcome == "failed":
            raise KeyError("a defect")
        if outcome == "stopped":
            request.note(signal.SIGTERM)
        return step(run)

    monkeypatch.setattr(Run, "train_step", train_step)
    with suppress(Stopped, KeyError):
        train(config, request=request)
    assert closed == [outcome]
