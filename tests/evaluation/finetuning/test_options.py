"""Settings of fine-tuning that save time or memory: early stopping and recomputation."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sesame import configs
from sesame.configs.errors import ConfigError, TaskError
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.evaluation.finetune_config import FinetuneConfig
from sesame.evaluation.finetuning import finetune as module
from sesame.evaluation.finetuning.encoding import TaskData, load_task
from sesame.evaluation.finetuning.finetune import finetune
from sesame.evaluation.tasks import TASKS
from sesame.pretrain.models.bert import Bert

CPU = torch.device("cpu")
SETTINGS = FinetuneConfig(learning_rate=3e-3, epochs=6, batch_size=32, sequence_length=64, precision="fp32")


@pytest.fixture
def data(letters: Path, letter_tokenizer: Tokenizer) -> TaskData:
    return load_task(TASKS["SST-2"], SETTINGS, letters, letter_tokenizer, False)


def test_recomputation_changes_no_output(data: TaskData, make_backbone: Callable[[int], Bert]) -> None:
    """Dropout draws the same numbers both times."""
    found = []
    for recompute in (False, True):
        config = SETTINGS.model_copy(update={"recompute": recompute, "epochs": 1})
        found.append(finetune(make_backbone(1), data, config, 1, CPU).dev[""])
    np.testing.assert_array_equal(found[0], found[1])


def test_a_model_without_blocks_cannot_be_recomputed(
    data: TaskData, backbone: Bert, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in backbone.modules():
        if hasattr(each, "recomputable"):
            monkeypatch.setattr(type(each), "recomputable", "none")
    config = SETTINGS.model_copy(update={"recompute": True})
    with pytest.raises(TaskError, match="no blocks that can be computed again; set it to false"):
        finetune(backbone, data, config, 1, CPU)


@pytest.mark.parametrize(("patience", "epochs", "best"), [(0, 6, 6), (1, 3, 2), (2, 4, 2), (3, 6, 6)])
def test_training_ends_after_epochs_without_a_better_score(
    data: TaskData, backbone: Bert, monkeypatch: pytest.MonkeyPatch, patience: int, epochs: int, best: int
) -> None:
    values = iter([0.5, 0.7, 0.7, 0.6, 0.8, 0.9])
    steps: list[int] = []
    monkeypatch.setattr(module, "scores_of", lambda data, outputs: {"accuracy": next(values)})
    config = SETTINGS.model_copy(update={"select": "best", "early_stopping": patience})
    outcome = finetune(backbone, data, config, 1, CPU, lambda step, total: steps.append(step))
    assert outcome.epoch == best and len(steps) == epochs * 7
    assert isinstance(backbone, nn.Module)


def test_early_stopping_needs_scores() -> None:
    with pytest.raises(ConfigError, match='early_stopping compares the dev scores of epochs; set select = "best"'):
        configs.parse({"early_stopping": 2}, FinetuneConfig, "finetune")
