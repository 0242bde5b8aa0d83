"""Check that a model fits into memory before anything is allocated."""

import os
from collections.abc import Callable, Mapping

import torch

from sesame.configs.errors import ConfigError
from sesame.pretrain.learner import Learner, build
from sesame.pretrain.models.family import ModelConfig, Vocabulary, on_meta_device


def build_within_memory(
    model: ModelConfig, objectives: Mapping[str, float], vocabulary: Vocabulary, moments: int, device: torch.device
) -> Learner:
    """Build the learner on the meta device.

    Args:
        moments: number of moments that the optimizer has of each parameter.
        device: device of this process.

    Raises:
        ConfigError: the fp32 weights and the moments alone do not fit into the memory of all processes' devices.
    """
    with on_meta_device():
        learner = build(model, objectives, vocabulary)
    entries = sum(parameter.numel() for parameter in learner.parameters())
    world, sharing = int(os.environ.get("WORLD_SIZE", "1")), 1
    if device.type == "cpu":
        # All processes of a machine share its memory.
        sharing = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    needed, available = entries * 4 * (1 + moments) / world * sharing, MEMORY[device.type](device)
    if needed > available:
        raise ConfigError(
            f"[model]: {entries:,} parameters need at least {needed / 1e9:,.1f} GB {WHERE[device.type]} for weights "
            f"and optimizer state, but {available / 1e9:,.1f} GB are available; lower its sizes or start more processes"
        )
    return learner


def _machine_memory(device: torch.device) -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _gpu_memory(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).total_memory


MEMORY: dict[str, Callable[[torch.device], int]] = {"cpu": _machine_memory, "cuda": _gpu_memory}
"""Memory of a device in bytes, by its type."""
WHERE = {"cpu": "on each machine", "cuda": "on each GPU"}
