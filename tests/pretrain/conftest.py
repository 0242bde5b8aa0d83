"""A small BERT run as plain values, for tests to change."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Settings = Callable[..., dict[str, Any]]


@pytest.fixture
def settings(dataset: Path, tmp_path: Path) -> Settings:
    """``settings(section={key: value})``: a run of a two-layer BERT in fp32 with those changes."""

    def make(**changes: Any) -> dict[str, Any]:
        values: dict[str, Any] = {
            "output": str(tmp_path / "run"),
            "steps": 8,
            "data": {"dataset": str(dataset), "global_batch": 16, "micro_batch": 4},
            "model": {
                "family": "bert",
                "layers": 2,
                "width": 32,
                "heads": 4,
                "feed_forward_width": 64,
                "positions": 64,
                # Large enough for attention to matter: near zero its gradients are mostly rounding.
                "initial_std": 0.05,
                "dropout": 0.0,
                "attention_dropout": 0.0,
            },
            "objectives": {"masked_lm": 1.0, "sentence_pairs": 1.0},
            "optimizer": {"name": "sgd", "learning_rate": 0.1, "gradient_clipping": 1.0},
            "parallel": {"precision": "fp32", "zero_stage": 1, "threads": 1},
            "report": {"every_steps": 2, "validate_every_steps": 100, "validation_rows": 64, "tensorboard": False},
        }
        for section, change in changes.items():
            values[section] = {**values.get(section, {}), **change} if isinstance(change, dict) else change
        return values

    return make
