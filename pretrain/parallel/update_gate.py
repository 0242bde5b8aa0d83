"""A gate between the gradient norm and the update: what is wrong is not applied, under every ZeRO stage."""

from collections.abc import Callable
from typing import Any

import torch

from sesame.pretrain.device_number import DeviceNumber

Accepts = Callable[[DeviceNumber], bool]
"""Whether the update of a step is applied, by its gradient norm; the answer must be the same in every process."""


class UpdateGate:
    """Replaces ``step`` of the optimizer inside DeepSpeed's, which has the norm by then.

    Weights and moments of a refused update, and its count of updates, stay as they were.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, norm: Callable[[], Any]):
        """
        Args:
            norm: returns the gradient norm of the step under way.
        """
        self._update, self._norm = optimizer.step, norm
        self._accepts: Accepts | None = None
        self._answer: bool | None = None
        optimizer.step = self._step  # type: ignore[method-assign]

    def ask(self, accepts: Accepts | None) -> None:
        """Let ``accepts`` decide about the next step; None: it is applied, and nothing waits for the device."""
        self._accepts, self._answer = accepts, None

    @property
    def was_applied(self) -> bool:
        """Whether the last step was applied; DeepSpeed refuses some that are not finite without asking."""
        return bool(self._answer)

    def _step(self, closure: Any = None) -> None:
        if self._answer is None:
            self._answer = self._accepts is None or self._accepts(DeviceNumber(self._norm()))
        if self._answer:
            self._update()
