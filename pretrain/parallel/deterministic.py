"""Kernels that give the same bits each time."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


@contextmanager
def deterministic_kernels(enabled: bool) -> Iterator[None]:
    """Use only deterministic kernels in the block, if ``enabled``; torch raises an error for an operation without one.

    Enter it before the first product on a GPU, when cuBLAS reads its variable.
    """
    if not enabled:
        yield
        return
    memory: Any = torch.utils.deterministic
    fills = memory.fill_uninitialized_memory
    os.environ.setdefault(WORKSPACE, ":4096:8")
    torch.use_deterministic_algorithms(True)
    # It would fill every new tensor with NaN first; no result depends on memory that was not written.
    memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
        memory.fill_uninitialized_memory = fills
