"""Replace plain layers by megatron-core's tensor-parallel ones, by a SHARDING table (Megatron-LM, section 3).

| style      | layer                | split                                                             |
|------------|----------------------|-------------------------------------------------------------------|
| column     | nn.Linear            | output columns; the next layer gets this process's part only      |
| row        | nn.Linear            | input rows; partial results are summed                            |
| vocabulary | nn.Embedding         | rows of the table                                                 |
| vocabulary | VocabularyProjection | logits of this process's part of the vocabulary                   |
| vocabulary | CrossEntropy         | the loss over logits that are split in that way                   |
| heads      | CoreAttention        | no weights; its dropout differs from process to process           |
| heads      | RelativePositionBias | columns of the table                                              |
| experts    | Experts              | inner width of each expert; over parallel.expert whole experts    |
| experts    | TokenDispatcher      | no weights; over parallel.expert it sends states to the experts   |
"""

import fnmatch

import torch
from torch import nn

from sesame.configs.errors import ConfigError
from sesame.pretrain.learner import Trainable
from sesame.pretrain.parallel.mesh import Mesh

SPLIT_SIZES = {
    "column": "out_features",
    "row": "in_features",
    "vocabulary": "num_embeddings",
    "heads": "heads",
    "experts": "feed_forward_width",
}
"""Style -> attribute of a layer with the size that is split."""


def shard(learner: Trainable, mesh: Mesh) -> None:
    """Replace the layers of ``learner`` (on the meta device) in place; with one process for both splits do nothing.

    Raises:
        ConfigError: the size of a layer is not divisible by the number of processes that split it, or the model cannot
            be split.
    """
    if mesh.tensor > 1 and learner.backbone.unsplittable:
        raise ConfigError(
            f"parallel.tensor is {mesh.tensor}, but {learner.backbone.unsplittable}; set it to 1, or remove them"
        )
    table = [(pattern, style) for pattern, style in learner.sharding() if mesh.tensor > 1 or style == "experts"]
    if mesh.expert > 1 and all(style != "experts" for _, style in table):
        raise ConfigError(f"parallel.expert is {mesh.expert}, but this model has no experts; set it to 1")
    if mesh.tensor == mesh.expert == 1:
        return
    from sesame.pretrain.parallel.tensor_layers import PARALLEL_LAYERS

    for pattern, style in table:
        for name, module in list(learner.named_modules()):
            if fnmatch.fnmatchcase(name, pattern):
                _check_divisible(name, style, module, mesh.tensor)
                with torch.device("meta"):
                    _replace(learner, name, PARALLEL_LAYERS[style, type(module)](module, mesh))
    learner.tie()


def _check_divisible(name: str, style: str, module: nn.Module, processes: int) -> None:
    size = getattr(module, SPLIT_SIZES[style], None)
    if size is not None and size % processes:
        setting = (
            "model.vocabulary_multiple, which pads the vocabulary" if style == "vocabulary" else "the model's shape"
        )
        raise ConfigError(
            f"parallel.tensor {processes} does not divide the {SPLIT_SIZES[style]} {size} of {name}; choose a divisor, "
            f"or change {setting}"
        )


def _replace(root: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(root.get_submodule(parent), leaf, module)
