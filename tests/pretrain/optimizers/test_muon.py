"""Muon against torch's, against its definition on singular values, and which parameters it updates."""

import fnmatch
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from sesame.pretrain.learner import build
from sesame.pretrain.models import parse_model
from sesame.pretrain.models.family import Vocabulary
from sesame.pretrain.optimizers import OPTIMIZERS, muon_groups
from sesame.pretrain.optimizers.config import OptimizerConfig
from sesame.pretrain.optimizers.matrices import GATES, MATRICES, NOT_MATRICES, WHOLE, layout_of
from sesame.pretrain.optimizers.muon import Function, Muon, orthogonalize
from tests.pretrain.family_runs import FAMILY_RUNS
from tests.pretrain.whole_matrices import matrices_of_one_process


def polynomial_of_singular_values(matrix: Tensor) -> Tensor:
    """The iteration of Jordan et al. 2024 by its definition: a polynomial of each singular value, in fp64."""
    u, values, v = torch.linalg.svd(matrix.double(), full_matrices=False)
    values = values / values.square().sum().sqrt()
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return u @ torch.diag(values) @ v


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4)])
def test_orthogonalize_is_the_polynomial_of_the_singular_values(shape: tuple[int, int]) -> None:
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(1))
    expected = torch.stack([polynomial_of_singular_values(matrix) for matrix in matrices])
    torch.testing.assert_close(orthogonalize(matrices).double(), expected, rtol=0, atol=2e-5)


def test_a_matrix_without_gradients_has_no_update() -> None:
    assert torch.equal(orthogonalize(torch.zeros(1, 3, 4)), torch.zeros(1, 3, 4))


class InBf16:
    """Matrices that are whole in one process; torch's Muon always multiplies in bf16."""

    def __init__(self, shapes: dict[int, torch.Size]):
        self.shapes = shapes

    def apply(self, function: Function, updates: dict[int, Tensor]) -> None:
        for owner, update in updates.items():
            matrix = update.view(self.shapes[owner])
            matrix.copy_(function(matrix[None].bfloat16())[0].float())


def test_steps_are_those_of_torch_for_matrices_and_of_adamw_for_the_rest() -> None:
    generator = torch.Generator().manual_seed(1)
    shapes = [(8, 6), (5, 12)]
    matrices, vector = (
        [torch.randn(shape, generator=generator) for shape in shapes],
        torch.randn(7, generator=generator),
    )
    ours = [nn.Parameter(value.clone()) for value in (*matrices, vector)]
    theirs = [nn.Parameter(value.clone()) for value in (*matrices, vector)]
    config = OptimizerConfig(name="muon", learning_rate=0.02, weight_decay=0.1, epsilon=1e-8, momentum=0.9)
    groups = [{"params": ours[:2], "is_matrix": True}, {"params": ours[2:], "is_matrix": False}]
    optimizer = OPTIMIZERS["muon"].create(groups, config)
    assert isinstance(optimizer, Muon)
    optimizer.whole_matrices = InBf16({id(each): each.shape for each in ours[:2]})
    references = [
        torch.optim.Muon(theirs[:2], 0.02, 0.1, momentum=0.9, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(theirs[2:], 0.02, weight_decay=0.1),
    ]
    for _ in range(4):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape, generator=generator)
            other.grad = mine.grad.clone()
        for each in (optimizer, *references):
            each.step()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.data, other.data, rtol=0, atol=2e-3 if mine.dim() == 2 else 1e-6)
    assert set(optimizer.state[ours[0]]) == {"momentum"}
    assert set(optimizer.state[ours[2]]) == {"exp_avg", "exp_avg_sq", "step"}


def test_a_gate_is_a_matrix_of_its_own() -> None:
    cells = torch.randn(5 * 4, 3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(GATES.view(cells)[2], cells[2::4])


@pytest.mark.parametrize("run", FAMILY_RUNS)
def test_each_parameter_of_two_dimensions_is_in_one_of_the_tables(run: str, dataset: Path) -> None:
    family = FAMILY_RUNS[run]
    learner = build(
        parse_model(family.model, "[model]"), family.objectives, Vocabulary(320, dataset / "tokenizer.model")
    )
    for name, parameter in learner.named_parameters():
        rows = [pattern for pattern in (*MATRICES, *NOT_MATRICES) if fnmatch.fnmatchcase(name, pattern)]
        kinds = {pattern in MATRICES for pattern in rows}
        assert len(kinds) == (parameter.dim() > 1), f"{name}: {rows}; name it in one table of optimizers/matrices.py"
    groups = muon_groups(learner, 0.1)
    assert sum(len(group["params"]) for group in groups) == len(list(learner.parameters()))
    assert all(parameter.dim() > 1 for parameter in groups[0]["params"])


def test_experts_query_key_and_value_are_matrices_of_their_own() -> None:
    layout = layout_of("backbone.encoder_blocks.1.feed_forward.experts.up")
    assert layout is not None and layout.is_stacked
    names = [f"backbone.blocks.0.attention.{part}.weight" for part in ("query", "key", "value", "output")]
    assert all(layout_of(name) is WHOLE for name in names)
    assert layout_of("backbone.token_embedding.weight") is None


class Counted(TorchDispatchMode):
    """Counts operations of torch."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # A view starts no kernel.
        self.count += not func.is_view
        return func(*args, **kwargs or {})


def test_more_matrices_of_one_shape_are_no_more_operations() -> None:
    """On a GPU each operation is a launch, of 58 microseconds of the host where it was measured."""
    counts = []
    for layers in (2, 6):
        names = [f"blocks.{layer}.attention.{kind}.weight" for layer in range(layers) for kind in ("query", "key")]
        parameters = {name: nn.Parameter(torch.randn(4, 6)) for name in names}
        exchange = matrices_of_one_process(parameters, torch.device("cpu"), torch.float32)
        updates = {id(each): each.detach().clone().view(-1) for each in parameters.values()}
        with Counted() as counted:
            exchange.apply(orthogonalize, updates)
        counts.append(counted.count)
        for name, each in parameters.items():
            assert torch.equal(updates[id(each)].view(4, 6), orthogonalize(each.detach()[None])[0]), name
    assert counts[0] == counts[1]
