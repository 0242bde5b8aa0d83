"""A copy of tensors in host memory, which a GPU makes while it computes."""

from collections.abc import Mapping
from concurrent.futures import Future

import torch
from torch import Tensor

from sesame.configs.errors import CheckpointError
from sesame.pretrain.checkpoints.futures import call_in_thread
from sesame.pretrain.checkpoints.stored import VALUES_PER_FILE

BUFFER_VALUES = 2**26
"""Values of a buffer: 256 MiB, the largest slice of a tensor. torch rounds page-locked memory up to a power of two."""
EXTRA_VALUES = 2**22
"""Values of a buffer (16 MiB) beyond those that were reserved, at least."""


class HostCopy:
    """Copies tensors to host memory that is used again by the next copy.

    New memory is slow: a gigabyte takes a second or two to get, page-locked or not, and 0.03 s (from a GPU) or 0.2 s to
    fill. A stream of its own copies tensors of a GPU.
    """

    def __init__(self, device: torch.device):
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._reserved: Future[list[Tensor]] | None = None
        self._buffers: list[Tensor] = []
        self._number = self._used = 0
        """Buffer that is being filled, and how many of its values are used."""
        self._pending = 0
        """Values that are being copied."""

    def reserve(self, values: int) -> None:
        """Begin to allocate buffers for so many values, in a thread."""
        sizes = [min(BUFFER_VALUES, values - first) for first in range(0, values, BUFFER_VALUES)]
        self._reserved = call_in_thread(lambda: [self._allocated(size) for size in sizes])

    def start(self) -> None:
        """Use the buffers again.

        Raises:
            CheckpointError: the host has too little memory.
        """
        if self._reserved is not None:
            self._buffers, self._reserved = self._reserved.result(), None
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
        copy = self._space(tensor.numel()).view(tensor.shape)
        if self._stream is None:
            return copy.copy_(tensor)
        if self._pending >= VALUES_PER_FILE:
            # A tensor that was joined from several processes is in the GPU's memory until it is copied.
            self.wait()
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
        # What did not fit between the tensors before, and more than an equal share of this process.
        self._buffers.append(self._allocated(max(values, EXTRA_VALUES)))
        return self._space(values)

    def _allocated(self, values: int) -> Tensor:
        try:
            memory = torch.empty(values, dtype=torch.float32, pin_memory=self._stream is not None)
            # The system gives memory when it is first written.
            return memory.zero_()
        except (RuntimeError, MemoryError) as error:
            raise CheckpointError(
                f"this machine's memory is too small for a copy of the checkpoint ({str(error).splitlines()[0]}); "
                "--set checkpoint.background=false saves without one"
            ) from None
