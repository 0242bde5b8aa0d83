"""Sparse layers against a loop over tokens, and configurations of expert parallelism that are refused."""

import copy
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sesame import configs
from sesame.configs.errors import ConfigError
from sesame.pretrain.data.packing import layout
from sesame.pretrain.initialization import materialise
from sesame.pretrain.layers.experts import SparseFeedForward, balance
from sesame.pretrain.layers.style import Style
from sesame.pretrain.learner import build
from sesame.pretrain.models import FAMILIES
from sesame.pretrain.models.family import Vocabulary
from sesame.pretrain.parallel.config import ParallelConfig
from sesame.pretrain.parallel.mesh import Mesh
from sesame.pretrain.parallel.tensor import shard
from tests.pretrain.family_runs import FAMILY_RUNS

WIDTH, INNER, EXPERTS = 8, 12, 4


def sparse(style: Style, factor: float, sequence_capacity: int = 0) -> SparseFeedForward:
    layer = SparseFeedForward(WIDTH, INNER, EXPERTS, (factor, 2.0), style, sequence_capacity)
    generator = torch.Generator().manual_seed(1)
    materialise(layer, lambda name, parameter: torch.randn(parameter.shape, generator=generator) * 0.5)
    return layer


def token_by_token(layer: SparseFeedForward, hidden_TD: Tensor, capacity: int) -> tuple[Tensor, int]:
    """Return the output of the layer, and the number of dropped tokens."""
    rows, counts, dropped = [], [0] * EXPERTS, 0
    for hidden_D in hidden_TD:
        probabilities = torch.softmax(layer.router.weight @ hidden_D, 0)
        expert = int(probabilities.argmax())
        if counts[expert] == capacity:
            rows.append(torch.zeros(WIDTH))
            dropped += 1
            continue
        counts[expert] += 1
        up, down, gate = layer.experts.up[expert], layer.experts.down[expert], layer.experts.gate
        inner = layer.experts.activation(hidden_D @ up)
        if gate is not None:
            inner = layer.experts.activation(hidden_D @ gate[expert]) * (hidden_D @ up)
        rows.append(probabilities[expert] * (inner @ down))
    return torch.stack(rows), dropped


def assert_same(ours: torch.Tensor, plain: torch.Tensor, inputs: list[torch.Tensor]) -> None:
    """Compare two outputs and their gradients."""
    torch.testing.assert_close(ours, plain)
    upstream = torch.randn_like(plain)
    gradients = [torch.autograd.grad(output, inputs, upstream) for output in (ours, plain)]
    for ours_gradient, plain_gradient in zip(*gradients, strict=True):
        torch.testing.assert_close(ours_gradient, plain_gradient)


@pytest.mark.parametrize("factor", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("gated", [False, True])
def test_a_sparse_layer_is_the_loop_over_tokens(factor: float, gated: bool) -> None:
    layer = sparse(Style(activation="gelu_tanh", gated=gated), factor)
    hidden = torch.randn(37, WIDTH, generator=torch.Generator().manual_seed(2)).requires_grad_()
    ours, (plain, dropped) = layer(hidden), token_by_token(layer, hidden, math.ceil(37 * factor / EXPERTS))
    assert (dropped == 0) == (factor == 4.0)
    assert_same(ours, plain, [hidden, *layer.parameters()])


@pytest.mark.parametrize("capacity", [1, 3, 100])
@pytest.mark.parametrize("gated", [False, True])
def test_capacity_in_each_sequence_is_the_loop_over_its_tokens(capacity: int, gated: bool) -> None:
    layer = sparse(Style(activation="gelu_tanh", gated=gated), 0.5, capacity)
    lengths = [9, 1, 9, 15, 2]
    layer.layout = layout(np.array(lengths))
    hidden = torch.randn(sum(lengths), WIDTH, generator=torch.Generator().manual_seed(2)).requires_grad_()
    parts = [token_by_token(layer, part, capacity) for part in hidden.split(lengths)]
    ours, plain = layer(hidden), torch.cat([part for part, _ in parts])
    assert (sum(dropped for _, dropped in parts) == 0) == (capacity == 100)
    assert_same(ours, plain, [hidden, *layer.parameters()])


def test_capacity_is_larger_in_evaluation() -> None:
    layer = sparse(Style(), 1.0)
    assert (layer.capacity(40), layer.eval().capacity(40), layer.capacity(1)) == (10, 20, 1)


def test_balance_is_one_for_an_even_distribution_and_the_number_of_experts_for_a_single_one() -> None:
    even = torch.eye(EXPERTS).repeat(3, 1)
    single = torch.eye(EXPERTS)[:1].repeat(12, 1)
    assert float(balance(even.long(), even)) == pytest.approx(1.0)
    assert float(balance(single.long(), single)) == pytest.approx(EXPERTS)


def test_routing_is_computed_in_fp32_under_bf16() -> None:
    layer = sparse(Style(), 4.0).bfloat16()
    hidden = torch.randn(64, WIDTH, generator=torch.Generator().manual_seed(4)).bfloat16()
    exact = torch.softmax(hidden.double() @ layer.router.weight.double().T, -1)
    for probabilities in (layer.router(hidden).detach(), _under_autocast(layer.router, hidden).detach()):
        assert probabilities.dtype == torch.float32
        # Rounding to bf16 anywhere would give an error of 1e-3.
        assert float((probabilities - exact).abs().max()) < 1e-6
    layer(hidden)
    assert layer.balance is not None
    assert layer.balance.dtype == torch.float32


def _under_autocast(router: nn.Module, hidden: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return copy.deepcopy(router).float()(hidden)


def test_zero_3_with_expert_parallelism_is_refused_with_a_remedy() -> None:
    with pytest.raises(ConfigError, match=r"zero_stage 3 with expert > 1 is refused.*use zero_stage 2"):
        configs.parse({"expert": 2, "zero_stage": 3}, ParallelConfig, "[parallel]")


def test_more_processes_for_experts_than_there_are_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"parallel.expert 2 does not divide the 1 data-parallel processes"):
        Mesh(ParallelConfig(expert=2))


@pytest.mark.parametrize(
    ("run", "processes", "message"),
    [
        ("t5", 2, r"parallel.expert is 2, but this model has no experts; set it to 1"),
        ("switch", 3, r"parallel.expert 3 does not divide the 4 experts of a layer; choose a divisor"),
    ],
)
def test_expert_parallelism_that_does_not_fit_is_refused(run: str, processes: int, message: str) -> None:
    _, objectives, model = FAMILY_RUNS[run]
    learner = build(FAMILIES[model["family"]].config(**model), objectives, Vocabulary(320))
    mesh: Any = SimpleNamespace(tensor=1, expert=processes)
    with pytest.raises(ConfigError, match=message):
        shard(learner, mesh)
