"""The table of optimizers, and parameter groups."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

from sesame.pretrain.optimizers import adafactor, adagrad, lamb, muon, uncompiled
from sesame.pretrain.optimizers.config import OptimizerConfig
from sesame.pretrain.optimizers.matrices import layout_of
from sesame.pretrain.optimizers.state import StateSpec


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return two groups: matrices with weight decay; biases and norm weights without."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trained if len(parameter.shape) > 1]
    vectors = [parameter for parameter in trained if len(parameter.shape) <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


def muon_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return the same two groups, and before them those matrices that Muon orthogonalizes."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    others, vectors = parameter_groups(module, weight_decay)
    hidden = [parameter for parameter in others["params"] if layout_of(names[id(parameter)])]
    rest = [parameter for parameter in others["params"] if not layout_of(names[id(parameter)])]
    return [
        {**others, "params": hidden, "is_matrix": True},
        {**others, "params": rest, "is_matrix": False},
        {**vectors, "is_matrix": False},
    ]


def _adamw(groups: Any, config: OptimizerConfig) -> torch.optim.Optimizer:
    return uncompiled.AdamW(groups, config.learning_rate, config.betas, config.epsilon, config.weight_decay, fused=True)


def _lamb(groups: Any, config: OptimizerConfig) -> torch.optim.Optimizer:
    return lamb.Lamb(groups, config.learning_rate, config.betas, config.epsilon, config.weight_decay)


def _adafactor(groups: Any, config: OptimizerConfig) -> torch.optim.Optimizer:
    return adafactor.Adafactor(groups, config.learning_rate, config.weight_decay, config.scale_by_parameter)


def _adagrad(groups: Any, config: OptimizerConfig) -> torch.optim.Optimizer:
    return adagrad.Adagrad(groups, config.learning_rate, config.epsilon, config.weight_decay)


def _sgd(groups: Any, config: OptimizerConfig) -> torch.optim.Optimizer:
    return uncompiled.SGD(groups, config.learning_rate, momentum=config.betas[0], weight_decay=config.weight_decay)


def _muon(groups: Any, config: OptimizerConfig) -> torch.optim.Optimizer:
    settings = config.learning_rate, config.betas, config.epsilon, config.weight_decay, config.momentum
    return muon.Muon(groups, *settings)


class OptimizerKind(NamedTuple):
    """A row of the table."""

    create: Callable[[Any, OptimizerConfig], torch.optim.Optimizer]
    """From parameter groups."""
    state: StateSpec
    matrix_state: StateSpec | None = None
    """Of the matrices of ``matrices.py``, if they have another."""
    groups: Callable[[nn.Module, float], list[dict[str, Any]]] = parameter_groups
    """(module, weight decay) -> parameter groups."""
    averages: bool = False
    """A moving average of the weights is kept beside the state."""

    @property
    def moments(self) -> tuple[str, ...]:
        """Keys of the state that checkpoints store by parameter name."""
        return (*(key for spec in self._specs for key in spec.moments), *self._average)

    @property
    def fewest_moments(self) -> int:
        """Moments that every parameter has at least."""
        return min(len(spec.moments) for spec in self._specs) + len(self._average)

    @property
    def most_moments(self) -> int:
        """Moments that a parameter has at most."""
        return max(len(spec.moments) for spec in self._specs) + len(self._average)

    def state_of(self, name: str) -> StateSpec:
        """Return the state of the parameter ``name``."""
        return self.matrix_state if self.matrix_state is not None and layout_of(name) else self.state

    def moments_of(self, name: str) -> tuple[str, ...]:
        """Return the keys of ``moments`` that the parameter ``name`` has."""
        return (*self.state_of(name).moments, *self._average)

    @property
    def _average(self) -> tuple[str, ...]:
        return (AVERAGE,) if self.averages else ()

    @property
    def _specs(self) -> tuple[StateSpec, ...]:
        return (self.state,) if self.matrix_state is None else (self.matrix_state, self.state)


AVERAGE = "average"
"""Key of the moving average of the weights."""
ADAMW_STATE = StateSpec(("exp_avg", "exp_avg_sq"))


OPTIMIZERS: dict[str, OptimizerKind] = {
    "adamw": OptimizerKind(_adamw, ADAMW_STATE),
    "muon": OptimizerKind(_muon, ADAMW_STATE, muon.MATRIX_STATE, muon_groups),
    "lamb": OptimizerKind(_lamb, lamb.STATE),
    "adafactor": OptimizerKind(_adafactor, adafactor.STATE),
    "adagrad": OptimizerKind(_adagrad, adagrad.STATE),
    "sgd": OptimizerKind(_sgd, StateSpec(("momentum_buffer",), counts_steps=False)),
}


def optimizer_kind(config: OptimizerConfig) -> OptimizerKind:
    """Return the row of a run's optimizer, with what the run keeps beside its state."""
    return OPTIMIZERS[config.name]._replace(averages=config.average_decay > 0)
