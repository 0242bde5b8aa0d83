"""megatron-core's layers behind the signatures of the plain ones, and the table that swaps them."""

from collections.abc import Callable
from typing import Any

import torch
from megatron.core.model_parallel_config import ModelParallelConfig
from megatron.core.tensor_parallel import (
    ColumnParallelLinear,
    RowParallelLinear,
    VocabParallelEmbedding,
    copy_to_tensor_model_parallel_region,
    vocab_parallel_cross_entropy,
)
from torch import Tensor, nn

from pretrain.layers.attention import CoreAttention
from pretrain.layers.experts import Experts, TokenDispatcher
from pretrain.layers.positions import RelativePositionBias
from pretrain.layers.vocabulary import CrossEntropy, VocabularyProjection
from pretrain.parallel.experts import exchange, local_experts
from pretrain.parallel.mesh import Mesh


class Column(ColumnParallelLinear):
    def forward(self, hidden: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(hidden)[0]


class Row(RowParallelLinear):
    def forward(self, hidden: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(hidden)[0]


class Projection(VocabularyProjection):
    """Each process computes the logits of its own rows; gradients of the hidden state are summed on the way back."""

    def forward(self, hidden_PD: Tensor) -> Tensor:
        return super().forward(copy_to_tensor_model_parallel_region(hidden_PD))


class SplitCrossEntropy(CrossEntropy):
    def forward(self, logits_PV: Tensor, labels_P: Tensor) -> Tensor:
        return vocab_parallel_cross_entropy(logits_PV.float(), labels_P).sum()


class PerRankDropout:
    """Processes hold different heads, so their dropout must differ, while all else draws the same everywhere."""

    def __init__(self, core: CoreAttention, mesh: Mesh):
        self.core = core
        self.offset = 1 + mesh.tensor_rank
        self.devices = [mesh.device.index] if mesh.device.type == "cuda" else []
        core.register_forward_pre_hook(self.enter)
        core.register_forward_hook(self.leave)

    def enter(self, *_: Any) -> None:
        if self.core.training and self.core.dropout:
            # The shared stream moves on by this draw, by the same in every process.
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
        init_method=_keep,
        gather_output=False,
        bias=layer.bias is not None,
    )
    return _marked(column, weight=0, bias=0)


def _row(layer: nn.Linear, mesh: Mesh) -> nn.Module:
    row = Row(
        layer.in_features,
        layer.out_features,
        config=_config(mesh),
        init_method=_keep,
        bias=layer.bias is not None,
        input_is_parallel=True,
        skip_bias_add=False,
    )
    return _marked(row, weight=1)


def _embedding(layer: nn.Embedding, mesh: Mesh) -> nn.Module:
    shape = (layer.num_embeddings, layer.embedding_dim)
    return _marked(VocabParallelEmbedding(*shape, init_method=_keep, config=_config(mesh)), weight=0)


def _projection(layer: VocabularyProjection, mesh: Mesh) -> nn.Module:
    rows, width = layer.weight.shape
    split = Projection(rows // mesh.tensor, width, bias=layer.bias is not None, scale=layer.scale)
    return _marked(split, weight=0, bias=0)


def _position_bias(layer: RelativePositionBias, mesh: Mesh) -> nn.Module:
    heads = layer.heads // mesh.tensor
    return _marked(RelativePositionBias(layer.buckets, layer.longest_distance, heads, layer.bidirectional), weight=1)


def _cross_entropy(_: CrossEntropy, __: Mesh) -> nn.Module:
    return SplitCrossEntropy()


def _core(core: CoreAttention, mesh: Mesh) -> nn.Module:
    PerRankDropout(core, mesh)
    return core


SWAPS: dict[tuple[str, type[nn.Module]], Callable[[Any, Mesh], nn.Module]] = {
    ("column", nn.Linear): _column,
    ("row", nn.Linear): _row,
    ("vocabulary", nn.Embedding): _embedding,
    ("vocabulary", VocabularyProjection): _projection,
    ("vocabulary", CrossEntropy): _cross_entropy,
    ("heads", CoreAttention): _core,
    ("heads", RelativePositionBias): _position_bias,
    ("experts", Experts): local_experts,
    ("experts", TokenDispatcher): exchange,
}
"""(word of the plan, plain layer) -> the layer that takes its place."""


def _marked(module: nn.Module, **dimensions: int) -> nn.Module:
    """Mark split parameters: without the mark DeepSpeed's gradient norm counts one process's part, silently."""
    for name, parameter in module.named_parameters(recurse=False):
        parameter.tensor_model_parallel = name in dimensions  # type: ignore[attr-defined]
        parameter.partition_dim = dimensions.get(name)  # type: ignore[attr-defined]
    return module


def _config(mesh: Mesh) -> ModelParallelConfig:
    return ModelParallelConfig(
        tensor_model_parallel_size=mesh.tensor,
        # Layers are made on the meta device; else megatron would take memory of the GPU for each of them.
        use_cpu_initialization=True,
        perform_initialization=False,
        gradient_accumulation_fusion=False,
    )


def _keep(weight: Tensor) -> Tensor:
    return weight
