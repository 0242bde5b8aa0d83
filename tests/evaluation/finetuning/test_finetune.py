"""Fine-tuning of tiny models: learning, reproducibility, batches, predictions."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sesame import configs
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.evaluation.finetune_config import FinetuneConfig
from sesame.evaluation.finetuning.batches import shuffled_batches
from sesame.evaluation.finetuning.encoding import TaskData, load_task
from sesame.evaluation.finetuning.finetune import (
    DivergedError,
    Outcome,
    TaskModel,
    answers,
    finetune,
    scores_of,
)
from sesame.evaluation.finetuning.kinds import KINDS
from sesame.evaluation.finetuning.trainer import predict
from sesame.evaluation.tasks import TASKS
from sesame.pretrain.initialization import materialise, random_value
from sesame.pretrain.layers.attention import CoreAttention
from sesame.pretrain.models import FAMILIES
from sesame.pretrain.models.bert import Bert
from sesame.pretrain.models.family import Vocabulary
from tests.pretrain.family_runs import FAMILY_RUNS

CPU = torch.device("cpu")
VOCABULARY = 128
EASY = FinetuneConfig(
    learning_rate=3e-3, epochs=3, batch_size=16, sequence_length=64, attention_dropout=0.0, precision="fp32"
)


@pytest.fixture
def data(letters: Path, letter_tokenizer: Tokenizer) -> TaskData:
    return load_task(TASKS["SST-2"], EASY, letters, letter_tokenizer, True)


def scores(data: TaskData, outcome: Outcome) -> dict[str, float]:
    return scores_of(data, outcome.dev)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_an_easy_task_is_learned(data: TaskData, backbone: Bert, precision: str, pooling: str) -> None:
    config = EASY.model_copy(update={"precision": precision, "pooling": pooling})
    outcome = finetune(backbone, data, config, 1, CPU)
    assert scores(data, outcome)["accuracy"] > 0.95
    assert outcome.epoch == 3 and outcome.test["SST-2"].shape == (20, 2)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_learns_an_easy_task(data: TaskData, family: str) -> None:
    values = next(run.model for run in FAMILY_RUNS.values() if run.model["family"] == family)
    config = configs.parse(values, FAMILIES[family].config, "the test's model")
    with torch.device("meta"):
        backbone = FAMILIES[family].module(config, Vocabulary(VOCABULARY))
    draw = random_value(1, config.init_std)
    materialise(backbone, lambda name, parameter: draw(name, parameter.shape))
    if family == "elmo":
        # The spelling of a token is its only letter.
        backbone.spelling_VC[:, 1] = torch.arange(len(backbone.spelling_VC))
    assert scores(data, finetune(backbone, data, EASY, 1, CPU))["accuracy"] > 0.95


def test_a_regression_predicts_scores_in_the_unit_of_the_labels(
    letters: Path, letter_tokenizer: Tokenizer, backbone: Bert
) -> None:
    rows = [f"{'z' * good}{'a' * (10 - good)}\tx\t{good / 2}" for good in range(11)] * 12
    for split, word in (("train", "x"), ("dev", "y")):
        path = letters / "STS-B" / f"{split}.tsv"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(["sentence1\tsentence2\tscore", *(row.replace("x", word) for row in rows)]) + "\n")
    data = load_task(TASKS["STS-B"], EASY, letters, letter_tokenizer, True)
    assert data.test == {} and "STS-B/test.tsv is missing" in data.notes[0]
    steps = []
    config = EASY.model_copy(update={"epochs": 8, "pooling": "mean"})
    outcome = finetune(backbone, data, config, 1, CPU, lambda *progress: steps.append(progress))
    found = scores(data, outcome)
    assert found["pearson"] > 0.9 and found["spearman"] > 0.9
    assert steps[-1] == (72, 72)


def test_a_seed_determines_scores_and_weights(data: TaskData, make_backbone: Callable[[int], Bert]) -> None:
    runs = []
    for seed in (1, 1, 2):
        module = make_backbone(1)
        outcome = finetune(module, data, EASY.model_copy(update={"epochs": 1}), seed, CPU)
        runs.append((outcome, next(module.parameters()).detach().clone()))
    assert np.array_equal(runs[0][0].dev[""], runs[1][0].dev[""])
    assert np.array_equal(runs[0][0].test["SST-2"], runs[1][0].test["SST-2"])
    assert torch.equal(runs[0][1], runs[1][1]) and not torch.equal(runs[0][1], runs[2][1])


def test_the_best_epoch_is_scored(data: TaskData, backbone: Bert) -> None:
    config = EASY.model_copy(update={"select": "best", "epochs": 4})
    outcome = finetune(backbone, data, config, 1, CPU)
    assert 1 <= outcome.epoch <= 4 and scores(data, outcome)["accuracy"] > 0.95


def test_a_diagnostic_set_does_not_select_the_epoch(data: TaskData, backbone: Bert) -> None:
    dev = data.task.dev[""]
    task = replace(data.task, dev={"": dev, "x": replace(dev, file="x.tsv", optional=True)})
    flipped = replace(data.dev[""], labels=1 - data.dev[""].labels)
    diagnosed = replace(data, task=task, dev={"": data.dev[""], "x": flipped})
    outcome = finetune(backbone, diagnosed, EASY.model_copy(update={"select": "best"}), 1, CPU)
    found = scores(diagnosed, outcome)
    assert outcome.dev_scores[outcome.epoch - 1] == max(outcome.dev_scores) == found["accuracy"] > 0.95
    assert found["x accuracy"] == 1 - found["accuracy"]


def test_a_diverged_run_is_an_error(data: TaskData, backbone: Bert) -> None:
    with torch.no_grad():
        backbone.token_embedding.weight.fill_(float("nan"))
    with pytest.raises(DivergedError, match=r"gradient norm is not finite at step 0 .* lower it under"):
        finetune(backbone, data, EASY, 1, CPU)


def test_an_unresolved_precision_is_an_error(data: TaskData, backbone: Bert) -> None:
    with pytest.raises(ValueError, match="'auto' has not been resolved"):
        finetune(backbone, data, EASY.model_copy(update={"precision": "auto"}), 1, CPU)


def test_dropout_is_set_everywhere(data: TaskData, backbone: Bert) -> None:
    model = TaskModel(backbone, data.task, EASY.model_copy(update={"dropout": 0.3, "attention_dropout": 0.2}))
    assert {part.p for part in model.modules() if isinstance(part, torch.nn.Dropout)} == {0.3}
    assert {part.dropout for part in model.modules() if isinstance(part, CoreAttention)} == {0.2}


def test_batches_contain_every_row_once_in_an_order_of_the_seed() -> None:
    lengths = np.random.default_rng(3).integers(3, 60, 1000)
    first, again, other = (shuffled_batches(lengths, 16, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert sorted(np.concatenate(first)) == list(range(1000))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    assert all((np.diff(lengths[rows]) >= 0).all() for rows in first) and len(first[-1]) == 1000 % 16
    # Of all lengths, as rows in the order of the seed.
    expected = np.random.default_rng(1).permutation(1000)[:16]
    assert set(first[0]) == set(expected) and min(np.ptp(lengths[rows]) for rows in first[:-1]) > 25


def test_predictions_are_in_the_order_of_the_file(data: TaskData, backbone: Bert) -> None:
    """With several batches, too."""
    model, train = TaskModel(backbone, data.task, EASY), data.train
    assert train is not None
    kind = KINDS["classify"]()
    whole = predict(model, train, EASY, CPU, kind)
    alone = [predict(model, train.take(np.array([row])), EASY, CPU, kind)[0] for row in range(20)]
    np.testing.assert_allclose(whole[:20], alone, atol=1e-5)
    assert answers(data.task, train, whole)[:20].tolist() == np.argmax(alone, 1).tolist()
