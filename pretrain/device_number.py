"""Numbers that a GPU computes while the program goes on."""

import torch
from torch import Tensor


class DeviceNumber:
    """Numbers on their way from the device to the host: reading them waits for them, and for nothing that came after.

    ``float`` reads a scalar, ``tensor`` numbers of any shape.
    """

    def __init__(self, value: Tensor | float):
        self.is_late = isinstance(value, Tensor) and value.device.type == "cuda"
        """Whether reading may have to wait."""
        self._value = value
        if isinstance(value, Tensor) and self.is_late:
            self._value = torch.empty(value.shape, dtype=value.dtype, pin_memory=True).copy_(value, non_blocking=True)
            self._copied = torch.cuda.Event()
            self._copied.record()

    def __float__(self) -> float:
        return float(self._read())

    def tensor(self) -> Tensor:
        """Return the numbers on the host."""
        return torch.as_tensor(self._read())

    def _read(self) -> Tensor | float:
        if self.is_late:
            # Not ``Tensor.item``, which would wait for all work that is queued by now.
            self._copied.synchronize()
        return self._value
