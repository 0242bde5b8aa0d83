"""Optimizers: parameter groups and a table of optimizers."""

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from configs import Section
from configs.kinds import Fixed, Free

Decay = Annotated[float, Field(ge=0, lt=1)]
"""What is left of a running mean after a step."""


class OptimizerConfig(Section):
    """How weights follow gradients."""

    name: Fixed[Literal["adamw", "lamb", "adafactor", "adagrad", "sgd"]] = "adamw"
    """Row of the table of optimizers."""
    learning_rate: Free[float] = Field(gt=0)
    """Peak learning rate."""
    betas: Free[tuple[Decay, Decay]] = (0.9, 0.999)
    """Decay of the running mean of gradients and of their squares (BERT, appendix A.2). sgd reads the first as its
    momentum; adafactor and adagrad read neither."""
    epsilon: Free[float] = Field(default=1e-6, gt=0)
    """Added to the root of the second moment (BERT's published code). adafactor, whose constants are its paper's, and
    sgd do not read it."""
    scale_by_parameter: Fixed[bool] = True
    """adafactor: multiply the learning rate by the parameter's RMS, 0.001 at least (T5). The others do not read it."""
    weight_decay: Free[float] = Field(default=0.01, ge=0)
    """Decoupled weight decay; biases and norm weights have none (BERT, appendix A.2; T5 and ELMo: 0). sgd adds it to
    the gradient."""
    gradient_clipping: Free[float] = Field(default=1.0, ge=0)
    """Largest global gradient norm; 0 leaves gradients alone (BERT's published code: 1.0)."""


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


class WholeParameters(torch.optim.Optimizer):
    """Base of optimizers that scale a parameter's update by norms of the whole parameter and of its whole update.

    ZeRO hands an optimizer flat tensors that hold pieces of many parameters. ``place`` says where each lies and how
    sums over the pieces are completed, so that the norms stay those of each whole parameter in every layout.
    """

    decays_apart: ClassVar[bool] = False
    """True where weight decay is no part of the update, so that it is not scaled with it."""

    def __init__(self, params: Any, defaults: dict[str, Any]):
        super().__init__(params, defaults)
        tensors = [tensor for group in self.param_groups for tensor in group["params"]]
        self.place(
            {id(tensor): Segments((slot,), (0,), (tensor.numel(),)) for slot, tensor in enumerate(tensors)},
            [tensor.numel() for tensor in tensors],
            lambda squares: squares,
        )

    def place(self, segments: dict[int, Segments], entries: list[int], complete: Callable[[Tensor], Tensor]) -> None:
        """Say where parameters lie.

        Args:
            segments: by ``id`` of a tensor of the parameter groups.
            entries: of each whole parameter of the model, in the order of the segments' slots.
            complete: [2, slots] sums of squares of this process's pieces -> those of the whole parameters.
        """
        self.segments, self.entries, self.complete = segments, entries, complete

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """One update of every tensor that has a gradient."""
        tensors = [(group, tensor) for group in self.param_groups for tensor in group["params"]]
        if not tensors:
            return
        work = [(group, tensor, self._update(group, tensor)) for group, tensor in tensors if tensor.grad is not None]
        squares = torch.zeros(2, len(self.entries), dtype=torch.float32, device=tensors[0][1].device)
        for _, tensor, update in work:
            for slot, piece, change in self._pieces(tensor, update):
                squares[0, slot] += piece.square().sum()
                squares[1, slot] += change.square().sum()
        weight_norm, update_norm = self.complete(squares).sqrt()
        scale = self._scale(weight_norm, update_norm)
        for group, tensor, update in work:
            for slot, piece, change in self._pieces(tensor, update):
                if self.decays_apart:
                    piece.mul_(1 - group["lr"] * group["weight_decay"])
                piece.sub_(change * (group["lr"] * scale[slot]))

    @abstractmethod
    def _update(self, group: dict[str, Any], tensor: Tensor) -> Tensor:
        """The unscaled update of ``tensor``, entry by entry, after the moments have followed its gradient."""

    @abstractmethod
    def _scale(self, weight_norm: Tensor, update_norm: Tensor) -> Tensor:
        """[slots] norms of whole parameters and of their updates -> [slots] what the updates are multiplied by."""

    def _pieces(self, tensor: Tensor, update: Tensor) -> Iterable[tuple[int, Tensor, Tensor]]:
        flat, change = tensor.view(-1), update.view(-1)
        for slot, start, length in zip(*self.segments.get(id(tensor), NOWHERE), strict=True):
            yield slot, flat.narrow(0, start, length), change.narrow(0, start, length)


class Lamb(WholeParameters):
    """LAMB (You et al. 2020, algorithm 2): Adam's step, scaled for each parameter by norm(w) / norm(step)."""

    def __init__(
        self, params: Any, lr: float, betas: tuple[float, float], eps: float = 1e-6, weight_decay: float = 0.01
    ):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def _update(self, group: dict[str, Any], tensor: Tensor) -> Tensor:
        state = _state(self, "lamb", tensor)
        state["step"] += 1
        beta1, beta2 = group["betas"]
        gradient = _gradient(tensor)
        state["exp_avg"].lerp_(gradient, 1 - beta1)
        state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        steps = state["step"].item()
        mean = state["exp_avg"] / (1 - beta1**steps)
        root = (state["exp_avg_sq"] / (1 - beta2**steps)).sqrt_().add_(group["eps"])
        return mean.div_(root).add_(tensor, alpha=group["weight_decay"])

    def _scale(self, weight_norm: Tensor, update_norm: Tensor) -> Tensor:
        return torch.where((weight_norm > 0) & (update_norm > 0), weight_norm / update_norm, 1.0)


class Adafactor(WholeParameters):
    """Adafactor (Shazeer & Stern 2018, algorithm 4) without momentum, as in T5, but for the factored second moment.

    A piece of a flat tensor has no rows and columns, so the second moment is kept whole, as the paper's algorithm 5
    does for vectors. That costs 4 bytes for each parameter, half of Adam's state, where a factored matrix costs almost
    nothing; ZeRO divides them by the number of data-parallel processes.
    """

    decays_apart = True

    def __init__(self, params: Any, lr: float, weight_decay: float = 0.0, scale_by_parameter: bool = True):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self.scale_by_parameter = scale_by_parameter

    def _update(self, group: dict[str, Any], tensor: Tensor) -> Tensor:
        state = _state(self, "adafactor", tensor)
        state["step"] += 1
        gradient = _gradient(tensor)
        keep = 1 - state["step"].item() ** -0.8
        state["exp_avg_sq"].mul_(keep).add_(gradient.square().add_(1e-30), alpha=1 - keep)
        return state["exp_avg_sq"].rsqrt().mul_(gradient)

    def _scale(self, weight_norm: Tensor, update_norm: Tensor) -> Tensor:
        root_entries = torch.tensor(self.entries, dtype=torch.float32, device=weight_norm.device).sqrt()
        clipped = 1 / (update_norm / root_entries).clamp(min=1.0)
        return clipped * (weight_norm / root_entries).clamp(min=1e-3) if self.scale_by_parameter else clipped


class Adagrad(torch.optim.Optimizer):
    """Adagrad (Duchi et al. 2011); the sum of squares starts at 1.0, as in ELMo's published code.

    Not torch's class: DeepSpeed makes that one anew with one parameter group in place of ours, and then fails.
    """

    def __init__(self, params: Any, lr: float, eps: float = 1e-10, weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """One update of every tensor that has a gradient."""
        for group in self.param_groups:
            for tensor in group["params"]:
                if tensor.grad is not None:
                    gradient, total = _gradient(tensor), _state(self, "adagrad", tensor)["sum"]
                    total.addcmul_(gradient, gradient)
                    tensor.mul_(1 - group["lr"] * group["weight_decay"])
                    tensor.addcdiv_(gradient, total.sqrt().add_(group["eps"]), value=-group["lr"])


def _gradient(tensor: Tensor) -> Tensor:
    assert tensor.grad is not None
    return tensor.grad.float()


def _state(optimizer: torch.optim.Optimizer, name: str, tensor: Tensor) -> dict[str, Tensor]:
    state = optimizer.state[tensor]
    if not state:
        state.update(fresh_state(name, tensor, 0))
    return state


def _adamw(groups: Any, config: OptimizerConfig) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        groups, config.learning_rate, config.betas, config.epsilon, config.weight_decay, fused=True
    )


def _lamb(groups: Any, config: OptimizerConfig) -> torch.optim.Optimizer:
    return Lamb(groups, config.learning_rate, config.betas, config.epsilon, config.weight_decay)


def _adafactor(groups: Any, config: OptimizerConfig) -> torch.optim.Optimizer:
    return Adafactor(groups, config.learning_rate, config.weight_decay, config.scale_by_parameter)


def _adagrad(groups: Any, config: OptimizerConfig) -> torch.optim.Optimizer:
    return Adagrad(groups, config.learning_rate, config.epsilon, config.weight_decay)


def _sgd(groups: Any, config: OptimizerConfig) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, config.learning_rate, momentum=config.betas[0], weight_decay=config.weight_decay)


class OptimizerKind(NamedTuple):
    make: Callable[[Any, OptimizerConfig], torch.optim.Optimizer]
    moments: tuple[str, ...]
    """Keys of the per-entry state, each of the shape of the parameter; checkpoints hold them by parameter name."""
    counts_steps: bool
    initial: float = 0.0
    """What the moments start from."""


OPTIMIZERS: dict[str, OptimizerKind] = {
    "adamw": OptimizerKind(_adamw, ("exp_avg", "exp_avg_sq"), True),
    "lamb": OptimizerKind(_lamb, ("exp_avg", "exp_avg_sq"), True),
    "adafactor": OptimizerKind(_adafactor, ("exp_avg_sq",), True),
    "adagrad": OptimizerKind(_adagrad, ("sum",), False, initial=1.0),
    "sgd": OptimizerKind(_sgd, ("momentum_buffer",), False),
}


def fresh_state(name: str, tensor: Tensor, steps: int) -> dict[str, Tensor]:
    """The state of ``tensor`` after ``steps`` updates, its moments as they start."""
    kind = OPTIMIZERS[name]
    state = {key: torch.full_like(tensor, kind.initial, dtype=torch.float32) for key in kind.moments}
    if kind.counts_steps:
        # Beside the moments: torch's fused kernel on a GPU looks for it there.
        state["step"] = torch.tensor(float(steps), device=tensor.device)
    return state
