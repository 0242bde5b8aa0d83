"""A tiny model learns an easy task, alike for the same seed, and batches hold every row once."""

import numpy as np
import pytest
import torch

import configs
from configs.errors import TaskError
from evaluation.config import FinetuneConfig
from evaluation.encoding import load_task
from evaluation.finetune import Scale, Tuned, finetune, predict, score, shuffled_batches
from evaluation.tasks import TASKS
from pretrain.initialization import materialise, random_value
from pretrain.models import FAMILIES
from pretrain.models.family import Vocabulary
from tests.pretrain.family_runs import FAMILY_RUNS

CPU = torch.device("cpu")
VOCABULARY = 128
EASY = FinetuneConfig(learning_rate=3e-3, epochs=3, batch_size=16, sequence_length=64, attention_dropout=0.0)


@pytest.fixture
def data(letters, tokenizer):
    return load_task(TASKS["SST-2"], EASY, letters, tokenizer, True)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_an_easy_task_is_learned(data, backbone, precision, pooling):
    config = EASY.model_copy(update={"precision": precision, "pooling": pooling})
    outcome = finetune(backbone, data, config, 1, CPU)
    assert outcome.scores["accuracy"] > 0.95
    assert outcome.epoch == 3 and len(outcome.predictions["SST-2"]) == 20


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_learns_an_easy_task(data, family):
    values = next(run.model for run in FAMILY_RUNS.values() if run.model["family"] == family)
    config = configs.parse(values, FAMILIES[family].config, "the test's model")
    with torch.device("meta"):
        backbone = FAMILIES[family].module(config, Vocabulary(VOCABULARY))
    draw = random_value(1, config.init_std)
    materialise(backbone, lambda name, parameter: draw(name, parameter.shape))
    if family == "elmo":
        # As a tokenizer of single letters spells them.
        backbone.spelling_VC[:, 1] = torch.arange(len(backbone.spelling_VC))
    assert finetune(backbone, data, EASY, 1, CPU).scores["accuracy"] > 0.95


def test_a_regression_is_learned_in_its_own_unit(letters, tokenizer, backbone):
    rows = [f"{'z' * good}{'a' * (10 - good)}\tx\t{good / 2}" for good in range(11)] * 12
    for split in ("train", "dev"):
        path = letters / "STS-B" / f"{split}.tsv"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(["sentence1\tsentence2\tscore", *rows]) + "\n")
    data = load_task(TASKS["STS-B"], EASY, letters, tokenizer, True)
    assert data.test == {} and "STS-B/test.tsv is missing" in data.notes[0]
    steps = []
    outcome = finetune(
        backbone, data, EASY.model_copy(update={"epochs": 8, "pooling": "mean"}), 1, CPU, lambda *at: steps.append(at)
    )
    assert outcome.scores["pearson"] > 0.9 and outcome.scores["spearman"] > 0.9
    assert steps[-1] == (72, 72)


def test_the_same_seed_gives_the_same_scores_and_another_seed_other_weights(data, make_backbone):
    runs = []
    for seed in (1, 1, 2):
        module = make_backbone(1)
        outcome = finetune(module, data, EASY.model_copy(update={"epochs": 1}), seed, CPU)
        runs.append((outcome, next(module.parameters()).detach().clone()))
    assert runs[0][0].scores == runs[1][0].scores
    assert np.array_equal(runs[0][0].predictions["SST-2"], runs[1][0].predictions["SST-2"])
    assert torch.equal(runs[0][1], runs[1][1]) and not torch.equal(runs[0][1], runs[2][1])


def test_the_best_epoch_is_the_one_that_is_scored(data, backbone):
    config = EASY.model_copy(update={"select": "best", "epochs": 4})
    outcome = finetune(backbone, data, config, 1, CPU)
    assert 1 <= outcome.epoch <= 4 and outcome.scores["accuracy"] > 0.95


def test_a_run_that_diverges_is_an_error_and_not_a_score(data, backbone):
    with torch.no_grad():
        backbone.token_embedding.weight.fill_(float("nan"))
    with pytest.raises(TaskError, match=r"gradient is not a number at step 0 .* lower it under"):
        finetune(backbone, data, EASY, 1, CPU)


def test_dropout_is_set_everywhere(data, backbone):
    model = Tuned(backbone, data.task, EASY.model_copy(update={"dropout": 0.3, "attention_dropout": 0.2}))
    assert {part.p for part in model.modules() if isinstance(part, torch.nn.Dropout)} == {0.3}
    assert {block.attention.core.dropout for block in model.backbone.blocks} == {0.2}


def test_batches_hold_every_row_once_in_an_order_of_the_seed():
    lengths = np.random.default_rng(3).integers(3, 60, 1000)
    first, again, other = (shuffled_batches(lengths, 16, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert sorted(np.concatenate(first)) == list(range(1000))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    assert max(np.ptp(lengths[rows]) for rows in first) <= 6


def test_predictions_are_in_the_order_of_the_file(data, backbone):
    """Also when the rows fill several batches."""
    model = Tuned(backbone, data.task, EASY)
    scale = Scale.of(data.train.labels, data.task)
    whole = predict(model, data.train, EASY, CPU, scale)
    alone = [predict(model, data.train.take(np.array([row])), EASY, CPU, scale)[0] for row in range(20)]
    assert whole[:20].tolist() == alone
    assert 0 <= score(model, data, EASY, CPU, scale)["accuracy"] <= 1
