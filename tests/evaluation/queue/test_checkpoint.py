"""What can be evaluated: a model folder of transformers as it is, and what is refused in a sentence."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sesame import configs
from sesame.configs.errors import CheckpointError, ConversionError
from sesame.evaluation.config import EvaluationConfig
from sesame.evaluation.evaluate import evaluate


@pytest.fixture
def config(letters: Path) -> Callable[[Path], EvaluationConfig]:
    def make(checkpoint: Path) -> EvaluationConfig:
        values: dict[str, Any] = {
            "checkpoint": str(checkpoint),
            "data_dir": str(letters),
            "suite": {"tasks": ["SST-2"], "seeds": [1], "baseline": False, "predict_test": False},
            "finetune": {"learning_rate": 3e-3, "epochs": 1, "batch_size": 32, "sequence_length": 48},
        }
        return configs.parse(values, EvaluationConfig, "test")

    return make


def outputs(folder: Path) -> np.ndarray:
    [path] = (folder / "results").glob("*.npz")
    with np.load(path, allow_pickle=False) as arrays:
        return arrays["set "]


def test_a_folder_of_transformers_is_evaluated_as_it_is(
    config: Callable[[Path], EvaluationConfig], write_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    from sesame.pretrain.huggingface.to_hf import export

    ours = write_checkpoint(tmp_path / "ours")
    theirs = export(ours, tmp_path / "theirs").folder
    evaluate(config(ours), tmp_path / "a")
    evaluate(config(theirs), tmp_path / "b")
    np.testing.assert_allclose(outputs(tmp_path / "b"), outputs(tmp_path / "a"), rtol=0, atol=1e-5)
    report = json.loads((tmp_path / "b" / "report.json").read_text())
    assert report["checkpoint"] == str(theirs) and report["step"] == 0
    assert not list((tmp_path / "b").glob(".*"))
    assert configs.load(tmp_path / "b" / "evaluation.toml", EvaluationConfig).checkpoint == theirs


def test_the_settings_file_names_the_checkpoint_that_was_scored(
    config: Callable[[Path], EvaluationConfig], write_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    """A run may save a newer one before the evaluation is repeated."""
    first, second = (tmp_path / "run" / "checkpoints" / f"step-{step:08d}" for step in (10, 20))
    write_checkpoint(first, step=10)
    evaluate(config(tmp_path / "run"), tmp_path / "out")
    write_checkpoint(second, step=20)
    again = configs.load(tmp_path / "out" / "evaluation.toml", EvaluationConfig)
    assert again.checkpoint == first and again.data_dir == tmp_path
    evaluate(again)
    assert json.loads((tmp_path / "out" / "report.json").read_text())["step"] == 10


def test_what_is_no_model_is_refused_and_nothing_is_written(
    config: Callable[[Path], EvaluationConfig], tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    with pytest.raises(CheckpointError, match="does not contain a checkpoint"):
        evaluate(config(folder), tmp_path / "out")
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ConversionError):
        evaluate(config(folder), tmp_path / "out")
    assert not (tmp_path / "out").exists()
