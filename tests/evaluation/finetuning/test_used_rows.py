"""Training the used rows of the token embedding: the same weights as if all rows were trained."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.evaluation.finetune_config import FinetuneConfig
from sesame.evaluation.finetuning import trainer
from sesame.evaluation.finetuning.encoding import TaskData, load_task
from sesame.evaluation.finetuning.finetune import finetune
from sesame.evaluation.finetuning.used_rows import AllRows, UsedRows, rows_to_train
from sesame.evaluation.tasks import TASKS
from sesame.pretrain.models.bert import Bert

CPU = torch.device("cpu")
CONFIG = FinetuneConfig(
    learning_rate=3e-3,
    epochs=2,
    batch_size=16,
    sequence_length=64,
    precision="fp32",
    weight_decay=0.5,
    gradient_clipping=0.0,
)


@pytest.fixture
def data(letters: Path, letter_tokenizer: Tokenizer) -> TaskData:
    return load_task(TASKS["SST-2"], CONFIG, letters, letter_tokenizer, False)


@pytest.mark.parametrize(
    ("changes", "is_exact"),
    [
        ({}, True),
        ({"select": "best", "layer_decay": 0.7, "decay": "cosine"}, True),
        ({"weight_decay": 1e-4, "weight_decay_times": "schedule", "dropout": 0.0}, True),
        # The order of a sum of squares is another one.
        ({"gradient_clipping": 0.1}, False),
    ],
)
def test_all_weights_are_those_of_training_all_rows(
    changes: dict[str, Any],
    is_exact: bool,
    data: TaskData,
    make_backbone: Callable[[int], Bert],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = CONFIG.model_copy(update=changes)
    assert data.train is not None
    backbones, outcomes = [make_backbone(1), make_backbone(1)], []
    before = backbones[0].token_embedding.weight.detach().clone()
    for backbone in backbones:
        outcomes.append(finetune(backbone, data, config, 1, CPU))
        monkeypatch.setattr(trainer, "rows_to_train", lambda *_: AllRows())
    rtol, atol = (0.0, 0.0) if is_exact else (1e-5, 1e-6)
    names = [list(backbone.state_dict()) for backbone in backbones]
    assert names[0] == names[1]
    used = np.unique(np.concatenate(data.train.tokens))
    found, expected = (dict(backbone.state_dict()) for backbone in backbones)
    rows, all_rows = (state.pop("token_embedding.weight") for state in (found, expected))
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=rtol, atol=atol)
    torch.testing.assert_close(rows[used], all_rows[used], rtol=rtol, atol=atol)
    # The factors of the steps are multiplied before they are rounded.
    torch.testing.assert_close(rows, all_rows, rtol=1e-6, atol=1e-8)
    unused = np.setdiff1d(np.arange(len(rows)), used)
    assert len(unused) > 50 and 0.5 < float((rows[unused] / before[unused]).mean()) < 0.9999
    np.testing.assert_allclose(outcomes[0].dev[""], outcomes[1].dev[""], rtol=rtol, atol=1e-5)
    assert outcomes[0].dev_scores == outcomes[1].dev_scores


def test_most_rows_and_those_of_a_decoder_are_trained_as_a_table(data: TaskData, backbone: Bert) -> None:
    assert data.train is not None
    assert isinstance(rows_to_train(backbone, data.train, CPU), UsedRows)
    whole = replace(data.train, tokens=[*data.train.tokens, np.arange(120, dtype=np.int32)])
    assert isinstance(rows_to_train(backbone, whole, CPU), AllRows)
    said = replace(data.train, decoder_tokens=data.train.tokens)
    assert isinstance(rows_to_train(backbone, said, CPU), AllRows)
