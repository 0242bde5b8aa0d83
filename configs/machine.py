"""``machine.json``: the speeds of a machine, which ``sesame doctor`` measures and ``sesame plan`` reads."""

import json
import platform
from pathlib import Path
from typing import Literal

from pydantic import Field

from sesame import configs
from sesame.configs import Section
from sesame.configs.errors import ConfigError
from sesame.configs.storage import write_text
from sesame.configs.strict_json import read_json_object

IMMEASURABLE = 1e15
"""Bytes or operations per second from which on they took no time that could be told from that of the rest."""


def processor(path: Path = Path("/proc/cpuinfo")) -> str:
    """Return the name of this machine's processor, as ``lscpu`` shows it."""
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


class Products(Section):
    """Speed of matrix products, in floating-point operations per second."""

    fp32: float = Field(gt=0, allow_inf_nan=False)
    bf16: float = Field(gt=0, allow_inf_nan=False)


class Layers(Section):
    """Speed of a model's layers in the sizes of a training, in one precision; see ``doctor/layers.py``."""

    flops: float = Field(gt=0, allow_inf_nan=False)
    """Floating-point operations of matrix products per second, without the time of their operands."""
    operand_bandwidth: float = Field(gt=0, allow_inf_nan=False)
    """Bytes per second of the operands and results of products."""
    bandwidth: float = Field(gt=0, allow_inf_nan=False)
    """Bytes per second of all other operations."""
    function_seconds: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """For each entry of GELU, softmax and dropout, beyond the time of its bytes."""
    operation_seconds: float = Field(ge=0, allow_inf_nan=False)
    """To start an operation."""
    new_product_seconds: float = Field(ge=0, allow_inf_nan=False)
    """By how much longer a product takes if none of its size was computed before."""


class Device(Section):
    """What one process computes on: a GPU, or a share of the cores of a machine."""

    name: str
    type: Literal["cpu", "cuda"]
    memory_bytes: int = Field(gt=0)
    products: Products
    memory_bandwidth: float = Field(gt=0, allow_inf_nan=False)
    """Bytes read and written per second by a copy, while the other processes copy as well."""
    cores: int = Field(gt=0)
    """Of the CPU, for this process."""
    layers: dict[str, Layers] = Field(default_factory=dict)
    """By precision; empty for a GPU."""


class Training(Section):
    """The training self-test: all processes together, in steps after the first ones."""

    tokens_per_second: float = Field(gt=0, allow_inf_nan=False)
    flops_per_second: float = Field(gt=0, allow_inf_nan=False)
    """Of the model: forward and backward, without communication or the optimizer."""
    precision: str


class Machine(Section):
    """The processes of a machine, or of several, and what they reach."""

    format: Literal[1] = 1
    devices: tuple[Device, ...] = Field(min_length=1)
    """In order of the processes."""
    reduction_bandwidth: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Bytes per second of an all-reduce over the processes of one machine: size of the tensor divided by the time;
    None if each machine has one process."""
    training: Training | None = None

    @classmethod
    def load(cls, path: Path) -> "Machine":
        """Read a file that ``save`` wrote.

        Raises:
            ConfigError: it is missing, damaged or of another format.
        """
        advice = f"write it with `sesame doctor --output {path}`"
        values = read_json_object(path, ConfigError, advice)
        if values.get("format") != 1:
            raise ConfigError(f"{path}: is no machine.json of format 1; {advice}")
        return configs.parse(values, cls, str(path))

    def save(self, path: Path) -> None:
        """Write the file, atomically; its folder is made if it is missing."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(configs.dump(self), indent=1) + "\n")
