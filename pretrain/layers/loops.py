"""When a layer computes with the loops of ``pretrain/compiled`` instead of torch's operations, and their arrays."""

import numpy as np
import torch
from torch import Tensor, nn

MOST_THREADS = 4
"""Loops use one thread; with more than so many, torch's operations are faster."""
FORMATS = (torch.float32, torch.bfloat16)
PLAIN = (Tensor, nn.Parameter)
"""Classes of tensors that have memory, unlike those of a trace."""


def use_loops(*tensors: Tensor) -> bool:
    """Return whether loops can compute with all of the tensors and are faster."""
    return fits_loops(*tensors) and all(has_memory(each) for each in tensors)


def fits_loops(*tensors: Tensor) -> bool:
    """Return the same for tensors that may be those of a trace."""
    return (
        all(each.device.type == "cpu" and each.dtype in FORMATS for each in tensors)
        and not torch.compiler.is_compiling()
        and torch.get_num_threads() <= MOST_THREADS
    )


def has_memory(tensor: Tensor) -> bool:
    return type(tensor) in PLAIN


def array(tensor: Tensor) -> np.ndarray:
    """Return the memory of a contiguous tensor; bf16, which numpy does not have, as uint16."""
    tensor = tensor.detach()
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def flat(tensor: Tensor) -> np.ndarray:
    """Return the same without dimensions."""
    return array(tensor).reshape(-1)
