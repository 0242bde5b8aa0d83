"""Optimizers and schedules: parameter groups, a table of optimizers, a table of schedules."""

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from configs import Section


class OptimizerConfig(Section):
    """How weights follow gradients."""

    name: Literal["adamw", "lamb", "sgd"] = "adamw"
    """Row of the table of optimizers."""
    learning_rate: float = Field(gt=0)
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the running mean of gradients and of their squares (BERT, appendix A.2)."""
    epsilon: float = Field(default=1e-6, gt=0)
    """Added to the root of the second moment (BERT's published code)."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Decoupled weight decay; biases and norm weights have none (BERT, appendix A.2)."""
    gradient_clipping: float = Field(default=1.0, ge=0)
    """Largest global gradient norm; 0 leaves gradients alone (BERT's published code: 1.0)."""


class ScheduleConfig(Section):
    """Learning rate over time: a linear warm-up, then a decay to ``final_fraction`` of the peak."""

    warmup_steps: int = Field(default=0, ge=0)
    """Steps from 0 to the peak learning rate."""
    decay: Literal["linear", "cosine", "constant", "rsqrt"] = "linear"
    """Shape after the warm-up (BERT: linear)."""
    final_fraction: float = Field(default=0.0, ge=0, le=1)
    """Share of the peak that is left at the last step."""

    @model_validator(mode="after")
    def _rsqrt_needs_warmup(self) -> "ScheduleConfig":
        if self.decay == "rsqrt" and self.warmup_steps == 0:
            raise ValueError("decay 'rsqrt' scales by warmup_steps, which is 0; set it")
        return self

    def factor(self, step: int, steps: int) -> float:
        """Share of the peak learning rate at optimizer step ``step`` (from 0) of ``steps``."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(1, steps - self.warmup_steps)
        shape = DECAYS[self.decay](progress, step, self.warmup_steps)
        return self.final_fraction + (1 - self.final_fraction) * shape


DECAYS: dict[str, Callable[[float, int, int], float]] = {
    "linear": lambda progress, step, warmup: 1 - progress,
    "cosine": lambda progress, step, warmup: 0.5 * (1 + math.cos(math.pi * progress)),
    "constant": lambda progress, step, warmup: 1.0,
    "rsqrt": lambda progress, step, warmup: math.sqrt(warmup / (step + 1)),
}
"""(progress in [0, 1) since the warm-up, step, warm-up steps) -> share of the peak; rsqrt as in T5, section 3.1.2."""


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices with weight decay; biases and norm weights without."""
    named = [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]
    matrices = [parameter for name, parameter in named if len(parameter.shape) > 1]
    vectors = [parameter for name, parameter in named if len(parameter.shape) <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


class Segments(NamedTuple):
    """Which parameters lie where in a tensor that an optimizer was given: one entry for each stretch."""

    slots: tuple[int, ...]
    """Number of the parameter in the whole model."""
    starts: tuple[int, ...]
    lengths: tuple[int, ...]


NOWHERE = Segments((), (), ())
"""Of a tensor that holds padding only."""


class Lamb(torch.optim.Optimizer):
    """LAMB (You et al. 2020, algorithm 2): Adam's step, scaled for each parameter by norm(w) / norm(step).

    ZeRO hands an optimizer flat tensors that hold pieces of many parameters. ``place`` says where each lies and how
    sums over the pieces are completed, so that the ratio stays one for each whole parameter in every layout.
    """

    def __init__(
        self, params: Any, lr: float, betas: tuple[float, float], eps: float = 1e-6, weight_decay: float = 0.01
    ):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        tensors = [tensor for group in self.param_groups for tensor in group["params"]]
        self.place(
            {id(tensor): Segments((slot,), (0,), (tensor.numel(),)) for slot, tensor in enumerate(tensors)},
            len(tensors),
            lambda squares: squares,
        )

    def place(self, segments: dict[int, Segments], slots: int, complete: Callable[[Tensor], Tensor]) -> None:
        """Say where parameters lie.

        Args:
            segments: by ``id`` of a tensor of the parameter groups.
            slots: parameters in the whole model.
            complete: [2, slots] sums of squares of this process's pieces -> those of the whole parameters.
        """
        self.segments, self.slots, self.complete = segments, slots, complete

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """One update of every tensor that has a gradient."""
        tensors = [(group, tensor) for group in self.param_groups for tensor in group["params"]]
        if not tensors:
            return
        found = [(group, tensor, self._adam(group, tensor)) for group, tensor in tensors]
        work = [(group, tensor, update) for group, tensor, update in found if update is not None]
        squares = torch.zeros(2, self.slots, dtype=torch.float32, device=tensors[0][1].device)
        for _, tensor, update in work:
            for slot, piece, change in self._pieces(tensor, update):
                squares[0, slot] += piece.square().sum()
                squares[1, slot] += change.square().sum()
        weight_norm, update_norm = self.complete(squares).sqrt()
        ratio = torch.where((weight_norm > 0) & (update_norm > 0), weight_norm / update_norm, 1.0)
        for group, tensor, update in work:
            for slot, piece, change in self._pieces(tensor, update):
                piece.sub_(change * (group["lr"] * ratio[slot]))

    def _pieces(self, tensor: Tensor, update: Tensor) -> Iterable[tuple[int, Tensor, Tensor]]:
        flat, change = tensor.view(-1), update.view(-1)
        for slot, start, length in zip(*self.segments.get(id(tensor), NOWHERE), strict=True):
            yield slot, flat.narrow(0, start, length), change.narrow(0, start, length)

    def _adam(self, group: dict[str, Any], tensor: Tensor) -> Tensor | None:
        if tensor.grad is None:
            return None
        state = self.state[tensor]
        if not state:
            state.update(fresh_state("lamb", tensor, 0))
        state["step"] += 1
        beta1, beta2 = group["betas"]
        gradient = tensor.grad.to(state["exp_avg"].dtype)
        state["exp_avg"].lerp_(gradient, 1 - beta1)
        state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        steps = state["step"].item()
        mean = state["exp_avg"] / (1 - beta1**steps)
        root = (state["exp_avg_sq"] / (1 - beta2**steps)).sqrt_().add_(group["eps"])
        return mean.div_(root).add_(tensor, alpha=group["weight_decay"])


def _adamw(groups: Any, config: OptimizerConfig) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        groups, config.learning_rate, config.betas, config.epsilon, config.weight_decay, fused=True
    )


def _lamb(groups: Any, config: OptimizerConfig) -> torch.optim.Optimizer:
    return Lamb(groups, config.learning_rate, config.betas, config.epsilon, config.weight_decay)


def _sgd(groups: Any, config: OptimizerConfig) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, config.learning_rate, momentum=config.betas[0], weight_decay=config.weight_decay)


class OptimizerKind(NamedTuple):
    make: Callable[[Any, OptimizerConfig], torch.optim.Optimizer]
    moments: tuple[str, ...]
    """Keys of the per-entry state, each of the shape of the parameter; checkpoints hold them by parameter name."""
    counts_steps: bool


OPTIMIZERS: dict[str, OptimizerKind] = {
    "adamw": OptimizerKind(_adamw, ("exp_avg", "exp_avg_sq"), True),
    "lamb": OptimizerKind(_lamb, ("exp_avg", "exp_avg_sq"), True),
    "sgd": OptimizerKind(_sgd, ("momentum_buffer",), False),
}


def fresh_state(name: str, tensor: Tensor, steps: int) -> dict[str, Tensor]:
    """The state of ``tensor`` after ``steps`` updates, its moments still zero."""
    kind = OPTIMIZERS[name]
    state = {key: torch.zeros_like(tensor, dtype=torch.float32) for key in kind.moments}
    if kind.counts_steps:
        state["step"] = torch.tensor(float(steps))
    return state
