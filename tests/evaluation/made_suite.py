"""A suite of SST-2, whose files are made of letters, and RTE, which has no files; and what evaluations of it did."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from sesame import configs
from sesame.evaluation.config import EvaluationConfig


class Calls(NamedTuple):
    """What evaluations have done."""

    loads: list[str]
    """Name of each checkpoint that was loaded."""
    seeds: list[int | None]
    """Of the random weights of each job; None: those of the checkpoint."""

    def clear(self) -> None:
        self.loads.clear()
        self.seeds.clear()


SUITE: dict[str, Any] = {
    "suite": {"tasks": ["SST-2", "RTE"], "seeds": [1, 2]},
    "finetune": {"learning_rate": 3e-3, "epochs": 2, "batch_size": 16, "sequence_length": 64, "pooling": "mean"},
}


def suite_config(data_dir: Path, **suite: Any) -> EvaluationConfig:
    folders = {"checkpoint": "run", "data_dir": str(data_dir)}
    return configs.parse({**SUITE, **folders, "suite": {**SUITE["suite"], **suite}}, EvaluationConfig, "test")


def report_without_times(folder: Path) -> dict[str, Any]:
    """Return ``report.json`` but for what differs between two runs of one evaluation."""
    values = json.loads((folder / "report.json").read_text())
    del values["started"]
    for task in values["tasks"].values():
        del task["seconds"]
    return values
