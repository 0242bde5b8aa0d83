"""Numbers of each layer are those of whole parameters, and attention's entropy that of its weights."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sesame import configs
from sesame.configs.errors import CheckpointError
from sesame.configs.strict_json import parse_json_object
from sesame.pretrain.config import RunConfig
from sesame.pretrain.data.packing import layout
from sesame.pretrain.layers.attention_pattern import AttentionPattern
from sesame.pretrain.parallel.mesh import Mesh
from sesame.pretrain.train import Run
from sesame.pretrain.watch.activations import attention_entropy
from sesame.pretrain.watch.layers import layer_of

Settings = Callable[..., dict[str, Any]]


def rows_of(output: Path) -> list[dict[str, Any]]:
    lines = (output / "metrics.jsonl").read_bytes().splitlines()
    rows = [parse_json_object(line, output, CheckpointError, "") for line in lines]
    return [row for row in rows if "layers" in row]


def test_norms_are_those_of_the_parameters(settings: Settings, tmp_path: Path) -> None:
    changes = {"steps": 4, "watch": {"layers_every_steps": 2}, "optimizer": {"name": "sgd", "learning_rate": 0.1}}
    config = configs.parse(settings(**changes), RunConfig, "the test's run")
    mesh = Mesh(config.parallel)
    run = Run(config, mesh)
    run.train_step()
    before = {name: value.detach().clone() for name, value in run.engine.parameters.items()}
    gradients: dict[str, torch.Tensor] = {}
    step = run.engine.step
    run.engine.step = lambda *arguments: gradients.update(run.engine.full_gradients()) or step(*arguments)  # type: ignore
    run.train_step()
    after = {name: value.detach() for name, value in run.engine.parameters.items()}
    run.close()
    mesh.close()
    (row,) = rows_of(tmp_path / "run")
    assert row["step"] == 2
    for layer, numbers in row["layers"].items():
        names = [name for name in before if name.startswith(layer + ".")]
        assert names, layer

        def norm(values: dict[str, torch.Tensor], names: list[str] = names) -> float:
            return math.sqrt(sum(float(values[name].double().square().sum()) for name in names))

        assert numbers["gradient_norm"] == pytest.approx(norm(gradients), rel=1e-5)
        assert numbers["weight_norm"] == pytest.approx(norm(before), rel=1e-5)
        changes_of = {name: after[name] - before[name] for name in names}
        assert numbers["update_ratio"] == pytest.approx(norm(changes_of) / norm(before), rel=1e-4)
    blocks = [row["layers"][f"backbone.blocks.{number}"] for number in range(2)]
    assert all(1 < block["activation_max"] < 20 and 0 < block["attention_entropy"] < math.log(48) for block in blocks)


def test_what_is_not_finite_is_null(settings: Settings, tmp_path: Path) -> None:
    config = configs.parse(settings(watch={"layers_every_steps": 1}), RunConfig, "the test's run")
    mesh = Mesh(config.parallel)
    run = Run(config, mesh)
    with torch.no_grad():
        run.engine.parameters["backbone.blocks.0.attention.query.weight"].fill_(math.inf)
    run.train_step()
    run.close()
    mesh.close()
    (row,) = rows_of(tmp_path / "run")
    numbers = row["layers"]["backbone.blocks.0"]
    assert {numbers[name] for name in ("activation_max", "attention_entropy", "weight_norm")} == {None}


def test_measuring_changes_no_bit(settings: Settings, tmp_path: Path) -> None:
    from tests.pretrain.watch.test_watch import last_record

    files = []
    for every in (0, 1):
        values = settings(
            output=str(tmp_path / str(every)),
            steps=3,
            model={"dropout": 0.1, "attention_dropout": 0.1},
            watch={"layers_every_steps": every, "deterministic": bool(every)},
        )
        from sesame.pretrain.train import train

        train(configs.parse(values, RunConfig, "the test's run"))
        files.append(last_record(tmp_path / str(every)).files)
    assert files[0] == files[1]
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("causal", [False, True])
def test_entropy_is_that_of_the_weights(causal: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    lengths = [3, 5, 5]
    query, key = (torch.randn(13, 2, 4, generator=generator) for _ in range(2))
    sequences = layout(torch.tensor(lengths).numpy())
    entropies, start = [], 0
    # Only the first group of similar lengths is measured.
    for length in sequences.groups[0].lengths:
        for head in range(2):
            scores = 0.5 * query[start : start + length, head] @ key[start : start + length, head].T
            for position, row in enumerate(scores):
                weights = (row[: position + 1] if causal else row).softmax(0)
                entropies.append(float(-(weights * weights.log()).sum()))
        start += length
    pattern = AttentionPattern(sequences, sequences, causal=causal)
    entropy = attention_entropy(query, key, pattern, 0.5)
    assert float(entropy) == pytest.approx(sum(entropies) / len(entropies), abs=1e-5)


def test_layers_are_named_by_their_stack() -> None:
    assert layer_of("backbone.blocks.3.attention.query.weight") == "backbone.blocks.3"
    assert layer_of("backbone.encoder_blocks.12.feed_forward.up.weight") == "backbone.encoder_blocks.12"
    assert layer_of("backbone.block.attention.query.weight") == "backbone.block"
    assert layer_of("objectives.masked_lm.dense.bias") == "objectives.masked_lm"
