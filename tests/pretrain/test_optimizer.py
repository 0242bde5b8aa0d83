"""Schedules, parameter groups and LAMB's arithmetic."""

import math

import pytest
import torch
from torch import nn

from configs import parse
from configs.errors import ConfigError
from pretrain.optimizer import OPTIMIZERS, Lamb, OptimizerConfig, ScheduleConfig, Segments, parameter_groups


def test_linear_schedule_warms_up_and_ends_at_the_final_fraction() -> None:
    schedule = ScheduleConfig(warmup_steps=4, decay="linear", final_fraction=0.1)
    factors = [schedule.factor(step, 14) for step in range(15)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[4] == 1.0 and factors[9] == pytest.approx(0.55) and factors[14] == pytest.approx(0.1)


def test_other_decays() -> None:
    assert ScheduleConfig(decay="cosine").factor(5, 10) == pytest.approx(0.5)
    assert ScheduleConfig(decay="constant").factor(9, 10) == 1.0
    assert ScheduleConfig(warmup_steps=100, decay="rsqrt").factor(399, 1000) == pytest.approx(0.5)
    with pytest.raises(ConfigError, match="rsqrt"):
        parse({"decay": "rsqrt"}, ScheduleConfig, "run.toml")


def test_biases_and_norms_have_no_weight_decay() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    matrices, vectors = parameter_groups(module, 0.01)
    assert [p.shape for p in matrices["params"]] == [(4, 3)] and matrices["weight_decay"] == 0.01
    assert len(vectors["params"]) == 3 and vectors["weight_decay"] == 0.0


def lamb_by_hand(weight: torch.Tensor, gradients: list[torch.Tensor], lr: float, decay: float) -> torch.Tensor:
    """Algorithm 2 of You et al. 2020, written out."""
    mean = square = torch.zeros_like(weight)
    for step, gradient in enumerate(gradients, 1):
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        update = (mean / (1 - 0.9**step)) / ((square / (1 - 0.999**step)).sqrt() + 1e-6) + decay * weight
        weight = weight - lr * weight.norm() / update.norm() * update
    return weight


def test_lamb_is_algorithm_2() -> None:
    torch.manual_seed(1)
    weights = [torch.randn(4, 3), torch.randn(5)]
    gradients = [[torch.randn_like(weight) for _ in range(3)] for weight in weights]
    parameters = [nn.Parameter(weight.clone()) for weight in weights]
    config = OptimizerConfig(name="lamb", learning_rate=0.01, weight_decay=0.1)
    optimizer = OPTIMIZERS["lamb"].make([{"params": parameters, "weight_decay": 0.1}], config)
    for step in range(3):
        for parameter, row in zip(parameters, gradients, strict=True):
            parameter.grad = row[step].clone()
        optimizer.step()
    for parameter, weight, row in zip(parameters, weights, gradients, strict=True):
        torch.testing.assert_close(parameter.data, lamb_by_hand(weight, row, 0.01, 0.1))


def test_lamb_over_a_flat_buffer_keeps_one_ratio_for_each_parameter() -> None:
    torch.manual_seed(1)
    weights = [torch.randn(12) * 5, torch.randn(5)]
    gradients = [[torch.randn_like(weight) for _ in range(3)] for weight in weights]
    flat = nn.Parameter(torch.cat(weights))
    optimizer = Lamb([flat], lr=0.01, betas=(0.9, 0.999), weight_decay=0.1)
    optimizer.place({id(flat): Segments((0, 1), (0, 12), (12, 5))}, 2, lambda squares: squares)
    for step in range(3):
        flat.grad = torch.cat([row[step] for row in gradients])
        optimizer.step()
    expected = torch.cat([lamb_by_hand(w, row, 0.01, 0.1) for w, row in zip(weights, gradients, strict=True)])
    torch.testing.assert_close(flat.data, expected)


def test_rsqrt_matches_its_formula() -> None:
    assert ScheduleConfig(warmup_steps=16, decay="rsqrt").factor(63, 100) == pytest.approx(math.sqrt(16 / 64))
