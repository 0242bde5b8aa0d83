"""Recomputed blocks have the same gradients as blocks whose activations are kept, with dropout and experts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sesame import configs
from sesame.configs.errors import ConfigError
from sesame.data_pipeline.ragged import Ragged, boundaries
from sesame.pretrain.config import RunConfig
from sesame.pretrain.data.packing import assemble
from sesame.pretrain.initialization import materialise, random_value
from sesame.pretrain.learner import Learner, build
from sesame.pretrain.models import FAMILIES
from sesame.pretrain.models.family import Vocabulary
from sesame.pretrain.parallel.config import ParallelConfig
from sesame.pretrain.parallel.recompute import recompute_parts
from sesame.pretrain.train import train

SHAPE = {"layers": 2, "width": 32, "heads": 4, "feed_forward_width": 48, "dropout": 0.2, "attention_dropout": 0.2}
RUNS: dict[str, tuple[dict[str, Any], dict[str, float], int]] = {
    "bert": ({}, {"masked_lm": 1.0}, 2),
    "albert": ({"embedding_width": 16}, {"masked_lm": 1.0}, 1),
    "gpt": ({"local_window": 2}, {"causal_lm": 1.0}, 2),
    "t5": ({"decoder_layers": 2}, {"span_corruption": 1.0}, 4),
    "switch": (
        {"decoder_layers": 2, "experts": 4, "sparse_every": 1},
        {"span_corruption": 1.0, "expert_balance": 0.1},
        4,
    ),
}
"""Family -> changes of the shape, objectives, number of recomputed modules."""


def learner(family: str) -> Learner:
    changes, objectives, _ = RUNS[family]
    config = FAMILIES[family].config(**{**SHAPE, **changes})
    model = build(config, objectives, Vocabulary(64))
    value = random_value(3, config.init_std)
    materialise(model, lambda name, parameter: value(name, parameter.shape))
    return model


def gradients(model: Learner) -> dict[str, torch.Tensor]:
    def rows(lengths: list[int]) -> Ragged:
        return Ragged(np.arange(sum(lengths)) % 57 + 5, boundaries(np.array(lengths)))

    columns = {
        "tokens": rows([5, 9, 9, 9, 9]),
        "first_segment_length": np.array([5, 4, 4, 4, 4]),
        "mask_positions": Ragged(np.array([1, 2, 3, 4, 5]) % 4, boundaries(np.ones(5, np.int64))),
        "mask_labels": rows([1] * 5),
        "target_tokens": rows([3, 4, 5, 6, 7]),
    }
    batch = assemble(
        columns, model.reads, {"mask_labels": 5.0, "next_labels": 36.0, "target_labels": 25.0, "tokens": 41}
    )
    torch.manual_seed(7)
    model(batch)[0].backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("family", RUNS)
@pytest.mark.parametrize("kind", ["attention", "block"])
def test_gradients_are_the_same(family: str, kind: str) -> None:
    plain, recomputed = learner(family), learner(family)
    # A block of a decoder has two cores of attention.
    decoder_blocks = RUNS[family][0].get("decoder_layers", 0)
    assert recompute_parts(recomputed, kind) == RUNS[family][2] + decoder_blocks * (kind == "attention")
    calls = []
    if kind == "block":
        core = next(n for n, _ in recomputed.backbone.named_modules() if n.endswith("attention.core"))
        recomputed.backbone.get_submodule(core).register_forward_hook(lambda *_: calls.append(1))
    expected, actual = gradients(plain), gradients(recomputed)
    assert expected.keys() == actual.keys()
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value)
    if kind == "block":
        assert len(calls) == 2 * (SHAPE["layers"] if family == "albert" else 1), (
            "once in the forward and once in the backward pass"
        )


def saved_bytes(model: Learner) -> int:
    """Return the bytes of the distinct tensors that are kept for the backward pass."""
    storages: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        gradients(model)
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    return sum(storage.nbytes() for pointer, storage in storages.items() if pointer not in weights)


def test_each_kind_keeps_less_than_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    learners = [learner("gpt") for _ in range(3)]
    for model, kind in zip(learners, ("none", "attention", "block"), strict=True):
        recompute_parts(model, kind)
    kept = [saved_bytes(model) for model in learners]
    assert kept[0] > 1.1 * kept[1] > 1.5 * kept[2], kept


@pytest.mark.parametrize(("word", "kind"), [(True, "block"), (False, "none"), ("attention", "attention")])
def test_words_of_earlier_versions_are_read(word: Any, kind: str) -> None:
    assert configs.parse({"recompute": word}, ParallelConfig, "[parallel]").recompute == kind


@pytest.mark.parametrize("stage", [1, 3])
def test_a_run_is_the_same(stage: int, settings: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    losses = []
    for recompute in ("none", "attention", "block"):
        output = tmp_path / str(recompute)
        values = settings(
            output=str(output),
            steps=4,
            model={"dropout": 0.1, "attention_dropout": 0.1},
            parallel={"zero_stage": stage, "recompute": recompute},
        )
        train(configs.parse(values, RunConfig, "run.toml"))
        rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
        losses.append([row["validation"] for row in rows if "validation" in row])
    assert losses[0] == losses[1] == losses[2] and losses[0]


def test_a_family_without_blocks_says_so(
    settings: Callable[..., dict[str, Any]], datasets: Callable[[str], Path]
) -> None:
    values = settings(data={"dataset": str(datasets("text"))}, parallel={"recompute": "block"}) | {
        "model": {"family": "elmo", "width": 32, "cells": 24, "filters": [[1, 8]]},
        "objectives": {"bidirectional_lm": 1.0},
    }
    with pytest.raises(ConfigError, match=r"parallel\.recompute: model\.family 'elmo' has no Transformer blocks"):
        train(configs.parse(values, RunConfig, "run.toml"))
