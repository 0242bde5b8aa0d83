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
| experts    | Exchange             | nothing; over parallel.expert it sends states to the experts  |
"""

import fnmatch
from typing import Any

import torch
from torch import Tensor, nn

from configs.errors import ConfigError
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


def is_spread(parameter: nn.Parameter) -> bool:
    """Whether ``parameter`` holds this process's experts only (its first dimension), which others do not have."""
    return not getattr(parameter, "allreduce", True)


def full_shape(parameter: nn.Parameter, mesh: Mesh) -> torch.Size:
    """Shape of the whole of which ``parameter`` is this process's part; ZeRO 3 keeps its own shape in ds_shape."""
    shape = list(getattr(parameter, "ds_shape", parameter.shape))
    dimension = split_dimension(parameter)
    if dimension is not None:
        shape[dimension] *= mesh.tensor
    if is_spread(parameter):
        shape[0] *= mesh.expert
    return torch.Size(shape)


def local_part(parameter: nn.Parameter, full: Tensor, mesh: Mesh) -> Tensor:
    """This process's part of the ``full`` value of ``parameter``."""
    if is_spread(parameter):
        full = full.chunk(mesh.expert)[mesh.expert_rank]
    dimension = split_dimension(parameter)
    if dimension is not None:
        full = full.chunk(mesh.tensor, dim=dimension)[mesh.tensor_rank]
    return full.contiguous()


def gather(parameter: nn.Parameter, local: Tensor, mesh: Mesh) -> Tensor:
    """The full value from every process's ``local`` part; a collective over the groups that split it."""
    dimension = split_dimension(parameter)
    if dimension is not None:
        local = _joined(local, dimension, mesh.tensor_group, mesh.tensor)
    return _joined(local, 0, mesh.expert_group, mesh.expert) if is_spread(parameter) else local


def _joined(part: Tensor, dimension: int, group: Any, processes: int) -> Tensor:
    parts = [torch.empty_like(part) for _ in range(processes)]
    torch.distributed.all_gather(parts, part.contiguous(), group=group)
    return torch.cat(parts, dim=dimension)


def _check_divides(name: str, word: str, module: nn.Module, processes: int) -> None:
    size = getattr(module, COUNTED[word], None)
    if size is not None and size % processes:
        raise ConfigError(
            f"parallel.tensor {processes} does not divide the {COUNTED[word]} {size} of {name}; choose a divisor, or "
            "change the model's shape (model.vocabulary_multiple pads the vocabulary)"
        )


def _replace(root: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(root.get_submodule(parent), leaf, module)
