"""Adagrad."""

from typing import Any

import torch

from sesame.pretrain.optimizers.state import StateSpec, fp32_gradient

STATE = StateSpec(("sum",), counts_steps=False, initial=1.0)


class Adagrad(torch.optim.Optimizer):
    """Adagrad (Duchi et al. 2011); the sum of squares starts at 1.0, as in ELMo's published code.

    Not torch's class, which DeepSpeed recreates with a single parameter group, and then fails.
    """

    def __init__(self, params: Any, lr: float, eps: float = 1e-10, weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """Update every tensor that has a gradient."""
        for group in self.param_groups:
            for tensor in group["params"]:
                if tensor.grad is not None:
                    gradient, total = fp32_gradient(tensor), STATE.of(self, tensor)["sum"]
                    total.addcmul_(gradient, gradient)
                    tensor.mul_(1 - group["lr"] * group["weight_decay"])
                    tensor.addcdiv_(gradient, total.sqrt().add_(group["eps"]), value=-group["lr"])
