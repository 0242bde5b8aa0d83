"""Experts spread over processes (GShard, Lepikhin et al. 2021, section 2.2), of DeepSpeed's and megatron-core's parts.

Each process holds some of a layer's experts, and of each of those its tensor-parallel part of the inner width.
"""

from typing import Any, cast

import torch
from deepspeed.moe.layer import MoE
from deepspeed.moe.sharded_moe import _AllToAll
from megatron.core.tensor_parallel import (
    copy_to_tensor_model_parallel_region,
    reduce_from_tensor_model_parallel_region,
)
from torch import Tensor, nn

from configs.errors import ConfigError
from pretrain.layers.experts import Experts, TokenDispatcher
from pretrain.layers.style import Style
from pretrain.parallel.mesh import Mesh

SPLIT = {"up": 2, "gate": 2, "down": 1}
"""Dimension of each tensor that is the inner width F."""


class LocalExperts(Experts):
    """This process's experts: states [E / expert, C, D] -> the same shape."""

    def __init__(self, whole: Experts, mesh: Mesh):
        """
        Raises:
            ConfigError: the experts do not divide by ``parallel.expert``.
        """
        if whole.experts % mesh.expert:
            raise ConfigError(
                f"parallel.expert {mesh.expert} does not divide the {whole.experts} experts of a layer; choose a "
                "divisor, or change model.experts"
            )
        width, inner = whole.up.shape[1], whole.feed_forward_width // mesh.tensor
        super().__init__(whole.experts // mesh.expert, width, inner, Style(gated=whole.gate is not None))
        self.activation = whole.activation
        self.splits = mesh.tensor > 1
        for name, parameter in self.named_parameters():
            _mark(parameter, SPLIT[name], mesh)

    def forward(self, states_ECD: Tensor) -> Tensor:
        if not self.splits:
            return super().forward(states_ECD)
        partial_ECD = super().forward(copy_to_tensor_model_parallel_region(states_ECD))
        return cast(Tensor, reduce_from_tensor_model_parallel_region(partial_ECD))


class AllToAll(TokenDispatcher, MoE):
    """States go to the processes that hold their experts, and come back. By the class ``MoE`` DeepSpeed knows that a
    model has experts."""

    def __init__(self, mesh: Mesh):
        nn.Module.__init__(self)
        self.group, self.processes, self.num_experts = mesh.expert_group, mesh.expert, mesh.expert

    def set_deepspeed_parallelism(self, *_: Any, **__: Any) -> None:
        """DeepSpeed asks every layer to make its groups; the mesh has made them."""

    def to_experts(self, states_ECD: Tensor) -> Tensor:
        capacity = states_ECD.shape[1]
        largest = torch.tensor(capacity, device=states_ECD.device)
        # A process has a place for each of its own tokens only, and batches differ in them.
        torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX, group=self.group)
        self.capacity = capacity
        padded = nn.functional.pad(states_ECD, (0, 0, 0, int(largest) - capacity))
        received = self._swapped(padded.unflatten(0, (self.processes, -1)))
        return received.transpose(0, 1).flatten(1, 2)

    def to_tokens(self, states_ECD: Tensor) -> Tensor:
        sent = states_ECD.unflatten(1, (self.processes, -1)).transpose(0, 1)
        return self._swapped(sent).flatten(0, 1)[:, : self.capacity]

    def _swapped(self, parts: Tensor) -> Tensor:
        """[processes, ...]: part p goes to process p, and part p of the result is from there."""
        return cast(Tensor, _AllToAll.apply(self.group, parts))


def _mark(parameter: Any, split: int, mesh: Mesh) -> None:
    """Say to DeepSpeed, which averages and counts by these marks, which processes hold the same values."""
    if mesh.tensor > 1:
        parameter.tensor_model_parallel, parameter.partition_dim = True, split
    if mesh.expert > 1:
        parameter.allreduce, parameter.group_name = False, mesh.expert_group_name


def local_experts(whole: Experts, mesh: Mesh) -> nn.Module:
    return LocalExperts(whole, mesh)


def exchange(plain: TokenDispatcher, mesh: Mesh) -> nn.Module:
    return AllToAll(mesh) if mesh.expert > 1 else plain
