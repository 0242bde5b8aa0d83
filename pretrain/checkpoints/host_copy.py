"""A copy of tensors in host memory, which a GPU makes while it computes."""

from collections.abc import Mapping

import torch
from torch import Tensor

from sesame.configs.errors import CheckpointError
from sesame.pretrain.checkpoints.stored import VALUES_PER_FILE


class HostCopy:
    """Copies tensors to host memory.

    Tensors of the CPU are cloned. Those of a GPU are copied by a stream of their own into page-locked buffers, which
    take long to allocate and are used again by the next copy.
    """

    def __init__(self, values: int):
        """
        Args:
            values: expected number of values of a copy; the size of the first buffer.
        """
        self._buffer_values = min(values, VALUES_PER_FILE)
        self._buffers: list[Tensor] = []
        self._number = self._used = 0
        """Buffer that is being filled, and how many of its values are used."""
        self._pending = 0
        """Values that are being copied."""
        self._stream: torch.cuda.Stream | None = None

    def start(self) -> None:
        """Use the buffers again."""
        self._number = self._used = 0

    def of(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return copies of fp32 tensors; those of a GPU are there after :meth:`wait`.

        Raises:
            CheckpointError: the host has too little memory.
        """
        return {name: self._copied(tensor) for name, tensor in tensors.items()}

    def hold_device(self) -> None:
        """Let the computations that are started from now on wait for the copies."""
        if self._stream is not None:
            torch.cuda.current_stream(self._stream.device).wait_stream(self._stream)

    def wait(self) -> None:
        """Wait for the copies."""
        if self._stream is not None:
            self._stream.synchronize()
        self._pending = 0

    def _copied(self, tensor: Tensor) -> Tensor:
        if tensor.device.type != "cuda":
            return self._allocated(tensor.numel(), pin_memory=False).view(tensor.shape).copy_(tensor)
        if self._stream is None:
            self._stream = torch.cuda.Stream(tensor.device)
        if self._pending >= VALUES_PER_FILE:
            # A tensor that was joined from several processes is in the GPU's memory until it is copied.
            self.wait()
        copy = self._space(tensor.numel()).view(tensor.shape)
        self._stream.wait_stream(torch.cuda.current_stream(tensor.device))
        with torch.cuda.stream(self._stream):
            copy.copy_(tensor, non_blocking=True)
        tensor.record_stream(self._stream)
        self._pending += tensor.numel()
        return copy

    def _space(self, values: int) -> Tensor:
        """Return the next ``values`` values of the buffers."""
        while self._number < len(self._buffers):
            buffer = self._buffers[self._number]
            if self._used + values <= len(buffer):
                self._used += values
                return buffer[self._used - values : self._used]
            self._number, self._used = self._number + 1, 0
        self._buffers.append(self._allocated(max(values, self._buffer_values), pin_memory=True))
        return self._space(values)

    def _allocated(self, values: int, *, pin_memory: bool) -> Tensor:
        try:
            return torch.empty(values, dtype=torch.float32, pin_memory=pin_memory)
        except (RuntimeError, MemoryError) as error:
            raise CheckpointError(
                f"this machine's memory is too small for a copy of the checkpoint ({str(error).splitlines()[0]}); "
                "--set checkpoint.background=false saves without one"
            ) from None
