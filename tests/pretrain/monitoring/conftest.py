"""Folders of runs, written as a run writes them, with numbers that tests know."""

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

MakeRun = Callable[..., Path]


def report(step: int, loss: float, **changes: Any) -> dict[str, Any]:
    """A line of metrics.jsonl: ten steps of 100 ms each, half of them forward."""
    parts = {"data": 0.1, "forward": 0.5, "backward": 0.2, "communication": 0.0, "optimizer": 0.1, "saving": 0.0}
    return {
        "step": step,
        "train": {"masked_lm": loss},
        "learning_rate": 0.001,
        "gradient_norm": 1.0,
        "tokens_per_second": 1000.0,
        "teraflops": 0.5,
        "seconds": step / 10,
        "report_seconds": 1.0,
        "steps": 10,
        "time": parts,
        "memory_gib": 1.5,
        **changes,
    }


def append(folder: Path, name: str, *rows: dict[str, Any]) -> None:
    with (folder / f"{name}.jsonl").open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """``make_run(name, losses, learning_rate)``: a run of a report for each loss, that has not ended."""

    def make(name: str = "run", losses: tuple[float, ...] = (8.0, 7.0, 6.0), learning_rate: float = 0.001) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        config = {
            "output": str(folder),
            "steps": 100,
            "stop": {"minutes": None},
            "model": {"family": "bert"},
            "optimizer": {"learning_rate": learning_rate},
        }
        start = {
            "step": 0,
            "time": "2026-01-01T12:00:00+00:00",
            "host": socket.gethostname(),
            "process": os.getpid(),
            "parameters": 1234,
            "processes": 1,
            "device_name": "a <device>",
            "peak_source": "unknown: measure it",
            "unigram_baseline": {"masked_lm": 6.5},
            "config": config,
        }
        append(folder, "run", {"start": start})
        append(folder, "metrics", *(report(10 * (number + 1), loss) for number, loss in enumerate(losses)))
        append(folder, "metrics", {"step": 10 * len(losses), "validation": {"masked_lm": losses[-1] + 0.25}})
        return folder

    return make
