"""A run that is limited by minutes, with a clock that advances only at optimizer steps."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sesame import configs
from sesame.configs.errors import ConfigError
from sesame.pretrain.checkpoints.load import latest, open_checkpoint
from sesame.pretrain.checkpoints.record import Record
from sesame.pretrain.config import RunConfig
from sesame.pretrain.schedule import DECAYS, ScheduleConfig
from sesame.pretrain.train import Run, train

Settings = Callable[..., dict[str, Any]]
LENGTHS = {"wsd": 10, "linear": None, "cosine": None, "constant": None, "rsqrt": None}


class StepClock:
    """Advances by ten seconds at each optimizer step."""

    def __init__(self, begin: float):
        self.now = begin

    def __call__(self) -> float:
        return self.now


class Killed(Exception):
    pass


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Record, list[dict[str, Any]]]]:
    """``trained(values, killed_at=step)``: the last record of a run and the rows of its metrics."""

    def run(values: dict[str, Any], killed_at: int = -1, begin: float = 5.0):
        clock, train_step = StepClock(begin), Run.train_step

        def step(self: Run):
            if self.step == killed_at:
                raise Killed
            result = train_step(self)
            clock.now += 10
            return result

        with monkeypatch.context() as patch:
            patch.setattr(Run, "train_step", step)
            try:
                train(configs.parse(values, RunConfig, "run.toml"), clock=clock)
            except Killed:
                assert killed_at >= 0
        output = Path(values["output"])
        folder = latest(output)
        assert folder is not None
        rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
        return open_checkpoint(folder).record, rows

    return run


@pytest.fixture
def limited(settings: Settings) -> dict[str, Any]:
    """A run of at most 1000 steps and a minute, which six steps use up."""
    return settings(
        steps=1000,
        stop={"minutes": 1},
        optimizer={"name": "adamw", "learning_rate": 1.0},
        schedule={"warmup_steps": 2},
        report={"every_steps": 1},
        checkpoint={"save_every_steps": 2},
    )


def rates(rows: list[dict[str, Any]]) -> list[float]:
    return [row["learning_rate"] for row in rows if "train" in row]


def test_run_and_decay_end_with_the_minutes(limited, trained, capsys: pytest.CaptureFixture[str]) -> None:
    record, rows = trained(limited)
    assert re.search(r"^\d\d:\d\d:\d\d step 5/~6 \| .* left$", capsys.readouterr().out, re.MULTILINE)
    assert record.step == 6 and record.seconds == 60.0
    assert rates(rows) == pytest.approx([0.5, 1.0, 1.0, 0.75, 0.5, 0.25])
    assert [row["step"] for row in rows if "validation" in row] == [6]


def test_a_run_ends_with_its_steps_if_they_are_first(limited, trained) -> None:
    record, rows = trained(limited | {"steps": 4})
    assert (record.step, record.seconds) == (4, 40.0)
    assert rates(rows) == pytest.approx([0.5, 1.0, 1.0, 0.5])


def test_the_same_command_again_does_not_train_on(limited, trained, capsys: pytest.CaptureFixture[str]) -> None:
    before = trained(limited)
    capsys.readouterr()
    assert trained(limited) == before
    output = capsys.readouterr().out
    assert "this run is finished" in output and "at most 1 minutes (1.0 used)" in output


def test_a_run_with_more_minutes_is_resumed(limited, trained) -> None:
    trained(limited)
    record, rows = trained(limited | {"stop": {"minutes": 2}})
    assert (record.step, record.seconds) == (12, 120.0)
    # The plan is now one of twelve steps, two of which are the warm-up.
    assert rates(rows)[6:] == pytest.approx([0.6, 0.5, 0.4, 0.3, 0.2, 0.1])


def test_a_killed_run_continues_the_count_and_ends_like_an_uninterrupted_one(limited, trained, tmp_path: Path) -> None:
    uninterrupted = trained(limited | {"output": str(tmp_path / "uninterrupted")})
    record, _ = trained(limited, killed_at=5)
    assert (record.step, record.seconds) == (4, 40.0)
    record, rows = trained(limited, begin=1e6)
    assert (record.step, record.seconds, record.files) == (6, 60.0, uninterrupted[0].files)
    assert rates(rows) == rates(uninterrupted[1])


def test_minutes_set_at_a_resume_count_from_there(limited, trained) -> None:
    unlimited = limited | {"stop": {}, "steps": 3}
    assert trained(unlimited)[0].seconds == 0.0
    trained(limited, killed_at=5)
    record, rows = trained(limited)
    assert (record.step, record.seconds, record.first_timed_step) == (9, 60.0, 3)
    # Nine steps in all: seven after the warm-up.
    assert rates(rows)[4:] == pytest.approx([5 / 7, 4 / 7, 3 / 7, 2 / 7, 1 / 7])


@pytest.mark.parametrize("decay", DECAYS)
def test_a_schedule_by_time_equals_that_of_the_expected_steps(decay: str) -> None:
    schedule = configs.parse(
        {"warmup_steps": 8, "decay": decay, "final_fraction": 0.1}
        | ({"decay_steps": LENGTHS[decay]} if LENGTHS[decay] else {}),
        ScheduleConfig,
        "run.toml",
    )
    planned = [schedule.factor(step, 50) for step in range(51)]
    assert [schedule.factor(step, 10**6, expected=50.0) for step in range(51)] == pytest.approx(planned)
    if decay not in ("constant", "rsqrt"):
        assert planned[-1] == pytest.approx(0.1)


@pytest.mark.parametrize("values", [{"decay": "linear"}, {"decay": "cosine", "decay_steps": 500}, {"decay": "wsd"}])
def test_warm_up_and_decay_fit_into_a_short_time(values: dict[str, Any]) -> None:
    schedule = configs.parse({"warmup_steps": 100, "decay_steps": 300, **values}, ScheduleConfig, "run.toml")
    factors = [schedule.factor(step, 10**6, expected=40.0) for step in range(41)]
    assert max(factors) == pytest.approx(1.0, abs=0.05) and factors[-1] == 0.0
    assert factors.index(max(factors)) in (19, 20), "half of the steps are the warm-up"


@pytest.mark.parametrize("minutes", [0, -1, float("nan"), float("inf"), "three"])
def test_minutes_are_a_positive_number(minutes: Any, settings: Settings) -> None:
    with pytest.raises(ConfigError, match=r"run\.toml: 'stop\.minutes'"):
        configs.parse(settings(stop={"minutes": minutes}), RunConfig, "run.toml")


SEVERAL = """
import json, os, sys
import torch
from sesame import configs
from sesame.pretrain import precision
from sesame.pretrain.config import RunConfig
from sesame.pretrain.train import Run, train
rank = int(os.environ["RANK"])
now = [0.0]
train_step = Run.train_step
def step(self):
    result = train_step(self)
    now[0] += 10 if rank == 0 else 1e6
    return result
Run.train_step = step
precision.of_device = lambda device: precision.Precision(("bf16", "fp32")[rank], "kind of %d" % rank)
train(configs.parse(json.loads(sys.argv[1]), RunConfig, "the test's run"), clock=lambda: now[0])
"""


def test_all_processes_use_the_first_clock_and_the_lowest_precision(
    limited, world: Callable[..., list[str]], tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(SEVERAL)
    values = limited | {"parallel": {"threads": 1}}
    output = world(2, program, json.dumps(values))[0]
    folder = latest(Path(values["output"]))
    assert folder is not None
    record = open_checkpoint(folder).record
    assert (record.step, record.config["parallel"]["precision"]) == (6, "fp32")
    assert "in fp32 (process 1 of 2 has a kind of 1)" in output
