"""LAMB."""

from typing import Any

import torch
from torch import Tensor

from sesame.pretrain.optimizers.norm_scaled import NormScaledOptimizer
from sesame.pretrain.optimizers.state import StateSpec, fp32_gradient

STATE = StateSpec(("exp_avg", "exp_avg_sq"), steps_on_host=True)


class Lamb(NormScaledOptimizer):
    """LAMB (You et al. 2020, algorithm 2): Adam's step, scaled for each parameter by norm(w) / norm(step)."""

    def __init__(
        self, params: Any, lr: float, betas: tuple[float, float], eps: float = 1e-6, weight_decay: float = 0.01
    ):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def _update(self, group: dict[str, Any], tensor: Tensor) -> Tensor:
        state = STATE.of(self, tensor)
        state["step"] += 1
        beta1, beta2 = group["betas"]
        gradient = fp32_gradient(tensor)
        state["exp_avg"].lerp_(gradient, 1 - beta1)
        state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        steps = state["step"].item()
        mean = state["exp_avg"] / (1 - beta1**steps)
        root = (state["exp_avg_sq"] / (1 - beta2**steps)).sqrt_().add_(group["eps"])
        return mean.div_(root).add_(tensor, alpha=group["weight_decay"])

    def _scale(self, weight_norm: Tensor, update_norm: Tensor) -> Tensor:
        return torch.where((weight_norm > 0) & (update_norm > 0), weight_norm / update_norm, 1.0)
