"""``run.jsonl`` and the profiler's traces of real runs."""

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sesame import configs
from sesame.configs.errors import ConfigError, TrainingError
from sesame.configs.stopping import Stopped
from sesame.pretrain.config import RunConfig
from sesame.pretrain.reporting.run_record import recorded_end, write_start
from sesame.pretrain.train import train


def lines_of(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "run.jsonl").read_text().splitlines()]


def test_a_run_records_its_starts_its_end_and_a_trace(
    settings: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    values = settings(report={"profile_steps": [2, 3]}, checkpoint={"save_every_steps": 2}, steps=2)
    output = Path(str(values["output"]))
    train(configs.parse(values, RunConfig, "the test's run"))
    train(configs.parse(values | {"steps": 4}, RunConfig, "the test's run"))
    first, end, second, last = lines_of(output)
    assert first["start"]["step"] == 0 and second["start"]["step"] == 2
    assert first["start"]["config"] == configs.dump(configs.parse(values, RunConfig, "the test's run"))
    assert second["start"]["config"]["steps"] == 4 and second["start"]["process"] == os.getpid()
    assert end["end"]["reason"] == last["end"]["reason"] == "finished"
    assert (second["start"]["planned_steps"], second["start"]["used_seconds"]) == (4, 0.0)
    assert set(first["start"]["unigram_baseline"]) == {"masked_lm"}
    # The first run ends within the steps to profile, the second begins within them.
    traces = sorted(path.name for path in (output / "profile").iterdir())
    assert traces == ["steps-2-2-rank-0.json.gz", "steps-3-3-rank-0.json.gz"]
    events = json.loads(gzip.decompress((output / "profile" / traces[0]).read_bytes()))["traceEvents"]
    assert {"data", "forward", "backward", "optimizer"} <= {event.get("name") for event in events}
    assert any(str(event.get("name")).startswith("aten::") for event in events)
    assert "https://ui.perfetto.dev" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Stopped("SIGTERM after step 4"), "stopped: SIGTERM after step 4"),
        (TrainingError("step 3: a\nb"), "failed: step 3: a\\nb"),
        (KeyboardInterrupt(), "failed: KeyboardInterrupt"),
    ],
    ids=str,
)
def test_the_reason_of_an_end(error: BaseException, reason: str, tmp_path: Path) -> None:
    (tmp_path / "run.jsonl").write_text('{"start": {"st')
    with pytest.raises(type(error)), recorded_end(tmp_path):
        write_start(tmp_path, 3, {"config": {}})
        raise error
    torn, start, end = (tmp_path / "run.jsonl").read_text().splitlines()
    assert torn == '{"start": {"st' and json.loads(start)["start"]["step"] == 3
    assert json.loads(end)["end"]["reason"] == reason


def test_a_run_that_does_not_start_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError), recorded_end(tmp_path):
        raise ConfigError("refused")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("steps", [[0, 2], [3, 2], [1, 101]], ids=str)
def test_steps_to_profile_are_a_range(steps: list[int], settings: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(ConfigError, match=r"report\.profile_steps.*write it as \[100, 102\]"):
        configs.parse(settings(report={"profile_steps": steps}), RunConfig, "the test's run")
