"""Counts of weights and of optimizer state, compared with what the optimizers really keep."""

from typing import get_args

import pytest
import torch

from sesame.pretrain.learner import build
from sesame.pretrain.models.family import Vocabulary
from sesame.pretrain.models.gpt import GptConfig
from sesame.pretrain.optimizers import optimizer_kind
from sesame.pretrain.optimizers.config import OptimizerConfig
from sesame.pretrain.optimizers.muon import Function, Muon
from sesame.pretrain.planning.layout import Counts, Layout

MODEL = GptConfig(layers=2, width=32, heads=2, feed_forward_width=64, positions=16)
NAMES = get_args(OptimizerConfig.model_fields["name"].annotation)


class InPlace:
    """Matrices that this process has as a whole."""

    def apply(self, function: Function, updates: dict[int, torch.Tensor]) -> None:
        """Compute nothing: only the state is looked at."""


@pytest.mark.parametrize("average_decay", [0.0, 0.999])
@pytest.mark.parametrize("name", NAMES)
def test_moments_are_what_the_optimizer_keeps(name: str, average_decay: float) -> None:
    config = OptimizerConfig.model_validate({"name": name, "learning_rate": 0.1, "average_decay": average_decay})
    kind = optimizer_kind(config)
    learner = build(MODEL, {"causal_lm": 1.0}, Vocabulary(64)).to_empty(device="cpu")
    optimizer = kind.create(kind.groups(learner, 0.0), config)
    if isinstance(optimizer, Muon):
        optimizer.whole_matrices = InPlace()
    for parameter in learner.parameters():
        torch.nn.init.zeros_(parameter)
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    parameters = sum(parameter.numel() for parameter in learner.parameters())
    kept = sum(value.numel() for state in optimizer.state.values() for key, value in state.items() if key != "step")
    counts = Counts.of(learner, kind)
    assert counts.all == parameters
    assert counts.shared_moments == kept + parameters * (average_decay > 0)


def test_zero_divides_the_state_of_the_optimizer() -> None:
    """Muon has one moment for its matrices (Jordan et al. 2024), AdamW's two for all else."""
    kind = optimizer_kind(OptimizerConfig(name="muon", learning_rate=0.1))
    counts = Counts.of(build(MODEL, {"causal_lm": 1.0}, Vocabulary(64)), kind)
    matrices = 2 * (4 * 32 * 32 + 2 * 32 * 64)
    # Squares are the most at once: a copy, and two of an iteration, which has two products of the same size.
    assert counts.shared_matrices == (matrices, 2 * 4 * 32 * 32 * 5)
    assert counts.expert_matrices == (0, 0)
    for stage, part in ((0, 1), (1, 4), (3, 4)):
        layout = Layout(1, 4, 1, stage, "none", "fp32", 8, 1)
        assert counts.owned(layout) == counts.all / part
        assert counts.owned_moments(layout) == (2 * counts.all - matrices) / part
