"""A wrong configuration is refused before anything is read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sesame import configs
from sesame.configs.errors import ConfigError
from sesame.pretrain.config import RunConfig
from sesame.pretrain.memory import build_within_memory
from sesame.pretrain.models import FAMILIES
from sesame.pretrain.models.family import Vocabulary
from sesame.pretrain.objectives import OBJECTIVES
from sesame.pretrain.train import train


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_an_objective_is_accepted_if_the_family_provides_what_it_needs(
    family: str, objective: str, settings: Callable[..., dict[str, Any]]
) -> None:
    values = settings() | {"model": {"family": family}, "objectives": {objective: 1.0}}
    if OBJECTIVES[objective].needs in FAMILIES[family].module.provides:
        assert configs.parse(values, RunConfig, "run.toml").model.family == family
    else:
        with pytest.raises(
            ConfigError, match=rf"objectives\.{objective} does not fit model\.family '{family}'; objectives that do"
        ):
            configs.parse(values, RunConfig, "run.toml")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_can_be_trained(family: str) -> None:
    provided = FAMILIES[family].module.provides
    assert any(objective.predicts_tokens and objective.needs in provided for objective in OBJECTIVES.values())


ROTARY = {"family": "bert", "width": 36, "heads": 4, "position_kind": "rotary"}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"model": ROTARY}, "width 36 / heads 4 is odd, but rotary positions rotate pairs"),
    ({"model": {"family": "gpt", "layers": 10**9}}, "layers 1000000000 is too large"),
    ({"model": {"family": "albert", "layers": 20_000}}, "layers 20000 is too large"),
    ({"model": {"family": "bert", "width": 2**30, "heads": 1}}, "width 1073741824 is too large"),
    ({"optimizer": {"learning_rate": 0.1, "betas": [1.0, 0.9]}}, "'optimizer.betas.0' = 1.0"),
    ({"optimizer": {"learning_rate": 0.1, "betas": [0.9, -0.1]}}, "'optimizer.betas.1' = -0.1"),
    ({"optimizer": {"learning_rate": 0.1, "betas": [0.9, float("nan")]}}, "'optimizer.betas.1' = nan: must be finite"),
    ({"model": {}}, "'model': has no family; the families are bert"),
    ({"model": {"family": "bret"}}, "'model': family is 'bret'; the families are bert"),
    ({"objectives": {}}, "'objectives': is empty; the objectives are masked_lm"),
    ({"objectives": {"mlm": 1.0}}, "'objectives': 'mlm' is not an objective; the objectives are masked_lm"),
    ({"objectives": {"masked_lm": -1.0}}, "the weight of masked_lm is negative"),
    ({"objectives": {"masked_lm": 0.0, "sentence_pairs": 0.0}}, "all weights are 0"),
    ({"objectives": {"masked_lm": float("inf")}}, "'objectives.masked_lm' = inf: must be finite"),
    ({"data": {"dataset": "d", "global_batch": 10**12}}, "'data.global_batch' = 1000000000000"),
    ({"output": ""}, "'output' is empty"),
]


@pytest.mark.parametrize(("change", "sentence"), WRONG, ids=[sentence for _, sentence in WRONG])
def test_wrong_values_are_refused(
    change: dict[str, Any], sentence: str, settings: Callable[..., dict[str, Any]]
) -> None:
    with pytest.raises(ConfigError) as caught:
        configs.parse({**settings(), **change}, RunConfig, "run.toml")
    assert sentence in str(caught.value) and "run.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (
            {"family": "bert", "width": 2**20, "heads": 1, "feed_forward_width": 2**20},
            r"GB on each machine for weights",
        ),
        (
            {"family": "switch", "width": 2**24, "feed_forward_width": 2**24, "experts": 2**24},
            "multiply to more entries",
        ),
    ],
)
def test_a_model_larger_than_memory_is_refused(model: dict[str, Any], sentence: str) -> None:
    config = configs.parse(model, FAMILIES[model["family"]].config, "[model]")
    objectives = {"masked_lm": 1.0} if model["family"] == "bert" else {"span_corruption": 1.0}
    with pytest.raises(ConfigError, match=sentence):
        build_within_memory(config, objectives, Vocabulary(1000), 2, torch.device("cpu"))


def test_a_batch_larger_than_the_dataset_is_logged(
    settings: Callable[..., dict[str, Any]], dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = json.loads((dataset / "manifest.json").read_text())["splits"]["train"]["rows"]
    assert rows < 2048
    values = settings(data={"global_batch": 2048, "micro_batch": 1024}, steps=1)
    train(configs.parse(values, RunConfig, "run.toml"))
    assert f"data.global_batch 2048 is larger than the {rows:,} training rows" in capsys.readouterr().out
