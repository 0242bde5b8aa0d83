"""Expert parallelism (GShard, Lepikhin et al. 2021, section 2.2) with DeepSpeed's and megatron-core's collectives.

Each process has some of a layer's experts, and of each of those its tensor-parallel part of the inner width. Shape
suffixes as in ``pretrain/layers/experts.py``.
"""

from typing import Any, cast

from megatron.core.tensor_parallel import (
    copy_to_tensor_model_parallel_region,
    reduce_from_tensor_model_parallel_region,
)
from torch import Tensor, nn

from sesame.configs.errors import ConfigError
from sesame.pretrain.layers.experts import Experts, TokenDispatcher
from sesame.pretrain.layers.style import Style
from sesame.pretrain.parallel.deepspeed_api import AllToAll, MoE
from sesame.pretrain.parallel.mesh import Mesh

SPLIT_DIMENSIONS = {"up": 2, "gate": 2, "down": 1}
"""Parameter -> the dimension that is the inner width F."""


class LocalExperts(Experts):
    """This process's experts: states [E / expert, C, D] -> the same shape."""

    def __init__(self, whole: Experts, mesh: Mesh):
        """
        Raises:
            ConfigError: the number of experts is not divisible by ``parallel.expert``.
        """
        if whole.experts % mesh.expert:
            raise ConfigError(
                f"parallel.expert {mesh.expert} does not divide the {whole.experts} experts of a layer; choose a "
                "divisor, or change model.experts"
            )
        width, inner = whole.up.shape[1], whole.feed_forward_width // mesh.tensor
        super().__init__(whole.experts // mesh.expert, width, inner, Style(gated=whole.gate is not None))
        self.activation = whole.activation
        self.is_tensor_parallel = mesh.tensor > 1
        for name, parameter in self.named_parameters():
            _set_parallel_attributes(parameter, SPLIT_DIMENSIONS[name], mesh)

    def forward(self, states_ECD: Tensor) -> Tensor:
        if not self.is_tensor_parallel:
            return super().forward(states_ECD)
        partial_ECD = super().forward(copy_to_tensor_model_parallel_region(states_ECD))
        return cast(Tensor, reduce_from_tensor_model_parallel_region(partial_ECD))


class AllToAllDispatcher(TokenDispatcher, MoE):
    """Send states to the processes that have their experts, and return the results.

    DeepSpeed recognizes a model with experts by its class ``MoE``.
    """

    def __init__(self, mesh: Mesh):
        nn.Module.__init__(self)
        self.group, self.processes, self.num_experts = mesh.expert_group, mesh.expert, mesh.expert
        self.largest = mesh.largest_of_experts

    def set_deepspeed_parallelism(self, *_: Any, **__: Any) -> None:
        """Do nothing: DeepSpeed lets layers create their groups here; the mesh has created them."""

    def to_experts(self, states_ECD: Tensor) -> Tensor:
        self.capacity = states_ECD.shape[1]
        # The all-to-all needs one capacity for all, and each process computed it from its own number of tokens.
        padded = nn.functional.pad(states_ECD, (0, 0, 0, self.largest(self.capacity) - self.capacity))
        received = self._all_to_all(padded.unflatten(0, (self.processes, -1)))
        return received.transpose(0, 1).flatten(1, 2)

    def to_tokens(self, states_ECD: Tensor) -> Tensor:
        sent = states_ECD.unflatten(1, (self.processes, -1)).transpose(0, 1)
        return self._all_to_all(sent).flatten(0, 1)[:, : self.capacity]

    def _all_to_all(self, parts: Tensor) -> Tensor:
        """[processes, ...]: send part p to process p; part p of the result is from process p."""
        return cast(Tensor, AllToAll.apply(self.group, parts))


def _set_parallel_attributes(parameter: Any, split: int, mesh: Mesh) -> None:
    """Set the attributes from which DeepSpeed and ``placement`` know which processes have the same values."""
    if mesh.tensor > 1:
        parameter.tensor_model_parallel, parameter.partition_dim = True, split
    if mesh.expert > 1:
        parameter.allreduce, parameter.group_name = False, mesh.expert_group_name


def local_experts(whole: Experts, mesh: Mesh) -> nn.Module:
    return LocalExperts(whole, mesh)


def token_dispatcher(plain: TokenDispatcher, mesh: Mesh) -> nn.Module:
    return AllToAllDispatcher(mesh) if mesh.expert > 1 else plain
