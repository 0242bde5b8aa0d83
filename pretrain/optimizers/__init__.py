"""The table of optimizers, and parameter groups."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

from sesame.pretrain.optimizers import adafactor, adagrad, lamb
from sesame.pretrain.optimizers.config import OptimizerConfig
from sesame.pretrain.optimizers.state import StateSpec


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return two groups: matrices with weight decay; biases and norm weights without."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trained if len(parameter.shape) > 1]
    vectors = [parameter for parameter in trained if len(parameter.shape) <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


def _adamw(groups: Any, config: OptimizerConfig) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        groups, config.learning_rate, config.betas, config.epsilon, config.weight_decay, fused=True
    )


def _lamb(groups: Any, config: OptimizerConfig) -> torch.optim.Optimizer:
    return lamb.Lamb(groups, config.learning_rate, config.betas, config.epsilon, config.weight_decay)


def _adafactor(groups: Any, config: OptimizerConfig) -> torch.optim.Optimizer:
    return adafactor.Adafactor(groups, config.learning_rate, config.weight_decay, config.scale_by_parameter)


def _adagrad(groups: Any, config: OptimizerConfig) -> torch.optim.Optimizer:
    return adagrad.Adagrad(groups, config.learning_rate, config.epsilon, config.weight_decay)


def _sgd(groups: Any, config: OptimizerConfig) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, config.learning_rate, momentum=config.betas[0], weight_decay=config.weight_decay)


class OptimizerKind(NamedTuple):
    """A row of the table."""

    create: Callable[[Any, OptimizerConfig], torch.optim.Optimizer]
    """From parameter groups."""
    state: StateSpec

    @property
    def moments(self) -> tuple[str, ...]:
        """Keys of the state that checkpoints store by parameter name."""
        return self.state.moments


OPTIMIZERS: dict[str, OptimizerKind] = {
    "adamw": OptimizerKind(_adamw, StateSpec(("exp_avg", "exp_avg_sq"))),
    "lamb": OptimizerKind(_lamb, lamb.STATE),
    "adafactor": OptimizerKind(_adafactor, adafactor.STATE),
    "adagrad": OptimizerKind(_adagrad, adagrad.STATE),
    "sgd": OptimizerKind(_sgd, StateSpec(("momentum_buffer",), counts_steps=False)),
}
