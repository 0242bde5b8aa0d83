"""Adafactor."""

from typing import Any

import torch
from torch import Tensor

from sesame.pretrain.batch import on_device
from sesame.pretrain.optimizers.norm_scaled import NormScaledOptimizer
from sesame.pretrain.optimizers.state import StateSpec, fp32_gradient

STATE = StateSpec(("exp_avg_sq",), steps_on_host=True)


class Adafactor(NormScaledOptimizer):
    """Adafactor (Shazeer & Stern 2018, algorithm 4) without momentum, as in T5, but with a full second moment.

    A range of a flat tensor has no rows and columns, so the second moment is not factored, as in the paper's algorithm
    5 for vectors. It takes 4 bytes for each parameter, half of Adam's state, divided by the number of data-parallel
    processes under ZeRO; a factored one takes almost nothing.
    """

    scales_weight_decay = False

    def __init__(self, params: Any, lr: float, weight_decay: float = 0.0, scale_by_parameter: bool = True):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self.scale_by_parameter = scale_by_parameter

    def _update(self, group: dict[str, Any], tensor: Tensor) -> Tensor:
        state = STATE.of(self, tensor)
        state["step"] += 1
        gradient = fp32_gradient(tensor)
        keep = 1 - state["step"].item() ** -0.8
        state["exp_avg_sq"].mul_(keep).add_(gradient.square().add_(1e-30), alpha=1 - keep)
        return state["exp_avg_sq"].rsqrt().mul_(gradient)

    def _scale(self, weight_norm: Tensor, update_norm: Tensor) -> Tensor:
        root_entries = on_device(torch.tensor(self.entries, dtype=torch.float32), weight_norm.device).sqrt()
        clipped = 1 / (update_norm / root_entries).clamp(min=1.0)
        return clipped * (weight_norm / root_entries).clamp(min=1e-3) if self.scale_by_parameter else clipped
