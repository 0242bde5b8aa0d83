"""Rates, decay and number of steps of fine-tuning, against formulas written here."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.evaluation.finetune_config import FinetuneConfig
from sesame.evaluation.finetuning.encoding import load_task
from sesame.evaluation.finetuning.finetune import TaskModel, finetune
from sesame.evaluation.finetuning.optimization import adamw, depth_of, epochs_of, schedule_of, steps_of
from sesame.evaluation.tasks import TASKS
from sesame.pretrain.models.bert import Bert


def _shares(model: nn.Module, config: FinetuneConfig) -> dict[str, float]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = adamw(model, config).param_groups
    return {names[id(each)]: group["share"] for group in groups for each in group["params"]}


def test_layers_below_have_lower_rates(backbone: Bert) -> None:
    """One layer: embeddings have depth 0, the layer 1, the head 3."""
    model = TaskModel(backbone, TASKS["RTE"], FinetuneConfig())
    shares = _shares(model, FinetuneConfig(layer_decay=0.5))
    assert shares["head.output.weight"] == shares["head.hidden.0.bias"] == 1
    assert {shares[name] for name in shares if name.startswith("backbone.blocks.0.")} == {0.25}
    assert shares["backbone.token_embedding.weight"] == shares["backbone.embedding_norm.bias"] == 0.125
    assert set(_shares(model, FinetuneConfig()).values()) == {1.0}
    assert shares.keys() == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize(
    ("name", "depth"),
    [
        ("backbone.encoder_blocks.3.attention.query.weight", 4),
        ("backbone.block.feed_forward.up.bias", 1),
        ("backbone.final_norm.weight", 12),
        ("backbone.forward_layers.1.gates.weight", 2),
        ("backbone.character_encoder.filters.1.weight", 0),
        ("head.mixture.gamma", 14),
    ],
)
def test_the_depth_of_each_family(name: str, depth: int) -> None:
    assert depth_of(name, 12) == depth


def test_the_first_update_has_the_rate_of_its_layer(backbone: Bert) -> None:
    """AdamW's first update is the learning rate in each entry, whatever the gradient."""
    model = TaskModel(backbone, TASKS["RTE"], FinetuneConfig())
    config = FinetuneConfig(layer_decay=0.5, weight_decay=0.0, epsilon=1e-12, learning_rate=0.01)
    optimizer = adamw(model, config)
    before = {name: each.detach().clone() for name, each in model.named_parameters()}
    for each in model.parameters():
        each.grad = torch.ones_like(each)
    for group in optimizer.param_groups:
        group["lr"] *= group["share"]
    optimizer.step()
    moved = {name: float((before[name] - each.detach()).abs().max()) for name, each in model.named_parameters()}
    assert moved["head.output.weight"] == pytest.approx(0.01, rel=1e-4)
    assert moved["backbone.token_embedding.weight"] == pytest.approx(0.01 / 8, rel=1e-3)


def test_weight_decay_of_both_kinds(backbone: Bert) -> None:
    """Without a gradient, a step multiplies by 1 - rate * decay (AdamW) or by 1 - decay (composer, at the peak)."""
    cases: tuple[tuple[Literal["learning_rate", "schedule"], bool, float], ...] = (
        ("learning_rate", False, 1 - 0.1 * 0.5),
        ("schedule", True, 1 - 0.5),
    )
    for times, vectors, kept in cases:
        head = nn.Linear(3, 2)
        before = head.weight.detach().clone(), head.bias.detach().clone()
        config = FinetuneConfig(
            learning_rate=0.1, weight_decay=0.5, weight_decay_times=times, decay_vectors=vectors, betas=(0.9, 0.98)
        )
        optimizer = adamw(head, config)
        assert all(group["betas"] == (0.9, 0.98) and group["eps"] == 1e-6 for group in optimizer.param_groups)
        for each in head.parameters():
            each.grad = torch.zeros_like(each)
        optimizer.step()
        torch.testing.assert_close(head.weight.detach(), before[0] * kept)
        torch.testing.assert_close(head.bias.detach(), before[1] * (kept if vectors else 1))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {"warmup_steps": 2, "decay": "cosine"},
            [0.5, 1.0, *(0.5 + 0.5 * math.cos(math.pi * k / 8) for k in range(8))],
        ),
        ({"warmup_fraction": 0.2, "decay": "constant"}, [0.5, *[1.0] * 9]),
        ({"warmup_steps": 0}, [1 - k / 10 for k in range(10)]),
    ],
)
def test_the_learning_rate_over_ten_steps(values: dict[str, Any], expected: list[float]) -> None:
    schedule = schedule_of(FinetuneConfig(**values), 10)
    assert [schedule.factor(step, 10) for step in range(10)] == pytest.approx(expected)


def test_steps_instead_of_epochs(
    letters: Path, letter_tokenizer: Tokenizer, make_backbone: Callable[[int], Bert]
) -> None:
    config = FinetuneConfig(batch_size=16, steps=17, sequence_length=64, precision="fp32", select="best")
    assert steps_of(config, 200) == 17 and epochs_of(config, 200) == 2
    assert steps_of(FinetuneConfig(batch_size=16, epochs=3), 200) == 39
    data = load_task(TASKS["SST-2"], config, letters, letter_tokenizer, False)
    progress: list[tuple[int, int]] = []
    outcome = finetune(make_backbone(1), data, config, 1, torch.device("cpu"), lambda *each: progress.append(each))
    assert progress[-1] == (17, 17) and len(outcome.losses) == 17
    assert len(outcome.dev_scores) == 2 and max(outcome.dev_scores) == outcome.dev_scores[outcome.epoch - 1]


def test_the_head_has_a_dropout_of_its_own(backbone: Bert) -> None:
    model = TaskModel(backbone, TASKS["RTE"], FinetuneConfig(dropout=0.0, head_dropout=0.3))
    rates = {name: each.p for name, each in model.named_modules() if isinstance(each, nn.Dropout)}
    assert rates.pop("head.dropout") == 0.3 and set(rates.values()) == {0.0}


def test_a_beta_of_one_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"betas \[0.9, 1.0\] are not in \[0, 1\)"):
        FinetuneConfig(betas=(0.9, 1.0))
