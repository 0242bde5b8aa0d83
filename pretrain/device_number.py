"""A number that a GPU computes while the program goes on."""

import torch
from torch import Tensor


class DeviceNumber:
    """A scalar on its way from the device to the host: ``float`` waits for it, and for nothing that came after it."""

    def __init__(self, value: Tensor | float):
        self.is_late = isinstance(value, Tensor) and value.device.type == "cuda"
        """Whether ``float`` may have to wait."""
        self._value = value
        if isinstance(value, Tensor) and self.is_late:
            self._value = torch.empty((), dtype=value.dtype, pin_memory=True).copy_(value, non_blocking=True)
            self._copied = torch.cuda.Event()
            self._copied.record()

    def __float__(self) -> float:
        if self.is_late:
            # Not ``Tensor.item``, which would wait for all work that is queued by now.
            self._copied.synchronize()
        return float(self._value)
