"""A run with an initial checkpoint starts from its weights, logs what is new, and refuses what does not fit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sesame import configs
from sesame.configs.errors import CheckpointError
from sesame.pretrain.checkpoints.load import open_checkpoint
from sesame.pretrain.config import RunConfig
from sesame.pretrain.learner import Learner
from sesame.pretrain.train import train
from tests.pretrain.checkpoints.records import write_record

Settings = Callable[..., dict[str, Any]]
Drawn = Callable[..., Learner]


def run(values: dict[str, Any]) -> Path:
    return train(configs.parse(values, RunConfig, "run.toml"))


def test_training_starts_from_the_weights(
    settings: Settings, drawn: Drawn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without_learning = {
        "steps": 1,
        "optimizer": {"learning_rate": 1e-12},
        "initial_checkpoint": str(tmp_path / "first"),
    }
    values = settings(**without_learning)
    first = drawn(tmp_path / "first", "bert", {**_shape(values), "activation": "gelu_tanh"}, ("masked_lm",))
    folder = run(values)
    output = capsys.readouterr().out
    assert "starting from the weights of" in output and "(step 7)" in output
    assert "new, because it lacks them: objectives.sentence_pairs.pooler.weight" in output
    assert "model settings that differ: activation gelu_tanh -> gelu" in output
    weights = load_file(folder / "weights-00000-000.safetensors")
    for name, value in first.named_parameters():
        torch.testing.assert_close(weights[name], value.detach(), rtol=0, atol=1e-6)
    alone = settings(**{**without_learning, "initial_checkpoint": None}) | {"output": str(tmp_path / "alone")}
    random = load_file(run(alone) / "weights-00000-000.safetensors")
    name = "objectives.sentence_pairs.classifier.weight"
    torch.testing.assert_close(weights[name], random[name], rtol=0, atol=1e-6)
    assert not torch.equal(weights["backbone.token_embedding.weight"], random["backbone.token_embedding.weight"])
    assert open_checkpoint(folder).record.step == 1


def test_what_does_not_fit_is_refused(settings: Settings, drawn: Drawn, tmp_path: Path) -> None:
    values = settings(steps=1, initial_checkpoint=str(tmp_path / "first"))
    drawn(tmp_path / "first", "bert", {**_shape(values), "feed_forward_width": 48}, ("masked_lm",))
    with pytest.raises(CheckpointError, match=r"up\.weight is 48x32 .* but 64x32 .* another initial_checkpoint"):
        run(values)
    write_record(tmp_path / "first", lambda record: record.update(tokenizer_sha256="0"))
    with pytest.raises(CheckpointError, match="has another tokenizer than the dataset"):
        run(values)
    with pytest.raises(CheckpointError, match="does not contain a checkpoint; initial_checkpoint is"):
        run({**values, "initial_checkpoint": str(tmp_path / "nothing")})


def _shape(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values["model"].items() if name != "family"}
