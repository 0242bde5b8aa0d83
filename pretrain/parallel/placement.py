"""Which part of a whole parameter this process has, and whole values from the parts of all processes.

Two splits are known from attributes of a parameter: ``partition_dim`` is split over the tensor-parallel group
(megatron-core's attribute), and experts, the first dimension, over the expert-parallel group (DeepSpeed's
``allreduce = False``).
"""

from typing import Any

import torch
from torch import Tensor, nn

from sesame.pretrain.initialization import Rows
from sesame.pretrain.parallel.mesh import Mesh


def split_dimension(parameter: nn.Parameter) -> int | None:
    """Return the dimension that is split over the tensor-parallel group; None where every process has the whole."""
    return getattr(parameter, "partition_dim", None) if getattr(parameter, "tensor_model_parallel", False) else None


def is_expert_parallel(parameter: nn.Parameter) -> bool:
    """Whether ``parameter`` has this process's experts only, along its first dimension."""
    return not getattr(parameter, "allreduce", True)


def local_shape(parameter: nn.Parameter) -> torch.Size:
    """Return the shape of this process's part before ZeRO partitions it; stage 3 keeps it in ``ds_shape``."""
    return torch.Size(getattr(parameter, "ds_shape", parameter.shape))


def full_shape(parameter: nn.Parameter, mesh: Mesh) -> torch.Size:
    """Return the shape of the whole parameter."""
    shape = list(local_shape(parameter))
    dimension = split_dimension(parameter)
    if dimension is not None:
        shape[dimension] *= mesh.tensor
    if is_expert_parallel(parameter):
        shape[0] *= mesh.expert
    return torch.Size(shape)


def first_row(parameter: nn.Parameter, mesh: Mesh) -> int:
    """Return which row of the whole is this process's first one; 0 where all processes have the same rows."""
    rows = local_shape(parameter)[0]
    if is_expert_parallel(parameter):
        return mesh.expert_rank * rows
    return mesh.tensor_rank * rows if split_dimension(parameter) == 0 else 0


def replicas(parameter: nn.Parameter, mesh: Mesh) -> tuple[int, int]:
    """Return (this process's rank, how many) among those with the same rows of ``parameter``, or parts of them."""
    if is_expert_parallel(parameter):
        return mesh.data_rank // mesh.expert * mesh.tensor + mesh.tensor_rank, mesh.world // mesh.expert
    return (mesh.data_rank, mesh.data) if split_dimension(parameter) == 0 else (mesh.rank, mesh.world)


def tensor_replicas(parameter: nn.Parameter, mesh: Mesh) -> tuple[int, int]:
    """Return (this process's rank, how many) among the tensor-parallel processes with the same rows of ``parameter``,
    or parts of them."""
    return (0, 1) if split_dimension(parameter) == 0 else (mesh.tensor_rank, mesh.tensor)


def kind(parameter: nn.Parameter) -> tuple[bool, bool]:
    """Return what determines the processes that have the same rows."""
    return is_expert_parallel(parameter), split_dimension(parameter) == 0


def local_rows(parameter: nn.Parameter, whole: Rows, mesh: Mesh) -> Rows:
    """Return a function that gives rows of this process's part from rows of the ``whole``."""
    dimension, offset = split_dimension(parameter), first_row(parameter, mesh)

    def rows(first: int, last: int) -> Tensor:
        whole_width = whole(offset + first, offset + last)
        return whole_width.chunk(mesh.tensor, dim=dimension)[mesh.tensor_rank] if dimension else whole_width

    return rows


def whole_rows(parameter: nn.Parameter, local: Tensor, mesh: Mesh) -> Tensor:
    """Join rows that are split within a row over the tensor-parallel group; a collective of that group."""
    dimension = split_dimension(parameter)
    # Values that are kept on the host are sent from the device.
    return all_gather(local.to(mesh.device), dimension, mesh.tensor_group, mesh.tensor) if dimension else local


def gather(parameter: nn.Parameter, local: Tensor, mesh: Mesh) -> Tensor:
    """Join the parts of all processes, experts included; a collective.

    Args:
        local: a value of the shape of this process's part, for example its gradient.
    """
    rows = whole_rows(parameter, local.to(mesh.device), mesh)
    if is_expert_parallel(parameter):
        return all_gather(rows, 0, mesh.expert_group, mesh.expert)
    return all_gather(rows, 0, mesh.tensor_group, mesh.tensor) if split_dimension(parameter) == 0 else rows


def all_gather(part: Tensor, dimension: int, group: Any, processes: int) -> Tensor:
    """Join the parts of the processes of a group along ``dimension``; a collective."""
    parts = [torch.empty_like(part) for _ in range(processes)]
    torch.distributed.all_gather(parts, part.contiguous(), group=group)
    return torch.cat(parts, dim=dimension)
