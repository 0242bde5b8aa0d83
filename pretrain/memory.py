"""Whether a model can be held at all, before anything is allocated."""

import os
from collections.abc import Callable, Mapping

import torch

from configs.errors import ConfigError
from pretrain.learner import Learner, build
from pretrain.models.family import ModelConfig, Vocabulary, on_meta_device


def build_within_memory(
    model: ModelConfig, objectives: Mapping[str, float], vocabulary: Vocabulary, moments: int, device: torch.device
) -> Learner:
    """Build the learner on the meta device.

    Args:
        moments: of the optimizer, for each parameter.
        device: where this process will hold its part.

    Raises:
        ConfigError: not even the fp32 weights and the moments fit into the memory of the processes' devices.
    """
    with on_meta_device():
        learner = build(model, objectives, vocabulary)
    entries = sum(parameter.numel() for parameter in learner.parameters())
    world, here = int(os.environ.get("WORLD_SIZE", "1")), 1
    if device.type == "cpu":
        here = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    needed, there = entries * 4 * (1 + moments) / world * here, MEMORY[device.type](device)
    if needed > there:
        raise ConfigError(
            f"[model]: {entries:,} parameters need at least {needed / 1e9:,.1f} GB {WHERE[device.type]} for weights "
            f"and optimizer state, where there are {there / 1e9:,.1f}; lower its sizes or start more processes"
        )
    return learner


def _of_machine(device: torch.device) -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _of_gpu(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).total_memory


MEMORY: dict[str, Callable[[torch.device], int]] = {"cpu": _of_machine, "cuda": _of_gpu}
"""Bytes of a device, by its type."""
WHERE = {"cpu": "on each machine", "cuda": "on each GPU"}
