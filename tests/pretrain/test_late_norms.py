"""A gradient norm that a GPU is computing is checked a step later, and always before anything is reported or saved."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sesame import configs
from sesame.configs.errors import TrainingError
from sesame.pretrain.config import RunConfig
from sesame.pretrain.train import Run, train
from tests.pretrain.watch.planted import LateNumber, make_late


@pytest.mark.parametrize(("bad", "last"), [(3, 4), (4, 4)])
def test_a_norm_that_is_not_finite_stops_the_run_before_it_saves(
    bad: int, last: int, settings: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step 4 is reported and would be saved; step 3 is not."""
    make_late(monkeypatch)
    steps, train_step = [], Run.train_step

    def diverging(run: Run) -> Any:
        metrics = train_step(run)
        steps.append(run.step)
        return metrics._replace(gradient_norm=LateNumber(math.nan if run.step == bad else 1.0))

    monkeypatch.setattr(Run, "train_step", diverging)
    values = settings(report={"every_steps": 4}, checkpoint={"save_every_steps": 4})
    with pytest.raises(TrainingError, match=f"step {bad}: gradient norm is nan"):
        train(configs.parse(values, RunConfig, "run.toml"))
    assert steps[-1] == last
    assert not list((tmp_path / "run").glob("step-*"))
