"""A suite of one task whose files are there, SST-2 of letters, and one whose files are not."""

from pathlib import Path
from typing import Any

from sesame import configs
from sesame.evaluation.config import EvaluationConfig

SUITE: dict[str, Any] = {
    "suite": {"tasks": ["SST-2", "RTE"], "seeds": [1, 2]},
    "finetune": {"learning_rate": 3e-3, "epochs": 2, "batch_size": 16, "sequence_length": 64, "pooling": "mean"},
}


def suite_config(data_dir: Path, **suite: Any) -> EvaluationConfig:
    folders = {"checkpoint": "run", "data_dir": str(data_dir)}
    return configs.parse({**SUITE, **folders, "suite": {**SUITE["suite"], **suite}}, EvaluationConfig, "test")
