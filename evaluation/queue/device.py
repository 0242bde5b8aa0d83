"""The device of a process, and what it is called in messages and reports."""

from typing import NamedTuple

import torch

from sesame.configs.errors import ConfigError
from sesame.evaluation.results.result import hardware
from sesame.pretrain import precision
from sesame.pretrain.precision import Precision


class Device(NamedTuple):
    """A device as the report names it."""

    type: str
    """ "cpu" or "cuda"."""
    name: str
    precision: Precision
    """That "auto" means on it."""
    hardware: str
    """As results name it."""

    @classmethod
    def of(cls, device: torch.device, threads: int = 0) -> "Device":
        """Describe ``device``; ``threads`` of the CPU are those that torch uses here if it is 0."""
        is_gpu, threads = device.type == "cuda", threads or torch.get_num_threads()
        computed_on = hardware(device)
        name = computed_on if is_gpu else f"the CPU with {threads} threads"
        return cls(device.type, name, precision.of_device(device), computed_on)


def find_device(name: str) -> torch.device:
    """Return the device that ``suite.device`` means in this process.

    Raises:
        ConfigError: it has no GPU.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("suite.device is 'cuda', but torch finds no GPU; use --set suite.device=auto")
    return torch.device("cuda" if torch.cuda.is_available() and name != "cpu" else "cpu")
