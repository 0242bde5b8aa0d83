"""Log-likelihoods of a causal and a masked model, compared with one sentence and one token at a time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sesame import configs
from sesame.configs.errors import TaskError
from sesame.configs.storage import digest_of
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.evaluation.finetune_config import FinetuneConfig
from sesame.evaluation.finetuning.encoding import load_task
from sesame.evaluation.finetuning.finetune import scores_of
from sesame.evaluation.tasks.task import Table, Task
from sesame.evaluation.zero_shot.language_model import load_language_model
from sesame.evaluation.zero_shot.likelihood import log_likelihoods
from sesame.pretrain import learner
from sesame.pretrain.batch import Batch
from sesame.pretrain.checkpoints.record import CheckpointMetadata
from sesame.pretrain.checkpoints.save import write_weights
from sesame.pretrain.data.packing import pack
from sesame.pretrain.initialization import random_value
from sesame.pretrain.models import parse_model
from sesame.pretrain.models.family import Vocabulary

MODELS: dict[str, dict[str, Any]] = {
    "masked_next": {"family": "bert", "layers": 1, "width": 16, "heads": 2, "feed_forward_width": 16, "positions": 48},
    "masked_lm": {"family": "bert", "layers": 1, "width": 16, "heads": 2, "feed_forward_width": 16, "positions": 48},
    "causal_lm": {"family": "gpt", "layers": 1, "width": 16, "heads": 2, "feed_forward_width": 16, "positions": 48},
    "none": {"family": "bert", "layers": 1, "width": 16, "heads": 2, "feed_forward_width": 16, "positions": 48},
}
TASK = Task(
    "Pairs",
    ("pair_accuracy",),
    train=None,
    dev={"": Table("pairs.jsonl", ("{choice}",), choices=("good", "bad"))},
    kind="minimal_pairs",
)
SETTINGS = FinetuneConfig(sequence_length=48, precision="fp32")


@pytest.fixture
def checkpoint(dataset: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Name of an objective -> a random checkpoint that has it."""

    def make(name: str) -> Path:
        content = (dataset / "tokenizer.model").read_bytes()
        pieces = len(Tokenizer.load(dataset / "tokenizer.model"))
        model = parse_model(MODELS[name], "test")
        objectives = {} if name == "none" else {name: 1.0}
        module = learner.build(model, objectives, Vocabulary(pieces, dataset / "tokenizer.model"))
        draw = random_value(3, lambda name, shape: 0.5)
        weights = {each: draw(each, value.shape) for each, value in module.named_parameters()}
        metadata = CheckpointMetadata(
            step=1, samples=8, seed=1, vocabulary_size=pieces, tokenizer_sha256=digest_of(content),
            config={"model": configs.dump(model), "objectives": objectives},
        )  # fmt: skip
        folder = tmp_path / name
        folder.mkdir()
        write_weights(folder, weights, content, metadata)
        return folder

    return make


@pytest.mark.parametrize("name", ["masked_lm", "causal_lm"])
def test_likelihoods_are_sums_over_single_tokens(checkpoint: Callable[[str], Path], name: str, tmp_path: Path) -> None:
    folder = checkpoint(name)
    lines = ['{"good": "the cat sees a dog", "bad": "the cat see a dog"}', '{"good": "one", "bad": "one"}']
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    tokenizer = Tokenizer.load(folder / "tokenizer.model")
    data = load_task(TASK, SETTINGS, tmp_path, tokenizer, False)
    found = log_likelihoods(folder, None, data, SETTINGS, torch.device("cpu"), lambda step, steps: None)
    model, head = load_language_model(folder)
    assert head == name
    for tokens, value in zip(data.dev[""].tokens, found[""][:, 0], strict=True):
        expected = 0.0
        for position in range(1, len(tokens) - 1):
            if name == "masked_lm":
                given = tokens.copy()
                given[position] = tokenizer.special.mask
                column, place = "mask_positions", position
            else:
                given, column, place = tokens[:position], "next_positions", position - 1
            batch = pack([given], [len(given)])
            batch = Batch(batch.layout, {**batch.columns, column: torch.tensor([place])})
            with torch.no_grad():
                logits = model.objectives[name].logits(model.backbone(batch), batch)[0]
            expected += float(logits.double().log_softmax(-1)[tokens[position]])
        assert value == pytest.approx(expected, abs=1e-4)
    scores = scores_of(data, found)
    first = float(found[""][0, 0] > found[""][1, 0])
    assert found[""][2, 0] == found[""][3, 0] and scores["pair_accuracy"] == pytest.approx((first + 0.5) / 2)


@pytest.mark.parametrize("name", ["masked_lm", "masked_next", "causal_lm"])
def test_bf16_is_close_to_fp32(checkpoint: Callable[[str], Path], name: str, tmp_path: Path) -> None:
    folder = checkpoint(name)
    lines = [
        '{"good": "the cat sees a dog", "bad": "the cat see a dog"}',
        '{"good": "one", "bad": "a dog sees two cats"}',
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    data = load_task(TASK, SETTINGS, tmp_path, Tokenizer.load(folder / "tokenizer.model"), False)
    found = []
    for precision in ("fp32", "bf16"):
        settings = SETTINGS.model_copy(update={"precision": precision})
        found.append(log_likelihoods(folder, None, data, settings, torch.device("cpu"), lambda step, steps: None)[""])
    assert not np.array_equal(*found)
    np.testing.assert_allclose(found[1], found[0], rtol=2e-2)
    unresolved = SETTINGS.model_copy(update={"precision": "auto"})
    with pytest.raises(ValueError, match="has not been resolved"):
        log_likelihoods(folder, None, data, unresolved, torch.device("cpu"), lambda step, steps: None)


@pytest.mark.parametrize(
    ("name", "way"),
    [("masked_lm", "one_pass"), ("masked_next", "exact"), ("masked_next", "one_pass"), ("masked_next", "causal")],
)
def test_ways_of_a_masked_model(checkpoint: Callable[[str], Path], name: str, way: str, tmp_path: Path) -> None:
    """Each token by a pass of its own, with what each way lets it see."""
    folder = checkpoint(name)
    (tmp_path / "pairs.jsonl").write_text('{"good": "the cat sees a dog", "bad": "the cat see a dog"}')
    settings = SETTINGS.model_copy(update={"pseudo_likelihood": way})
    tokenizer = Tokenizer.load(folder / "tokenizer.model")
    data = load_task(TASK, settings, tmp_path, tokenizer, False)
    found = log_likelihoods(folder, None, data, settings, torch.device("cpu"), lambda step, steps: None)
    model, head = load_language_model(folder)
    shift = int(name == "masked_next")
    for tokens, value in zip(data.dev[""].tokens, found[""][:, 0], strict=True):
        expected = 0.0
        for position in range(1, len(tokens) - 1):
            given = tokens.copy()
            if way == "exact":
                given[position] = tokenizer.special.mask
            if way == "causal":
                # The last state of the one layer sees all tokens before the position, and no other ones.
                given = tokens[:position]
            with torch.no_grad():
                state_D = model.backbone(pack([given], [len(given)])).hidden_TD[position - shift]
            expected += _log_probability(model.objectives[head], state_D, int(tokens[position]))
        assert value == pytest.approx(expected, abs=1e-4)


def test_a_way_that_a_head_cannot_be_scored_in_is_refused(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    folder = checkpoint("masked_lm")
    (tmp_path / "pairs.jsonl").write_text('{"good": "a", "bad": "b"}')
    settings = SETTINGS.model_copy(update={"pseudo_likelihood": "causal"})
    data = load_task(TASK, settings, tmp_path, Tokenizer.load(folder / "tokenizer.model"), False)
    with pytest.raises(TaskError, match="'causal' is for models with the objective masked_next, and this one has"):
        log_likelihoods(folder, None, data, settings, torch.device("cpu"), lambda step, steps: None)


def _log_probability(objective: Any, state_D: torch.Tensor, token: int) -> float:
    with torch.no_grad():
        hidden = objective.norm(objective.activation(objective.dense(state_D[None])))
        return float(objective.projection(hidden)[0].double().log_softmax(-1)[token])


def test_random_weights_are_of_their_seed(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    folder = checkpoint("masked_lm")
    first, again, other = (load_language_model(folder, seed=seed)[0].state_dict() for seed in (1, 1, 2))
    name = "backbone.token_embedding.weight"
    assert torch.equal(first[name], again[name]) and not torch.equal(first[name], other[name])


def test_a_checkpoint_without_a_language_model_is_an_error(checkpoint: Callable[[str], Path]) -> None:
    with pytest.raises(TaskError, match="has none of the heads causal_lm, masked_lm, masked_next, and minimal"):
        load_language_model(checkpoint("none"))


def test_outputs_are_float32(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text('{"good": "a", "bad": "b"}')
    folder = checkpoint("causal_lm")
    data = load_task(TASK, SETTINGS, tmp_path, Tokenizer.load(folder / "tokenizer.model"), False)
    found = log_likelihoods(folder, 1, data, SETTINGS, torch.device("cpu"), lambda step, steps: None)
    assert found[""].dtype == np.float32 and found[""].shape == (2, 1)
