"""ELMo against torch's LSTM, sequence by sequence, and the independence of its two directions."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from sesame import configs
from sesame.data_pipeline.ragged import Ragged, boundaries
from sesame.pretrain.config import RunConfig
from sesame.pretrain.data.packing import assemble, layout
from sesame.pretrain.initialization import materialise, random_value
from sesame.pretrain.layers.recurrent import FORGET_BIAS, ProjectedLSTM, Steps
from sesame.pretrain.learner import Learner, build
from sesame.pretrain.models.elmo import CharacterEncoder, ElmoConfig
from sesame.pretrain.models.family import Vocabulary
from sesame.pretrain.train import train

LENGTHS = [5, 1, 9, 9, 2]
PADDING = 260


def torchs(ours: ProjectedLSTM) -> nn.LSTM:
    """Return torch's layer with the same weights; its gates are input, forget (with a bias), candidate, output."""
    cells = ours.output.in_features
    theirs = nn.LSTM(ours.gates.in_features, cells, proj_size=ours.projection).to(torch.float64)

    def by_gate(rows: torch.Tensor) -> torch.Tensor:
        return rows.detach().unflatten(0, (cells, 4)).transpose(0, 1).flatten(0, 1)

    bias = by_gate(ours.gates.bias)
    bias[cells : 2 * cells] += FORGET_BIAS
    values = {
        "weight_ih_l0": by_gate(ours.gates.weight),
        "weight_hh_l0": by_gate(ours.recurrent.weight),
        "bias_ih_l0": bias,
        "bias_hh_l0": torch.zeros_like(bias),
        "weight_hr_l0": ours.output.weight.detach(),
    }
    theirs.load_state_dict(values)
    return theirs


def test_padding_does_not_change_the_gradients_of_filters() -> None:
    """Many equal windows of padding can be the maximum; a gradient divided among them would sum thousands of rounding
    errors, ten times as large as the tolerance between layouts."""
    torch.manual_seed(1)
    encoder = CharacterEncoder(ElmoConfig(width=32, cells=24, filters=((1, 8), (3, 16))))
    characters = torch.full((200, 50), PADDING)
    characters[:, :6] = torch.randint(256, (200, 6))
    upstream = torch.randn(200, 16)
    exact = copy.deepcopy(encoder).to(torch.float64)
    encoder(characters).backward(upstream)
    exact(characters).backward(upstream.double())
    for (name, actual), expected in zip(encoder.filters.named_parameters(), exact.filters.parameters(), strict=True):
        assert actual.grad is not None and expected.grad is not None
        difference = float((actual.grad - expected.grad).abs().max() / expected.grad.abs().max())
        assert difference < 1e-6, f"{name} differs by {difference:.2e} of its largest entry"


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_a_layer_is_torchs_lstm(backward: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "float", lambda self: self)
    torch.manual_seed(1)
    ours = ProjectedLSTM(6, 10, 4, cell_clip=1e9, projection_clip=1e9).to(torch.float64)
    inputs = torch.randn(sum(LENGTHS), 6, dtype=torch.float64, requires_grad=True)
    actual = ours(inputs, Steps.of(layout(np.array(LENGTHS)), backward=backward))
    theirs = torchs(ours)
    outputs = []
    for sequence in inputs.split(LENGTHS):
        ordered = sequence.flip(0) if backward else sequence
        states = theirs(ordered[:, None])[0][:, 0]
        outputs.append(states.flip(0) if backward else states)
    expected = torch.cat(outputs)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)
    upstream = torch.randn_like(expected)
    mine, other = (torch.autograd.grad(output, inputs, upstream)[0] for output in (actual, expected))
    torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


def test_cells_and_outputs_are_clipped() -> None:
    layer = ProjectedLSTM(2, 8, 2, cell_clip=0.5, projection_clip=0.1)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=3.0)
    states = layer(torch.randn(40, 2), Steps.of(layout(np.array([40])), backward=False))
    assert float(states.detach().abs().max()) == pytest.approx(0.1)


def stepwise(layer: ProjectedLSTM, sequence: torch.Tensor) -> torch.Tensor:
    """Compute the layer over one sequence, token by token, by the paper's formulas."""
    cell, state, states = torch.zeros(layer.output.in_features), torch.zeros(layer.projection), []
    for vector in sequence:
        gates = (layer.gates(vector) + layer.recurrent(state)).view(-1, 4)
        gate_in, forget, gate_out = gates[:, 0].sigmoid(), (gates[:, 1] + FORGET_BIAS).sigmoid(), gates[:, 3].sigmoid()
        cell = (forget * cell + gate_in * gates[:, 2].tanh()).clamp(-layer.cell_clip, layer.cell_clip)
        state = layer.output(gate_out * cell.tanh()).clamp(-layer.projection_clip, layer.projection_clip)
        states.append(state)
    return torch.stack(states)


@pytest.mark.parametrize(("cell_clip", "projection_clip"), [(1e9, 1e9), (0.3, 1e9), (1e9, 0.05), (0.3, 0.05)])
def test_clipping_and_the_weights_gradients_are_those_of_a_plain_loop(cell_clip: float, projection_clip: float) -> None:
    torch.manual_seed(1)
    layer = ProjectedLSTM(4, 6, 3, cell_clip=cell_clip, projection_clip=projection_clip)
    inputs, upstream = 2 * torch.randn(sum(LENGTHS), 4), torch.randn(sum(LENGTHS), 3)
    actual = layer(inputs, Steps.of(layout(np.array(LENGTHS)), backward=True))
    expected = torch.cat([stepwise(layer, piece.flip(0)).flip(0) for piece in inputs.split(LENGTHS)])
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)
    parameters = list(layer.parameters())
    mine, other = (torch.autograd.grad(output, parameters, upstream) for output in (actual, expected))
    for gradient, wanted in zip(mine, other, strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-5)
    without_clipping = ProjectedLSTM(4, 6, 3, cell_clip=1e9, projection_clip=1e9)
    without_clipping.load_state_dict(layer.state_dict())
    unclipped = without_clipping(inputs, Steps.of(layout(np.array(LENGTHS)), backward=True))
    clips = min(cell_clip, projection_clip) < 1e9
    assert torch.allclose(actual, unclipped, atol=1e-4) != clips, "clipping had no effect"


def learner(layers: int = 2) -> Learner:
    config = ElmoConfig(layers=layers, width=16, cells=12, filters=((1, 4), (3, 8)), dropout=0.0)
    model = build(config, {"bidirectional_lm": 1.0}, Vocabulary(64))
    spelling = np.random.default_rng(0).integers(0, 256, (64, 50))
    model.backbone.spelling_VC.copy_(torch.from_numpy(spelling))
    value = random_value(3, lambda name, shape: 0.3)
    materialise(model, lambda name, parameter: value(name, parameter.shape))
    return model


def rows(*tokens: list[int]) -> dict[str, Any]:
    lengths = np.array([len(row) for row in tokens])
    return {"tokens": Ragged(np.concatenate(tokens), boundaries(lengths))}


def test_each_half_depends_on_its_direction_only() -> None:
    model = learner()
    reads = model.reads
    before = model.backbone(assemble(rows([1, 2, 3, 4, 5, 6], [7, 8, 9]), reads, {})).layers
    after = model.backbone(assemble(rows([1, 2, 3, 40, 5, 6], [7, 8, 9]), reads, {})).layers
    for mine, other in zip(before[1:], after[1:], strict=True):
        left, changed_left = mine.chunk(2, -1)[0], other.chunk(2, -1)[0]
        right, changed_right = mine.chunk(2, -1)[1], other.chunk(2, -1)[1]
        torch.testing.assert_close(left[:3], changed_left[:3], msg="forward states before the changed token")
        assert not torch.allclose(left[3:6], changed_left[3:6])
        torch.testing.assert_close(right[4:6], changed_right[4:6], msg="backward states after the changed token")
        assert not torch.allclose(right[:4], changed_right[:4])
        torch.testing.assert_close(mine[6:], other[6:], msg="another sequence")


def test_the_loss_is_the_mean_of_both_directions() -> None:
    model = learner()
    batch = assemble(rows([1, 2, 3, 4], [5, 6]), model.reads, {"next_labels": 4.0})
    total, _ = model(batch)
    states = model.backbone(batch).hidden_TD
    forward, backward = states.chunk(2, -1)
    head = model.objectives["bidirectional_lm"]
    loss = 0.0
    for position, token, following in ((0, 1, 2), (1, 2, 3), (2, 3, 4), (4, 5, 6)):
        loss -= head.projection(forward[position]).log_softmax(-1)[following]
        loss -= head.projection(backward[position + 1]).log_softmax(-1)[token]
    torch.testing.assert_close(total, loss / 8)


def test_a_run_in_bf16_learns(
    settings: Callable[..., dict[str, Any]], tmp_path: Path, datasets: Callable[[str], Path]
) -> None:
    values = settings(
        data={"dataset": str(datasets("text")), "global_batch": 8, "micro_batch": 8},
        optimizer={"name": "adamw", "learning_rate": 5e-3},
        parallel={"precision": "bf16"},
        schedule={"warmup_steps": 5},
        steps=60,
    )
    values["model"] = {"family": "elmo", "width": 64, "cells": 96, "filters": [[1, 16], [3, 32]], "dropout": 0.1}
    values["objectives"] = {"bidirectional_lm": 1.0}
    train(configs.parse(values, RunConfig, "run.toml"))
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["train"]["bidirectional_lm"] for line in lines if "train" in line]
    assert losses[-1] < losses[0] - 1.0


def test_processes_with_rows_of_other_lengths_do_not_deadlock_under_zero_3(
    family_settings: Callable[..., dict[str, Any]], world: Callable[..., list[str]], tmp_path: Path
) -> None:
    data = {"global_batch": 4, "micro_batch": 1}
    recorded = []
    for processes, stage in ((1, 1), (2, 3)):
        target = tmp_path / f"{processes}.safetensors"
        values = family_settings(
            "elmo", data=data, output=str(tmp_path / str(processes)), parallel={"zero_stage": stage}
        )
        cases = tmp_path / f"{processes}.json"
        cases.write_text(json.dumps([[values, str(target)]]))
        world(processes, Path(__file__).parents[1] / "parallel" / "layout_process.py", str(cases), "3")
        recorded.append(load_file(target))
    for name, value in recorded[0].items():
        torch.testing.assert_close(recorded[1][name], value, rtol=1e-5, atol=1e-6)
