"""Prepare a learner for the processes and the device of a run."""

import torch

from sesame.configs.errors import ConfigError
from sesame.pretrain.initialization import materialise
from sesame.pretrain.learner import Trainable
from sesame.pretrain.parallel.compiled import compile_blocks
from sesame.pretrain.parallel.config import ParallelConfig
from sesame.pretrain.parallel.fp8 import use_fp8
from sesame.pretrain.parallel.mesh import Mesh
from sesame.pretrain.parallel.placement import full_shape
from sesame.pretrain.parallel.recompute import recompute_parts
from sesame.pretrain.parallel.sequence import split_tokens, sum_partial_gradients
from sesame.pretrain.parallel.tensor import shard


def parallelize(learner: Trainable, family: str, parallel: ParallelConfig, mesh: Mesh) -> dict[str, torch.Size]:
    """Split a learner over processes, wrap its blocks and allocate it with zeros.

    Args:
        learner: on the meta device.
        family: of its model.

    Returns:
        The whole shape of every parameter, by name.

    Raises:
        ConfigError: the model has no blocks that could be recomputed or compiled.
    """
    shard(learner, mesh)
    changes = {
        "sequence": (
            parallel.sequence,
            lambda: split_tokens(learner, mesh.token_group, gathers_again=parallel.recompute != "block"),
        ),
        "fp8": (parallel.fp8, lambda: use_fp8(learner)),
        "compile": (parallel.compile, lambda: compile_blocks(learner, mesh.device)),
        "recompute": (parallel.recompute != "none", lambda: recompute_parts(learner, parallel.recompute)),
    }
    for setting, (is_set, change) in changes.items():
        if is_set and not change():
            raise ConfigError(f"parallel.{setting}: model.family '{family}' has no Transformer blocks; remove it")
    shapes = {name: full_shape(parameter, mesh) for name, parameter in learner.named_parameters()}
    # Zeros: the values are set after the engine has made its fp32 copy, which it would make of rounded ones.
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[parallel.precision]
    materialise(learner, lambda name, parameter: torch.zeros(parameter.shape, dtype=dtype, device=mesh.device))
    learner.to(mesh.device)
    if parallel.sequence:
        sum_partial_gradients(learner, mesh.token_group)
    return shapes
