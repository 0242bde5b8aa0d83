"""megatron-core's layers with the signatures of the plain ones, and the table from plain to parallel layers."""

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from megatron.core.model_parallel_config import ModelParallelConfig
from megatron.core.tensor_parallel import (
    ColumnParallelLinear,
    RowParallelLinear,
    VocabParallelEmbedding,
    copy_to_tensor_model_parallel_region,
    reduce_from_tensor_model_parallel_region,
    vocab_parallel_cross_entropy,
)
from torch import Tensor, nn

from sesame.pretrain.batch import IGNORED
from sesame.pretrain.layers.attention import CoreAttention
from sesame.pretrain.layers.experts import Experts, TokenDispatcher
from sesame.pretrain.layers.linear import Linear, Product
from sesame.pretrain.layers.positions import RelativePositionBias
from sesame.pretrain.layers.vocabulary import CrossEntropy, VocabularyProjection
from sesame.pretrain.parallel.experts import local_experts, token_dispatcher
from sesame.pretrain.parallel.mesh import Mesh
from sesame.pretrain.parallel.sequence import SplitTokens


class Column(ColumnParallelLinear):
    sums_input_gradient = True
    product: Product | None = None
    """See ``Linear``; None: megatron's."""

    def keep_partial_gradient(self) -> None:
        """Leave the sum of the input's gradient over the processes to the module that made the input."""
        self.allreduce_dgrad, self.disable_grad_reduce = False, True
        self.sums_input_gradient = False

    def forward(self, hidden: Tensor) -> Tensor:  # type: ignore[override]
        if self.product is None and not torch.is_autocast_enabled(hidden.device.type):
            return super().forward(hidden)[0]
        # megatron's backward multiplies in the precision of the weights on a CPU, whatever the forward pass did.
        whole = copy_to_tensor_model_parallel_region(hidden) if self.sums_input_gradient else hidden
        product = self.product or F.linear
        return product(whole, cast(Tensor, self.weight), self.bias)


class Row(RowParallelLinear):
    token_split: tuple[SplitTokens, ...] = ()
    """Under sequence parallelism, the stack that the layer is in; a tuple, because it is no part of the layer."""
    product: Product | None = None

    def forward(self, hidden: Tensor) -> Tensor:  # type: ignore[override]
        is_plain = self.product is None and not self.token_split
        if is_plain and not torch.is_autocast_enabled(hidden.device.type):
            return super().forward(hidden)[0]
        product = self.product or F.linear
        part = product(hidden, cast(Tensor, self.weight), None)
        sum_parts = self.token_split[0].sum_parts if self.token_split else reduce_from_tensor_model_parallel_region
        output = cast(Tensor, sum_parts(part))
        return output if self.bias is None else output + self.bias


class Projection(VocabularyProjection):
    """Compute the logits of this process's rows; gradients of the hidden state are summed in the backward pass."""

    def forward(self, hidden_PD: Tensor, labels_P: Tensor | None = None) -> Tensor:
        return super().forward(copy_to_tensor_model_parallel_region(hidden_PD), labels_P)


class SplitCrossEntropy(CrossEntropy):
    def __init__(self, z_loss: float, mesh: Mesh):
        super().__init__()
        self.z_loss, self.group = z_loss, mesh.tensor_group

    def forward(self, projection: VocabularyProjection, hidden_PD: Tensor, labels_P: Tensor) -> Tensor:
        logits_PV = projection(hidden_PD).float()
        # Before the cross-entropy, which changes the logits.
        is_counted_P = labels_P != IGNORED
        penalty = 0.0
        if self.z_loss_now:
            penalty = self.z_loss_now * (self._log_z(logits_PV)[:, 0].square() * is_counted_P).sum()
        losses_P = vocab_parallel_cross_entropy(logits_PV, labels_P.clamp(min=0))
        return (losses_P * is_counted_P).sum() + penalty

    def _log_z(self, logits_PV: Tensor) -> Tensor:
        """Return the log of the sum of exp(logits) over the whole vocabulary, [P, 1]."""
        largest_P1 = logits_PV.detach().amax(1, keepdim=True)
        torch.distributed.all_reduce(largest_P1, torch.distributed.ReduceOp.MAX, group=self.group)
        sums_P1 = (logits_PV - largest_P1).exp().sum(1, keepdim=True)
        return cast(Tensor, reduce_from_tensor_model_parallel_region(sums_P1)).log() + largest_P1


class PerRankDropout:
    """Dropout of attention weights from a random stream of each process, because processes have different heads.

    All other dropout draws the same numbers in every process of a tensor-parallel group.
    """

    def __init__(self, core: CoreAttention, mesh: Mesh):
        self.core = core
        self.offset = 1 + mesh.tensor_rank
        self.devices = [mesh.device.index] if mesh.device.type == "cuda" else []
        core.register_forward_pre_hook(self.enter)
        core.register_forward_hook(self.leave)

    def enter(self, *_: Any) -> None:
        if self.core.training and self.core.dropout:
            # Drawn from the shared stream, which so advances by the same amount in every process.
            seed = int(torch.randint(2**31, ()))
            self.fork = torch.random.fork_rng(self.devices)
            self.fork.__enter__()
            torch.manual_seed(seed * 1009 + self.offset)

    def leave(self, *_: Any) -> None:
        if self.core.training and self.core.dropout:
            self.fork.__exit__(None, None, None)


def _column(layer: nn.Linear, mesh: Mesh) -> nn.Module:
    column = Column(
        layer.in_features,
        layer.out_features,
        config=_config(mesh),
        init_method=_uninitialized,
        gather_output=False,
        bias=layer.bias is not None,
    )
    return _set_partition_dimensions(column, weight=0, bias=0)


def _row(layer: nn.Linear, mesh: Mesh) -> nn.Module:
    row = Row(
        layer.in_features,
        layer.out_features,
        config=_config(mesh),
        init_method=_uninitialized,
        bias=layer.bias is not None,
        input_is_parallel=True,
        skip_bias_add=False,
    )
    return _set_partition_dimensions(row, weight=1)


def _embedding(layer: nn.Embedding, mesh: Mesh) -> nn.Module:
    shape = (layer.num_embeddings, layer.embedding_dim)
    return _set_partition_dimensions(
        VocabParallelEmbedding(*shape, init_method=_uninitialized, config=_config(mesh)), weight=0
    )


def _projection(layer: VocabularyProjection, mesh: Mesh) -> nn.Module:
    rows, width = layer.weight.shape
    split = Projection(rows // mesh.tensor, width, bias=layer.bias is not None, scale=layer.scale)
    return _set_partition_dimensions(split, weight=0, bias=0)


def _position_bias(layer: RelativePositionBias, mesh: Mesh) -> nn.Module:
    heads = layer.heads // mesh.tensor
    return _set_partition_dimensions(
        RelativePositionBias(layer.buckets, layer.longest_distance, heads, layer.bidirectional), weight=1
    )


def _cross_entropy(whole: CrossEntropy, mesh: Mesh) -> nn.Module:
    return SplitCrossEntropy(whole.z_loss, mesh)


def _core(core: CoreAttention, mesh: Mesh) -> nn.Module:
    PerRankDropout(core, mesh)
    return core


PARALLEL_LAYERS: dict[tuple[str, type[nn.Module]], Callable[[Any, Mesh], nn.Module]] = {
    ("column", Linear): _column,
    ("column", nn.Linear): _column,
    ("row", Linear): _row,
    ("row", nn.Linear): _row,
    ("vocabulary", nn.Embedding): _embedding,
    ("vocabulary", VocabularyProjection): _projection,
    ("vocabulary", CrossEntropy): _cross_entropy,
    ("heads", CoreAttention): _core,
    ("heads", RelativePositionBias): _position_bias,
    ("experts", Experts): local_experts,
    ("experts", TokenDispatcher): token_dispatcher,
}
"""(style in the SHARDING table, class of the plain layer) -> function that makes its parallel layer."""


def _set_partition_dimensions(module: nn.Module, **dimensions: int) -> nn.Module:
    """Set the attributes of split parameters: without them DeepSpeed's gradient norm silently counts one process's
    part only."""
    for name, parameter in module.named_parameters(recurse=False):
        parameter.tensor_model_parallel = name in dimensions  # type: ignore[attr-defined]
        parameter.partition_dim = dimensions.get(name)  # type: ignore[attr-defined]
    return module


def _config(mesh: Mesh) -> ModelParallelConfig:
    return ModelParallelConfig(
        tensor_model_parallel_size=mesh.tensor,
        # Otherwise megatron would allocate each layer on the GPU, although it is built on the meta device.
        use_cpu_initialization=True,
        perform_initialization=False,
        gradient_accumulation_fusion=False,
    )


def _uninitialized(weight: Tensor) -> Tensor:
    return weight
