"""Apply a SHARDING plan: swap plain layers for megatron-core's tensor-parallel ones (Megatron-LM, section 3).

| word       | layer                | split                                                         |
|------------|----------------------|---------------------------------------------------------------|
| column     | nn.Linear            | output columns; what follows sees its part only               |
| row        | nn.Linear            | input rows; partial results are summed                        |
| vocabulary | nn.Embedding         | rows of the table                                             |
| vocabulary | VocabularyProjection | logits of this process's part of the vocabulary               |
| vocabulary | CrossEntropy         | the loss over logits that are split so                        |
| heads      | CoreAttention        | nothing to swap; its dropout differs from process to process  |
| heads      | RelativePositionBias | columns of the table                                          |
| experts    | Experts              | inner width of each expert; over parallel.expert whole ones   |
| experts    | TokenDispatcher             | nothing; over parallel.expert it sends states to the experts  |
"""

import fnmatch
from typing import Any

import torch
from torch import Tensor, nn

from configs.errors import ConfigError
from pretrain.initialization import Rows
from pretrain.learner import Learner
from pretrain.parallel.mesh import Mesh

COUNTED = {
    "column": "out_features",
    "row": "in_features",
    "vocabulary": "num_embeddings",
    "heads": "heads",
    "experts": "feed_forward_width",
}
"""What a word splits, by the attribute that counts it."""


def shard(learner: Learner, mesh: Mesh) -> None:
    """Swap the layers of ``learner`` (on the meta device) in place; where nothing is to be split change nothing.

    Raises:
        ConfigError: a layer does not divide by the number of processes that are to split it.
    """
    plan = [(pattern, word) for pattern, word in learner.sharding() if mesh.tensor > 1 or word == "experts"]
    if mesh.expert > 1 and all(word != "experts" for _, word in plan):
        raise ConfigError(f"parallel.expert is {mesh.expert}, but this model has no experts; set it to 1")
    if mesh.tensor == mesh.expert == 1:
        return
    from pretrain.parallel.tensor_layers import SWAPS

    for pattern, word in plan:
        for name, module in list(learner.named_modules()):
            if fnmatch.fnmatchcase(name, pattern):
                _check_divides(name, word, module, mesh.tensor)
                with torch.device("meta"):
                    _replace(learner, name, SWAPS[word, type(module)](module, mesh))
    learner.tie()


def split_dimension(parameter: nn.Parameter) -> int | None:
    """Dimension that is split over the tensor-parallel group, or None where every process has the whole."""
    return getattr(parameter, "partition_dim", None) if getattr(parameter, "tensor_model_parallel", False) else None


def is_expert_parallel(parameter: nn.Parameter) -> bool:
    """Whether ``parameter`` holds this process's experts only (its first dimension), which others do not have."""
    return not getattr(parameter, "allreduce", True)


def local_shape(parameter: nn.Parameter) -> torch.Size:
    """Shape of this process's part before ZeRO cut it up; stage 3 keeps it in ds_shape."""
    return torch.Size(getattr(parameter, "ds_shape", parameter.shape))


def full_shape(parameter: nn.Parameter, mesh: Mesh) -> torch.Size:
    """Shape of the whole of which ``parameter`` is this process's part."""
    shape = list(local_shape(parameter))
    dimension = split_dimension(parameter)
    if dimension is not None:
        shape[dimension] *= mesh.tensor
    if is_expert_parallel(parameter):
        shape[0] *= mesh.expert
    return torch.Size(shape)


def first_row(parameter: nn.Parameter, mesh: Mesh) -> int:
    """Which row of the whole is the first that this process has; 0 where all processes have the same rows."""
    rows = local_shape(parameter)[0]
    if is_expert_parallel(parameter):
        return mesh.expert_rank * rows
    return mesh.tensor_rank * rows if split_dimension(parameter) == 0 else 0


def replicas(parameter: nn.Parameter, mesh: Mesh) -> tuple[int, int]:
    """(this process's number, how many) among those that have the same rows of ``parameter``, or a part of them."""
    if is_expert_parallel(parameter):
        return mesh.data_rank // mesh.expert * mesh.tensor + mesh.tensor_rank, mesh.world // mesh.expert
    return (mesh.data_rank, mesh.data) if split_dimension(parameter) == 0 else (mesh.rank, mesh.world)


def local_rows(parameter: nn.Parameter, whole: Rows, mesh: Mesh) -> Rows:
    """Rows of this process's part from rows of the ``whole``."""
    dimension, before = split_dimension(parameter), first_row(parameter, mesh)

    def rows(first: int, last: int) -> Tensor:
        found = whole(before + first, before + last)
        return found.chunk(mesh.tensor, dim=dimension)[mesh.tensor_rank] if dimension else found

    return rows


def whole_rows(parameter: nn.Parameter, local: Tensor, mesh: Mesh) -> Tensor:
    """Some of this process's rows, of which it has a ``local`` part, whole; a collective of those who split them."""
    dimension = split_dimension(parameter)
    return _joined(local, dimension, mesh.tensor_group, mesh.tensor) if dimension else local


def gather(parameter: nn.Parameter, local: Tensor, mesh: Mesh) -> Tensor:
    """The whole value, experts of all processes included, from every process's ``local`` part; a collective."""
    joined = whole_rows(parameter, local, mesh)
    if is_expert_parallel(parameter):
        return _joined(joined, 0, mesh.expert_group, mesh.expert)
    return _joined(joined, 0, mesh.tensor_group, mesh.tensor) if split_dimension(parameter) == 0 else joined


def _joined(part: Tensor, dimension: int, group: Any, processes: int) -> Tensor:
    parts = [torch.empty_like(part) for _ in range(processes)]
    torch.distributed.all_gather(parts, part.contiguous(), group=group)
    return torch.cat(parts, dim=dimension)


def _check_divides(name: str, word: str, module: nn.Module, processes: int) -> None:
    size = getattr(module, COUNTED[word], None)
    if size is not None and size % processes:
        shape = "model.vocabulary_multiple, which pads the vocabulary" if word == "vocabulary" else "the model's shape"
        raise ConfigError(
            f"parallel.tensor {processes} does not divide the {COUNTED[word]} {size} of {name}; choose a divisor, or "
            f"change {shape}"
        )


def _replace(root: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(root.get_submodule(parent), leaf, module)
