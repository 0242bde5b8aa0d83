"""The per-entry state of optimizers, created outside of them too, because checkpoints store it by parameter name."""

from typing import NamedTuple

import torch
from torch import Tensor


class StateSpec(NamedTuple):
    """What an optimizer keeps for each tensor."""

    moments: tuple[str, ...]
    """Keys of the tensors of the parameter's shape."""
    counts_steps: bool = True
    initial: float = 0.0
    """Initial value of the moments."""
    steps_on_host: bool = False
    """The count is on the host, where it is read without waiting for a GPU."""

    def create(self, tensor: Tensor, steps: int) -> dict[str, Tensor]:
        """Return fresh moments for ``tensor``, and a count of ``steps`` updates."""
        state = {key: torch.full_like(tensor, self.initial, dtype=torch.float32) for key in self.moments}
        if self.counts_steps:
            # Else on the device of the moments, where torch's fused kernel requires it.
            state["step"] = torch.tensor(float(steps), device="cpu" if self.steps_on_host else tensor.device)
        return state

    def of(self, optimizer: torch.optim.Optimizer, tensor: Tensor) -> dict[str, Tensor]:
        """Return the state of ``tensor`` in ``optimizer``, created at its first update."""
        state = optimizer.state[tensor]
        if not state:
            state.update(self.create(tensor, 0))
        return state


def fp32_gradient(tensor: Tensor) -> Tensor:
    """Return the gradient of ``tensor``, which has one."""
    assert tensor.grad is not None
    return tensor.grad.float()
