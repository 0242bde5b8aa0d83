"""Optimizer and schedule of fine-tuning: AdamW with layer-wise rates, a warm-up and a decay."""

import math
import re
from typing import Any

import numpy as np
from torch import nn

from sesame.evaluation.finetune_config import FinetuneConfig
from sesame.pretrain.optimizers import parameter_groups
from sesame.pretrain.optimizers.config import OptimizerConfig
from sesame.pretrain.optimizers.uncompiled import AdamW, keep_compiler_unloaded
from sesame.pretrain.schedule import ScheduleConfig

NUMBERED = re.compile(r"\b\w*(?:blocks|layers)\.(\d+)\.")
"""A layer of a stack. The one block that ALBERT repeats is none: it is layer 0."""
SHARED = re.compile(r"\bblock\.")
TOP_NORM = re.compile(r"\b(?:final|encoder|decoder)_norm\.")
HEAD = "head."


def steps_of(config: FinetuneConfig, rows: int) -> int:
    """Return the number of optimizer steps for so many training rows."""
    return config.steps if config.steps is not None else math.ceil(rows / config.batch_size) * config.epochs


def schedule_of(config: FinetuneConfig, steps: int) -> ScheduleConfig:
    """Return the learning rate over ``steps``, as a share of its peak."""
    warmup = config.warmup_steps if config.warmup_steps is not None else round(config.warmup_fraction * steps)
    return ScheduleConfig(warmup_steps=warmup, decay=config.decay)


def adamw(model: nn.Module, config: FinetuneConfig) -> AdamW:
    """Return AdamW for :func:`groups_of` a model."""
    groups = groups_of(model, config)
    keep_compiler_unloaded()
    return AdamW(groups, config.learning_rate, config.betas, config.epsilon, fused=True)


def adamw_config(config: FinetuneConfig) -> OptimizerConfig:
    """Return the same optimizer as pretraining's section [optimizer]."""
    return OptimizerConfig(
        name="adamw",
        learning_rate=config.learning_rate,
        betas=config.betas,
        epsilon=config.epsilon,
        weight_decay=config.weight_decay,
        gradient_clipping=config.gradient_clipping,
    )


def groups_of(model: nn.Module, config: FinetuneConfig) -> list[dict[str, Any]]:
    """Return parameter groups with their weight decay and their ``share`` of the learning rate."""
    groups = layer_groups(model, config) if config.layer_decay < 1 else parameter_groups(model, _decay(config))
    for group in groups:
        group.setdefault("share", 1.0)
        if config.decay_vectors:
            group["weight_decay"] = _decay(config)
    return groups


def layer_groups(model: nn.Module, config: FinetuneConfig) -> list[dict[str, Any]]:
    """Return two parameter groups for each depth, matrices and vectors, with rates that fall towards the embeddings.

    The share of a layer is ``layer_decay`` to the power of layers + 2 - depth, where embeddings have depth 0, layer i
    (from 0) has i + 1 and the head has layers + 2 (Clark et al. 2020, ELECTRA, published code).
    """
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    layers = 1 + max((int(found[1]) for name, _ in named if (found := NUMBERED.search(name))), default=0)
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in named:
        depth, is_matrix = depth_of(name, layers), len(parameter.shape) > 1
        share = config.layer_decay ** (layers + 2 - depth)
        decay = _decay(config) if is_matrix else 0.0
        empty: dict[str, Any] = {"params": [], "share": share, "weight_decay": decay}
        groups.setdefault((depth, is_matrix), empty)["params"].append(parameter)
    return list(groups.values())


def depth_of(name: str, layers: int) -> int:
    """Return the depth of a parameter of a :class:`TaskModel` by its name."""
    if name.startswith(HEAD):
        return layers + 2
    if found := NUMBERED.search(name):
        return int(found[1]) + 1
    if SHARED.search(name):
        return 1
    return layers if TOP_NORM.search(name) else 0


def epochs_of(config: FinetuneConfig, rows: int) -> int:
    """Return the number of epochs, of which the last may be cut short by ``config.steps``."""
    return int(np.ceil(steps_of(config, rows) / math.ceil(rows / config.batch_size)))


def _decay(config: FinetuneConfig) -> float:
    # torch multiplies by the learning rate of the step; composer's DecoupledAdamW by its share of the peak.
    return config.weight_decay / (config.learning_rate if config.weight_decay_times == "schedule" else 1.0)
