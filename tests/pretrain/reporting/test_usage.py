"""Time and memory in the JSON lines: of one process, and of several with a slow one."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sesame import configs
from sesame.pretrain.config import RunConfig
from sesame.pretrain.reporting.usage import COLUMNS, MOST_RANKS, Usage, UsageMeter
from sesame.pretrain.step_timer import StepTimer
from sesame.pretrain.train import Run, train

SLEEP = 1.0
"""Seconds by which a step of the slow process is longer."""


def rows_of(output: str | Path) -> list[dict[str, Any]]:
    lines = (Path(output) / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if "train" in row]


def usage(*forward: float) -> Usage:
    """Two steps of processes whose forward takes ``forward`` seconds and communication 9."""
    return Usage(2, tuple((0.0, each, 0.0, 9.0, 0.0, 0.0, 1.0 + each) for each in forward))


def test_columns_are_means_and_the_largest_memory() -> None:
    assert COLUMNS[1] == "forward" and COLUMNS[3] == "communication" and COLUMNS[-1] == "memory_gib"
    fields = usage(1, 3).fields()
    assert fields["steps"] == 2 and fields["memory_gib"] == 4
    assert fields["time"] == {**dict.fromkeys(COLUMNS[:-1], 0.0), "forward": 2, "communication": 9}


def test_the_slow_process_is_named_by_its_work_and_not_by_its_waiting() -> None:
    found = usage(1, 1, 3, 1)
    assert found.fields()["rank_seconds"] == [0.5, 0.5, 1.5, 0.5]
    assert found.fields()["ranks"] == {"median": 0.5, "slowest": 1.5, "slowest_rank": 2}


def test_a_line_does_not_grow_with_the_processes() -> None:
    fields = usage(*[1.0] * MOST_RANKS, 2.0).fields()
    assert "rank_seconds" not in fields and fields["ranks"]["slowest_rank"] == MOST_RANKS


def test_saving_is_what_was_added_since_the_last_report() -> None:
    meter = UsageMeter(StepTimer(torch.device("cpu")), torch.device("cpu"), 0, 1)
    read = [meter.read(1, seconds, lambda tensor: tensor).fields() for seconds in (2.0, 2.5)]
    assert [each["time"]["saving"] for each in read] == [2.0, 0.5]
    assert 0.05 < read[0]["memory_gib"] < 64


def test_a_run_reports_where_its_time_went(settings: Callable[..., dict[str, Any]]) -> None:
    values = settings(data={"global_batch": 8, "micro_batch": 4}, steps=4)
    train(configs.parse(values, RunConfig, "the test's run"))
    rows = rows_of(values["output"])
    assert [row["steps"] for row in rows] == [2, 2]
    for row in rows:
        parts = row["time"]
        assert min(parts["data"], parts["forward"], parts["backward"], parts["optimizer"]) > 0
        assert parts["communication"] == 0 and sum(parts.values()) <= row["report_seconds"]
        assert sum(parts.values()) > 0.5 * row["report_seconds"]
        assert "ranks" not in row and "model_flops_use" not in row


def main(config: str) -> None:
    """Train with a process of rank 1 that is slow to compute."""
    values = json.loads(Path(config).read_text())
    step = Run.train_step

    def slow_step(self: Run) -> Any:
        if self.mesh.rank == 1:
            with self.mesh.timer.phase("forward"):
                time.sleep(SLEEP)
        return step(self)

    Run.train_step = slow_step
    train(configs.parse(values, RunConfig, "the test's run"))


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [{"zero_stage": 1}, {"zero_stage": 3}, {"zero_stage": 1, "tensor": 2}], ids=str)
def test_a_slow_process_is_reported(
    parallel: dict[str, Any], settings: Callable[..., dict[str, Any]], world: Callable[..., list[str]], tmp_path: Path
) -> None:
    values = settings(parallel=parallel, steps=6)
    config = tmp_path / "run.json"
    config.write_text(json.dumps(values))
    printed = world(2, Path(__file__), str(config))
    rows = rows_of(values["output"])
    # In the first steps either may be slow, and on a busy machine a little in all.
    for row in rows[1:]:
        assert row["ranks"]["slowest_rank"] == 1 and row["ranks"]["slowest"] - row["ranks"]["median"] > 0.6 * SLEEP
        # The other process waits for it in a collective.
        assert row["time"]["communication"] > 0.6 * SLEEP * row["steps"] / 2
    assert "process 1 takes" in printed[0] and "times the median" in printed[0]


if __name__ == "__main__":
    import sys

    main(*sys.argv[1:])
